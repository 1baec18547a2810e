"""The workflow on clusters: what a profile hands over, to commands that stand in for a cluster's own."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakes import ROOT, copied, snakemake

MARKER = "runs/workflow/mnist/smoke/seed0.train"
SLURM = {  # what its commands answer; the job itself, which takes a minute, is noted and passes for done
    "sbatch": f'printf "%s\\n" "$@" > submitted; mkdir -p $(dirname {MARKER}); touch {MARKER}; echo 7',
    "sacct": 'case "$*" in *-o*) echo mine ;; *) echo "7|COMPLETED" ;; esac',
    "sacctmgr": "echo mine",
    "sinfo": "echo main*",
    "scontrol": "true",
    "squeue": "true",
}


# What Kubernetes' command answers: the job's pod is at work at the first look, and {state} at the second.
KUBECTL = """echo "$*" >> asked
case "$3" in
create) cat > submitted ;;
get) [ $(grep -c " get " asked) = 1 ] && echo / || {state} ;;
logs) echo "what the pod said" ;;
esac"""


def stand_ins(folder: Path, commands: dict[str, str]) -> str:
    """Write shell scripts by their names, and return the PATH that finds them first."""
    (folder / "bin").mkdir()
    for name, answer in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "bin" / name).chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The package and the workflow in a folder of their own."""
    return copied(tmp_path)


def test_slurm_is_given_a_network_to_train(clone):
    """Not a dry run, in which Snakemake counts cores that a cluster has not."""
    profile = clone / "workflow" / "profiles" / "slurm"
    config = profile / "config.yaml"
    config.write_text(config.read_text().replace("  # - ", "  - "))  # with account, partition and GPU
    where = ("--workflow-profile", str(profile))
    quick = ("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1")
    running = snakemake(clone, *quick, "--", MARKER, where=where, PATH=stand_ins(clone, SLURM))
    said, _ = running.communicate()
    assert running.returncode == 0 and "1 of 1 steps (100%) done" in said, said
    assert "2 jobs are left (1 train, 1 evaluate)" in said
    submitted = (clone / "submitted").read_text().splitlines()
    asked = dict(itertools.pairwise(submitted))
    assert (asked["-t"], asked["--mem"], asked["-A"], asked["-p"]) == ("1440", "3000", "mine", "main")
    assert "--gres=gpu:1" in submitted
    assert "--target-jobs 'train:dataset=mnist,model=smoke,seed=0'" in submitted[-1]


def test_kubernetes_is_given_a_network_to_train(clone):
    profile = clone / "workflow" / "profiles" / "kubernetes"
    (config,) = yaml.safe_load((profile / "config.yaml").read_text())["configfile"]
    launch = clone / config
    quick = launch.read_text().replace(" --\n", " --every 0.01 --gpu --\n")
    launch.write_text(quick.replace("book:/book", f"book:{clone}"))
    path = stand_ins(clone, {"kubectl": KUBECTL.format(state=f"{{ touch {MARKER}; echo 1/; }}")})
    where = ("--workflow-profile", "workflow/profiles/kubernetes", "--jobs", "3")
    running = snakemake(clone, "--", MARKER, where=where, PATH=path)
    said, _ = running.communicate()
    assert running.returncode == 0 and "1 of 1 steps (100%) done" in said, said
    assert "what the pod said" in said
    job = json.loads((clone / "submitted").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"] == str(clone)
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    command = container["command"]
    assert command[:2] == ["env", "OMP_NUM_THREADS=1"] and command[5:9] == ["train", "mnist", "smoke", "0"]
    assert json.loads(command[-1])["only"] == "smoke"  # as one word, whatever quotes it holds
    claims = [volume["persistentVolumeClaim"] for volume in job["spec"]["template"]["spec"]["volumes"]]
    assert claims == [{"claimName": "book"}]


@pytest.mark.parametrize(
    ("state", "ends", "says"),
    [("echo 1/", 0, "pod said"), ("echo /1", 1, "pod said"), ("{ echo lost >&2; false; }", 1, "lost")],
    ids=["well", "failed", "no answer"],
)
def test_a_pod_ends_as_its_command_does_and_is_cleared_away(state, ends, says, tmp_path):
    path = stand_ins(tmp_path, {"kubectl": KUBECTL.format(state=state)})
    options = ["--image", "any", "--volume", "book:/book", "--every", "0.001", "--", "true"]
    command = [sys.executable, ROOT / "workflow" / "pod.py", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == ends and says in done.stdout + done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    name = json.loads((tmp_path / "submitted").read_text())["metadata"]["name"]
    assert "create" in asked[0] and f"delete job {name}" in asked[-1]
