"""The workflow on clusters: what a profile hands over, to commands that stand in for a cluster's own."""

import itertools
import os
from pathlib import Path

import pytest
from snakes import copied, snakemake

MARKER = "runs/workflow/mnist/smoke/seed0.train"
SLURM = {  # what its commands answer; the job itself, which takes a minute, is noted and passes for done
    "sbatch": f'printf "%s\\n" "$@" > submitted; mkdir -p $(dirname {MARKER}); touch {MARKER}; echo 7',
    "sacct": 'case "$*" in *-o*) echo mine ;; *) echo "7|COMPLETED" ;; esac',
    "sacctmgr": "echo mine",
    "sinfo": "echo main*",
    "scontrol": "true",
    "squeue": "true",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The package and the workflow in a folder of their own, and stand-ins for Slurm's commands."""
    (tmp_path / "bin").mkdir()
    for name, answer in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return copied(tmp_path)


def test_slurm_is_given_a_network_to_train(clone):
    """Not a dry run, in which Snakemake counts cores that a cluster has not."""
    profile = clone / "workflow" / "profiles" / "slurm"
    config = profile / "config.yaml"
    config.write_text(config.read_text().replace("  # - ", "  - "))  # with account, partition and GPU
    where = ("--workflow-profile", str(profile))
    quick = ("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1")
    path = f"{clone / 'bin'}:{os.environ['PATH']}"
    running = snakemake(clone, *quick, "--", MARKER, where=where, PATH=path)
    said, _ = running.communicate()
    assert running.returncode == 0 and "1 of 1 steps (100%) done" in said, said
    assert "2 jobs are left (1 train, 1 evaluate)" in said
    submitted = (clone / "submitted").read_text().splitlines()
    asked = dict(itertools.pairwise(submitted))
    assert (asked["-t"], asked["--mem"], asked["-A"], asked["-p"]) == ("1440", "3000", "mine", "main")
    assert "--gres=gpu:1" in submitted
    assert "--target-jobs 'train:dataset=mnist,model=smoke,seed=0'" in submitted[-1]
