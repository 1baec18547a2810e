"""Timing: contestants in turn, in one process; or one contestant in a process of its own, with its peak memory."""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from cases import Work, alone

STATUS = Path("/proc/self/status")


def seconds(work: Work) -> float:
    """Return the processor time of one call: other programs on the machine hardly change it."""
    started = time.process_time()
    work()
    return time.process_time() - started


def in_turn(works: dict[str, Work], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Return the seconds of each contestant in each round: A, B, C, A, B, C, ... after one that doesn't count."""
    for work in works.values() if warm_up else ():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds(work))
    return found


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return how many times as long theirs takes, over rounds: median, lowest and highest."""
    found = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(found), "lowest": min(found), "highest": max(found)}


def in_own_process(case: str, contestant: str) -> dict[str, float]:
    """Return the seconds of one contestant that shares its process with no other, and the memory that it took."""
    done = subprocess.run(
        [sys.executable, Path(__file__), case, contestant], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory() -> float:
    """Return the most memory that this process has held, in MiB."""
    if STATUS.exists():  # Linux, where ru_maxrss would begin with the parent's memory
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)


def main() -> None:
    """Measure the case and the contestant on the command line, and print what `in_own_process` returns."""
    torch.set_num_threads(1)
    work = alone(*sys.argv[1:])
    before = peak_memory()
    for _ in range(2):
        work()
    times = [seconds(work) for _ in range(3)]
    print(json.dumps({"seconds": statistics.median(times), "mebibytes": peak_memory() - before}))


if __name__ == "__main__":
    main()
