"""What the Makefile makes anew, and what it leaves."""

import os
import subprocess
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
    ],
)
def test_what_is_not_given_is_as_the_workflow_s_configuration_says(given, config, fresh):
    said = would_run(fresh, "--assume-old=.venv/.installed", "reproduce", "JOBS=3", *given).splitlines()
    (line,) = (line for line in said if "snakemake" in line)  # under another make, it says where it is, too
    assert line.split() == [".venv/bin/snakemake", "--cores", "3", *config.split()]
