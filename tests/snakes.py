"""The workflow in a folder of its own, and Snakemake there."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copied(folder: Path) -> Path:
    """Copy the package, the workflow and the images, without results, and return the folder."""
    for name in ("qlayer_core", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "mnist", folder / "data" / "mnist")
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment in which the copy is run, and not the package that the tests are of."""
    own = {"PYTHONPATH": str(folder), "QLAYER_PRECISION": "float32", "XDG_CACHE_HOME": str(folder / "cache")}
    return os.environ | own | more


def snakemake(folder: Path, *options: str, where: tuple[str, ...] = ("--cores", "1"), **more: str):
    """Start Snakemake on the smoke run, or what else ``options`` say, and return its process."""
    command = [Path(sys.executable).parent / "snakemake", *where, "--config", "only=smoke", *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell in the background has its children ignore Ctrl-C
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
