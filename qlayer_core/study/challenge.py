"""Break it yourself: six defended networks, and a grader for the reader's own attack.

An attack is a function ``attack(network, images, labels, eps) -> images``, like those of `attacks`. The grader gives
it images that the reader has not practised on, checks what comes back, and scores it on a network of its own:

    result = grade(TASKS[0], my_attack, name="Ada")
    print(result)                    # what share was fooled, whether that solves the task, and a code
    verify(result.code, "Ada")       # task and score again

The code is a receipt and no secret: whoever reads this file can make one, and the page that checks it says so.
"""

import copy
import ctypes
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from qlayer_core import data, files
from qlayer_core.study import records
from qlayer_core.study.tasks import NETWORKS, TASKS, Load, Task

Attack = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
BEST = files.RESULTS / "challenge.json"
HIDDEN = 10  # one test image in so many is kept for grading
TOLERANCE = 1e-6  # of float32 sums; 1/255 is four thousand times as much
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no letter that looks like a digit


class RefusedError(ValueError):
    """The grader does not count an attack; ``reason`` is one word, the message says what to do.

    Args:
        reason: "type", "shape", "nan", "box", "budget", "model", "files", "time" or "error".
        message: for the reader.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Grade:
    """What the grader found."""

    task: int
    right: float  # percent of hidden images that the network still gets right
    clean: float  # and without an attack
    solved: bool
    seconds: float
    code: str

    def __str__(self) -> str:
        """Return three lines for the reader, short enough for a page."""
        verdict = "solved" if self.solved else "not solved yet"
        took = f"{self.seconds:.0f} s" if self.seconds >= 1 else "under a second"
        return (
            f"Task {self.task} {verdict}: right on {self.right:.1f} % of the hidden images\n"
            f"({self.clean:.1f} % without an attack), in {took}.\nYour code: {self.code}"
        )


def open_tasks() -> tuple[Task, ...]:
    """Return the tasks whose networks are released, with their records; the others wait until theirs are."""
    units = {task: records.unit(task.dataset, NETWORKS[task.network][0]) for task in TASKS}
    return tuple(task for task, unit in units.items() if unit.released.exists() and unit.record.exists())


def images_for(task: Task, *, hidden: bool = False, limit: int | None = None) -> data.Split:
    """Return test images to practise on, or those that the grader uses.

    An image is hidden if the hash of its pixels is divisible by `HIDDEN`: which ones does not depend on their order.
    """
    images, labels = data.load(task.dataset, "test")
    pixels = images.mul(255).round().byte().flatten(1).numpy()
    picks = torch.tensor([_number(row.tobytes()) % HIDDEN == 0 for row in pixels])
    chosen = picks if hidden else ~picks
    return data.Split(images[chosen], labels[chosen]).first(limit)


def network_of(task: Task, load: Load | None = None) -> nn.Module:
    """Return the network of a task, in evaluation mode.

    Args:
        task: which.
        load: from the name of a released network to it; the released weights if left out.
    """
    name, wrap = NETWORKS[task.network]
    load = load or (lambda wanted: records.load(task.dataset, wanted)[0])
    return wrap(load(name)).eval()


def grade(
    task: Task,
    attack: Attack,
    *,
    name: str = "",
    load: Load | None = None,
    watched: tuple[Path, ...] | None = None,
) -> Grade:
    """Let an attack loose on the hidden images of a task, check what it gives, and score it.

    Args:
        task: what to break.
        attack: ``attack(network, images, labels, eps) -> images``, with images ``(N, 1, H, W)`` in [0, 1].
        name: of the reader, which goes into the code.
        load: see `network_of`.
        watched: files that an attack must leave alone; the network's weights and record if left out.

    Raises:
        RefusedError: it breaks a rule.
    """
    watched = _files_of(task) if watched is None else watched
    images, labels = images_for(task, hidden=True, limit=task.images)
    given = network_of(task, load)  # a network of its own: whatever the attack does to it, another one scores
    before, files_before = _state(given), _digests(watched)
    found, took = _within(task.seconds, lambda: attack(given, images.clone(), labels.clone(), task.eps))
    if _digests(watched) != files_before:
        raise RefusedError(
            "files", "the attack changed the network's files: attack the images, and restore the files"
        )
    if _state(given) != before:
        raise RefusedError(
            "model",
            "the attack changed the network: its weights, its mode or its code. Work on a copy,"
            " copy.deepcopy(network), and take gradients with torch.autograd.grad(loss, images)",
        )
    check(found, images, task.eps)
    found = found.to(images)  # what is scored keeps to the budget up to rounding
    judge = network_of(task, load)
    right, clean = (_percent_right(judge, some, labels, task.draws) for some in (found, images))
    return Grade(task.number, right, clean, right <= task.target, took, code(task, right, name))


def check(found: object, images: Tensor, eps: float) -> None:
    """Refuse what is no set of images within ``eps`` of ``images`` and in [0, 1].

    Raises:
        RefusedError: with the rule that is broken, and by how much.
    """
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = str(found.dtype) if isinstance(found, Tensor) else type(found).__name__
        raise RefusedError(
            "type", f"the attack returned {kind}; it must return the attacked images, a float tensor"
        )
    if found.shape != images.shape:
        raise RefusedError(
            "shape",
            f"the attack returned shape {tuple(found.shape)}; it must be that of images, {tuple(images.shape)}",
        )
    if not found.isfinite().all():
        bad = int((~found.isfinite()).flatten(1).any(1).sum())
        raise RefusedError(
            "nan", f"{bad} images hold NaN or infinity; look for a division by zero or a logarithm of it"
        )
    if found.min() < -TOLERANCE or found.max() > 1 + TOLERANCE:
        raise RefusedError(
            "box",
            f"pixels run from {found.min():.4f} to {found.max():.4f}; clip them to [0, 1], images.clamp(0, 1)",
        )
    moved = (found - images).abs().flatten(1).amax(1)
    if moved.max() > eps + TOLERANCE:
        raise RefusedError(
            "budget",
            f"{int((moved > eps + TOLERANCE).sum())} images moved by more than eps = {eps:g}, up to"
            f" {moved.max():.4f}: clip the change to [-eps, eps]",
        )


# ---- Codes ----


def code(task: Task, right: float, name: str = "") -> str:
    """Return a short code for a score, such as ``Q1-0125-7F3K2M``: task, tenths of a percent right, and a check."""
    body = f"{task.number}-{round(10 * right):04d}"
    number = _sum(f"qlayer-book/{body}/{name.strip()}")
    return f"Q{body}-" + "".join(ALPHABET[number >> shift & 31] for shift in range(0, 30, 5))


def verify(given: str, name: str = "") -> tuple[Task, float]:
    """Return task and percent right of a code.

    Raises:
        ValueError: it is no code of the grader, or another reader's.
    """
    parts = given.strip().upper().removeprefix("Q").split("-")
    tasks = {str(task.number): task for task in TASKS}
    if len(parts) == 3 and parts[0] in tasks and len(parts[1]) == 4 and parts[1].isdecimal():
        task, right = tasks[parts[0]], int(parts[1]) / 10
        if code(task, right, name) == f"Q{'-'.join(parts)}":
            return task, right
    raise ValueError(
        f"{given!r} with the name {name!r} is no code of the grader: type both as they were given"
    )


def best_known(task: Task, path: Path = BEST) -> dict | None:
    """Return the best recorded grade of a task, with ``by``, who or what reached it.

    None if none is recorded, or only one on weights that have been replaced since.
    """
    found = files.read_json(path).get(str(task.number)) if path.exists() else None
    return found if found and found["weights_sha256"] == _weights_of(task) else None


def record_best(found: Grade, by: str, path: Path = BEST) -> bool:
    """Record a grade if it beats the best known one on today's weights; return whether it did."""
    task = next(task for task in TASKS if task.number == found.task)
    before = best_known(task, path)
    if before is not None and before["right"] <= found.right:
        return False
    known = files.read_json(path) if path.exists() else {}
    known[str(found.task)] = asdict(found) | {"by": by, "weights_sha256": _weights_of(task)}
    files.write_json(path, dict(sorted(known.items())))
    return True


