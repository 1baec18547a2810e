"""Where things lie on disk, relative to the package and never to the working folder; and writing them whole."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RESULTS = DATA / "results"  # committed: one JSON file per trained model
WEIGHTS = DATA / "weights"  # committed: weights of the models that chapters load
BENCHMARKS = ROOT / "benchmarks"  # its results are committed
RUNS = ROOT / "runs"  # ignored: checkpoints of runs under way, all weights, cached adversarial images

NO_COPIES = "every seed*.json among the results counts as one, so keep copies elsewhere"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    Whatever stops the writing, a full disk or a kill, ``path`` keeps its old content or has all of the new.

    Raises:
        OSError: the file can't be written, with what to do; the temporary file is removed.
    """
    # Drawn, since containers that share a volume number their processes alike.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("r+b") as file:  # Windows flushes writable descriptors only
            os.fsync(file.fileno())  # the rename must not reach the disk before the content
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        raise _unwritten(path, error) from error
    finally:
        with suppress(OSError):  # it is in its place, or its folder can't be made or entered
            temporary.unlink()


def _unwritten(path: Path, error: Exception) -> OSError:
    return OSError(
        f"could not write {path}: {error}. Free disk space or mend the folder, which must be one and let you write,"
        " then run the same command again; it continues from the last finished epoch or attack."
    )


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as JSON, whole or not at all: see `write_atomically`."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path, **options) -> dict:
    """Return the JSON object in a file; ``options`` are those of `json.loads`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(), **options)
    except ValueError as error:  # of JSON, or of bytes that are no text
        raise ValueError(f"{path} is damaged ({error}): restore it from the repository") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (it holds no JSON object): restore it from the repository")
    return content


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time through, by a lock on ``path``, which is made and stays; the others wait.

    A process that dies lets go. Where the platform or the file system knows no such locks, all pass.

    Raises:
        OSError: the file can't be made, with what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a")
    except OSError as error:
        raise _unwritten(path, error) from error
    with opened as file:
        if fcntl:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go


def seed_of(path: Path) -> int:
    """Return the seed that a file among the results is named after.

    Raises:
        ValueError: it has another name, as a copy has.
    """
    if not (number := path.stem.removeprefix("seed")).isdecimal():
        raise ValueError(f"{path} is not named after a seed, as seed0.json is: {NO_COPIES}")
    return int(number)


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
