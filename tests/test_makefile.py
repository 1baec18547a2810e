"""What the Makefile makes anew, and what it leaves."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qlayer_core.files import ROOT

FILES = (
    "requirements.txt",
    "pyproject.toml",
    ".venv/.installed",
    "benchmarks/results.json",
    "data/set/image",
)
FILES += ("qlayer_core/layer.py", "qlayer_core/study/plan.py", "qlayer_core/show/page.css", "_build/.fresh")
BYTE_CODE = ("qlayer_core/__pycache__/layer.pyc", "qlayer_core/study/__pycache__/plan.pyc")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A copy of the Makefile, and what the executed chapters depend on, each file older than the next."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for number, name in enumerate(FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    return tmp_path


def would_run(folder: Path, *what: str) -> str:
    command = ["make", "--dry-run", *(what or ["_build/.fresh"])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith(("qlayer_core", "bench", "data"))]
)
def test_executed_chapters_are_forgotten_when_what_they_read_has_changed(name, fresh):
    assert "is up to date" in would_run(fresh)
    (fresh / name).touch()
    assert "rm -rf _build" in would_run(fresh)


def test_a_file_may_have_a_space_in_its_name(fresh):
    for name in ("data/set/an image", "qlayer_core/layer copy.py"):
        (fresh / name).touch()
        os.utime(fresh / name, (1, 1))
        assert "is up to date" in would_run(fresh)
        (fresh / name).touch()
        assert "rm -rf _build" in would_run(fresh)
        os.utime(fresh / name, (1, 1))


def test_an_environment_that_was_left_half_made_is_made_anew(fresh):
    """Debian's Python without its venv package leaves one without pip, and so does an interruption."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh / ".venv"], check=True)
    stand_in = fresh / "python"
    stand_in.write_text('#!/bin/sh\necho "$@" >>asked\n')
    stand_in.chmod(0o755)
    (fresh / ".venv/.installed").unlink()
    subprocess.run(["make", ".venv/.installed", f"PYTHON={stand_in}"], cwd=fresh, capture_output=True)
    assert (fresh / "asked").read_text().splitlines()[-1] == "-m venv --clear .venv"


def test_executed_chapters_are_kept_when_the_package_was_merely_run(fresh):
    for name in BYTE_CODE:
        (fresh / name).parent.mkdir()
        (fresh / name).touch()
    assert "is up to date" in would_run(fresh)


@pytest.mark.parametrize(
    ("where", "jobs"),
    [
        ((), "--cores 3"),
        (("PROFILE=slurm",), "profiles/slurm --jobs 3"),
        (("PROFILE=kubernetes",), "profiles/kubernetes --jobs 3"),
    ],
)
def test_as_many_jobs_as_one_asks_for_are_run_here_and_on_a_cluster(where, jobs, fresh):
    assert jobs in would_run(fresh, "--assume-old=.venv/.installed", "reproduce", *where, "JOBS=3")


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ((), ""),
        (("SEEDS=0,1",), "--config seeds=0,1"),
        (("ONLY=table:8a",), "--config only=table:8a"),
        (("SEEDS=1", "ONLY=cnn"), "--config seeds=1 only=cnn"),
        (("SEEDS=0, 1", "ONLY=cnn, table:8a"), "--config 'seeds=0, 1' 'only=cnn, table:8a'"),
    ],
)
def test_what_is_not_given_is_as_the_workflow_s_configuration_says(given, config, fresh):
    said = would_run(fresh, "--assume-old=.venv/.installed", "reproduce", "JOBS=3", *given).splitlines()
    (line,) = (line for line in said if "snakemake" in line)  # under another make, it says where it is, too
    assert shlex.split(line) == [".venv/bin/snakemake", "--cores", "3", *shlex.split(config)]