# ---- Watching an attack ----


class _Overtime(BaseException):
    """Raised inside an attack whose time is up; no ``except Exception`` of its own stops it."""


def _within(seconds: float, work: Callable[[], object]) -> tuple[object, float]:
    """Return what ``work`` returns and how long it took, or refuse it once its time is up."""
    result: dict[str, object] = {}

    def run() -> None:
        try:
            result["value"] = work()
        except _Overtime:
            pass
        except Exception as error:
            result["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    started = time.perf_counter()
    thread.start()
    try:
        thread.join(seconds)
    finally:  # its time is up, or the reader interrupts it
        took = time.perf_counter() - started
        late = thread.is_alive()
        if late:  # it ends at its next line of Python; one long operation runs to its end in the background
            stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
            stop(ctypes.c_ulong(thread.ident), ctypes.py_object(_Overtime))
            thread.join(5)
    if late:
        raise RefusedError(
            "time", f"the attack was not done after {seconds:g} s: use fewer steps or a larger batch"
        )
    if isinstance(error := result.get("error"), Exception):
        raise RefusedError("error", f"the attack stopped with {type(error).__name__}: {error}") from error
    return result.get("value"), took


def _state(network: nn.Module) -> str:
    """Return a digest of all that decides a network's answers: weights, mode and code."""
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        own = "forward" in vars(module) or bool(module._forward_hooks) or bool(module._forward_pre_hooks)
        facts = (name, type(module).__qualname__, id(type(module).forward), own, module.training)
        digest.update(repr(facts).encode())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _files_of(task: Task) -> tuple[Path, ...]:
    unit = records.unit(task.dataset, NETWORKS[task.network][0])
    return unit.weights, unit.record


def _weights_of(task: Task) -> str | None:
    return _digests(_files_of(task)[:1])[0]


def _digests(paths: tuple[Path, ...]) -> list[str | None]:
    return [files.sha256(path) if path.exists() else None for path in paths]


@torch.no_grad()
def _percent_right(network: nn.Module, images: Tensor, labels: Tensor, draws: int) -> float:
    """Return percent of right answers in full precision, over so many answers to each image."""
    network = copy.deepcopy(network)  # a random one draws alike for every set of images
    with torch.autocast(images.device.type, enabled=False):
        shares = [(network(images).argmax(1) == labels).double().mean() for _ in range(draws)]
    return 100 * torch.stack(shares).mean().item()


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def _sum(text: str) -> int:
    """Return a check sum of 32 bits, FNV-1a: short enough to be written once more for the page."""
    number = 0x811C9DC5
    for byte in text.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number
