"""A file is written as a whole or not at all, whatever stops the writing."""

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qlayer_core.files import alone, write_atomically


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds "old"."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def assert_untouched(path: Path) -> None:
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_new_content_replaces_old(path):
    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        assert path.read_text() == "old"  # who reads now sees the old file
        with temporary.open("a") as file:
            file.write("w")

    write_atomically(path, write)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_the_old_file(error, path):
    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        raise error("stopped")

    with pytest.raises(error, match="stopped"):
        write_atomically(path, write)
    assert_untouched(path)


def test_a_kill_in_the_middle_leaves_the_old_file(path):
    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_atomically(path, write)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_text() == "old"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"


def test_a_full_disk_says_what_to_do_and_leaves_the_old_file(path):
    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        Path("/dev/full").write_text("w")  # every write to it fails as on a full disk

    with pytest.raises(OSError, match=r"could not write .*file: .*No space left.*Free disk space"):
        write_atomically(path, write)
    assert_untouched(path)


def test_writers_of_one_number_do_not_share_a_temporary_file(path):
    """Processes of two containers that share a volume may have the same number."""

    def write(temporary: Path) -> None:
        temporary.write_text("first")
        write_atomically(path, lambda other: other.write_text("second"))
        assert path.read_text() == "second"

    write_atomically(path, write)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("below", ["new", "folder/new"])
def test_a_folder_that_can_not_be_made_says_what_to_do(below, path):
    with pytest.raises(OSError, match=r"could not write .*new: .*Free disk space or mend the folder"):
        write_atomically(path / below, lambda temporary: temporary.write_text("new"))
    assert_untouched(path)


def test_a_lock_that_can_not_be_made_says_what_to_do(path):
    path.write_text("no folder")
    says = r"could not write .*lock: .* mend the folder, .*run the same command again"
    with pytest.raises(OSError, match=says), alone(path / "lock"):
        pass


@pytest.fixture
def no_more_than_a_kilobyte() -> Iterator[None]:
    """The system ends every file at 1,000 bytes: writing fails half-way, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


NUMBERS = {"numbers": torch.zeros(10_000)}
WRITERS = {
    "text": lambda temporary: temporary.write_text("0" * 10_000),
    "checkpoint": lambda temporary: torch.save(NUMBERS, temporary),
    "weights": lambda temporary: save_file(NUMBERS, temporary),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_each_of_our_writers_fails_as_a_whole(write: Callable[[Path], None], path, no_more_than_a_kilobyte):
    with pytest.raises(OSError, match=r"could not write .*Free disk space .*run the same command again"):
        write_atomically(path, write)
    assert_untouched(path)


def test_one_at_a_time_passes_and_an_error_lets_the_next_one_through(tmp_path):
    lock, order, inside = tmp_path / "a" / "lock", [], threading.Event()

    def second() -> None:
        inside.wait()
        with alone(lock):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with pytest.raises(KeyError), alone(lock):
        inside.set()
        other.join(0.2)
        order.append("first")
        raise KeyError
    other.join(10)
    assert order == ["first", "second"]
