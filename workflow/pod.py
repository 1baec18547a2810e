"""Run a command in a pod of its own on Kubernetes and end as it does: python workflow/pod.py OPTIONS -- COMMAND.

What the Kubernetes profile puts before each job. It works in this folder, which must lie on a volume that many pods
may write to; records and weights then go where every job finds them. `kubectl` must be here, and may make jobs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import uuid

PATIENCE = 30  # how often in a row the cluster may fail to answer


def manifest(name: str, options: argparse.Namespace) -> dict:
    """Return the Kubernetes job that runs a command once, in this folder."""
    claim, place = options.volume.split(":")
    container = {
        "name": "job",
        "image": options.image,
        "command": options.command,
        "workingDir": os.getcwd(),
        "resources": {"requests": {"cpu": "1", "memory": options.memory}},
        "volumeMounts": [{"name": "volume", "mountPath": place}],
    }
    if options.gpu:
        container["resources"]["limits"] = {"nvidia.com/gpu": "1"}
    volume = {"name": "volume", "persistentVolumeClaim": {"claimName": claim}}
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": "qlayer"}},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},  # Snakemake tries again
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command, print what it said, and return 0 if it ended well and 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="has what requirements.txt lists")
    parser.add_argument(
        "--volume", required=True, help="CLAIM:PLACE, a persistent volume claim and where it is mounted"
    )
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--memory", default="3000M")
    parser.add_argument("--gpu", action="store_true", help="one NVIDIA GPU for each pod")
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks at the pod")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    name = f"qlayer-{uuid.uuid4().hex[:16]}"

    def kubectl(*what: str, **how: object) -> subprocess.CompletedProcess:
        return subprocess.run(["kubectl", "--namespace", options.namespace, *what], text=True, **how)

    # Whoever ends Snakemake ends its pods.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        kubectl("create", "--filename", "-", input=json.dumps(manifest(name, options)), check=True)
        silent = 0
        while True:
            time.sleep(options.every)
            status = "jsonpath={.status.succeeded}/{.status.failed}"
            asked = kubectl("get", "job", name, "--output", status, capture_output=True)
            silent = silent + 1 if asked.returncode else 0
            if silent > PATIENCE:
                print(f"kubectl get job {name}: {asked.stderr.strip()}", file=sys.stderr)
                return 1
            if not silent and asked.stdout.strip() != "/":  # neither has ended yet
                kubectl("logs", f"job/{name}")
                return 0 if asked.stdout.startswith("1/") else 1
    except subprocess.CalledProcessError:
        return 1  # kubectl has said why
    finally:
        kubectl("delete", "job", name, "--ignore-not-found", "--wait=false", capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
