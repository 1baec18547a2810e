"""Recorded results and released weights: where they lie, how they are written whole, and how they are read.

One JSON file per trained model, ``data/results/<data set>/<model>/seed<k>.json``; weights as safetensors in
``data/weights/<data set>/<model>.safetensors`` where released, else under ``runs/``.
"""

import base64
import dataclasses
import os
import platform
import re
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qlayer_core import baselines, checks, datasets, files, loop, machine, models
from qlayer_core.files import RESULTS, RUNS, WEIGHTS
from qlayer_core.specs import Attack, LayerSpec, RunSpec
from qlayer_core.study import experiments, fingerprint

FORMAT = 2
TRIALS = ("smoke", "trial")  # variants that are no results: recorded beside their weights, under runs/


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work, and where it keeps what it makes.

    A variant is a run whose settings differ from the grid's, but which starts from the same weights and draws the
    same batches as the run of that name and seed.
    """

    dataset: str
    spec: RunSpec
    seed: int = 0
    variant: str = ""

    def __post_init__(self):
        datasets.find(self.dataset)
        checks.seed(self.seed)

    @property
    def record(self) -> Path:
        """Where the results are recorded."""
        if self.variant in TRIALS:
            return self.folder / "record.json"
        if self.variant:
            return (
                RESULTS / self.dataset / "variants" / self.spec.name / self.variant / f"seed{self.seed}.json"
            )
        return RESULTS / self.dataset / self.spec.name / f"seed{self.seed}.json"

    @property
    def folder(self) -> Path:
        """Where the run keeps its checkpoint and weights."""
        name = Path("variants") / self.spec.name / self.variant if self.variant else self.spec.name
        return RUNS / self.dataset / name / f"seed{self.seed}"

    @property
    def weights(self) -> Path:
        """The weights: released (seed 0 only), or where the run left its own.

        Where both are there and differ, a run was trained again: the record says which of them it is about.
        """
        own = self.folder / "weights.safetensors"
        if self.variant or self.seed != 0 or not self.released.exists():
            return own
        if own.exists() and self.record.exists():
            recorded = read_file(self.record)["weights_sha256"]
            return own if files.sha256(own) == recorded != files.sha256(self.released) else self.released
        return self.released

    @property
    def released(self) -> Path:
        """Where released weights lie; they have no seed in their name."""
        return WEIGHTS / self.dataset / f"{self.spec.name}.safetensors"

    def how(self) -> str:
        """Return the command that makes the unit."""
        again = " --again" if self.record.exists() else ""
        climbed = (self.record.parent / "adaptive" / self.record.name).exists()
        if self.variant:
            what = f"{self.dataset} {self.spec.name} '{self.variant}' --seed {self.seed}"
            return f"python -m qlayer_core vary {what}{again}"
        what = f"{self.dataset} {self.spec.name} --seed {self.seed}"
        stages = [f"train {what}{again}", f"evaluate {what}", *([f"adapt {what}"] if climbed else [])]
        return " && ".join(f"python -m qlayer_core {stage}" for stage in stages)


def unit(dataset: str, name: str, seed: int = 0) -> Unit:
    """Return the unit of a model of the grid."""
    return Unit(dataset, experiments.spec(name), seed)


def load(dataset: str, name: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """Return the trained network, in evaluation mode, and its recorded results.

    Raises:
        ValueError: unknown data set or model, or weights or a file that don't fit this version.
        FileNotFoundError: nothing is recorded or no weights are there, with the command that makes them.
    """
    return load_unit(unit(dataset, name, seed))


def load_unit(one: Unit) -> tuple[nn.Module, dict]:
    """Return the trained network of a unit, in evaluation mode, and its recorded results; errors as `load`."""
    record = read_unit(one)
    path = one.weights
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file with the weights of {one.spec.name} on {one.dataset}, seed {one.seed}."
            f"{_replaced(record)} Make it with: {one.how()}"
        )
    if files.sha256(path) != record["weights_sha256"]:
        raise ValueError(
            f"{path} is not the file that the recorded results were measured with: restore both from the"
            f" repository, or start again.{_replaced(record)} Start with: {one.how()}"
        )
    return load_weights(build(one.spec), path), record


def _replaced(record: dict) -> str:
    """Return what happens to a network's record when the network is trained anew."""
    if not record["cells"]:
        return ""
    return (
        " On another kind of machine than the recorded one, training gives other weights, and these replace its"
        f" {len(record['cells'])} measured cells (which are kept under runs/)."
    )


def build(spec: RunSpec, seed: int = 0) -> nn.Module:
    """Return the untrained network of a run, weights drawn with ``seed``."""
    return baselines.build(spec.quantizer, seed) if spec.quantizer else models.build(spec, seed)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Fill ``model`` from a safetensors file, in evaluation mode, and return it.

    Raises:
        ValueError: names or shapes differ from the model's.
    """
    found = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(path).items()
    }
    wanted = model.state_dict()
    differing = sorted(
        name
        for name in found.keys() | wanted.keys()
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape
    )
    if differing:
        raise ValueError(
            f"the weights in {path} don't fit this network; different or missing: {', '.join(differing[:5])}."
            " Build the network with the name that the weights were saved under."
        )
    model.load_state_dict(found)
    return model.eval()


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors; matrices of over 10,000 numbers in half precision."""
    weights = {
        name: (tensor.half() if tensor.numel() > 10_000 and "codebook" not in name else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    files.write_atomically(path, lambda temporary: save_file(weights, temporary))


def new_record(one: Unit) -> dict:
    """Return a record without measurements: what is run."""
    return {
        "format": FORMAT,
        "dataset": one.dataset,
        "model": one.spec.name,
        "seed": one.seed,
        "variant": one.variant,
        "spec": dataclasses.asdict(one.spec),
        "trained_in": None,  # index into environments
        "environments": [],
        "seconds": {},
        "history": [],
        "chosen": None,
        "weights_sha256": None,
        "start_sha256": None,  # of the raw network that adversarial training started from; older records lack it
        "judge_sha256": None,  # of the network that made the validation images; older records lack it, too
        "cells": [],
    }


@cache
def processor() -> str:
    """Return the kind of this machine's processor, as its system names it, and the instructions that torch uses.

    C&W's line search turns on the last digits of a sum, which change with both, and with ``ONEDNN_MAX_CPU_ISA``.
    """
    name, about = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if about.exists():  # Linux, whose own answer is "x86_64" or nothing
        named = re.search(r"^model name\s*:\s*(.+)$", about.read_text(), re.MULTILINE)
        name = named[1].strip() if named else name
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}{f', oneDNN up to {limit}' if limit else ''}"


def environment(stages: tuple[str, ...], device: torch.device | str = "cpu") -> dict:
    """Return with which code, for these stages of `fingerprint`, and on what machine something is measured."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "code": {stage: fingerprint.of(stage) for stage in stages},
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
        },
        "number_format": machine.number_format(device),
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name(device) if on_gpu else processor(),
    }


def finished(record: dict) -> bool:
    """Return whether a record's training was over, or had been paused when it was written."""
    history, spec = record["history"], record["spec"]
    return loop.State(len(history), history, record["chosen"]).over(spec["epochs"], spec["patience"])


def environment_index(record: dict, here: dict) -> int:
    """Return the place of an environment in the record, which gets it if it is new."""
    if here not in record["environments"]:
        record["environments"].append(here)
    return record["environments"].index(here)


def pack(right: Tensor) -> str:
    """Return which images were right, ``(N,)`` bool, as base64 of packed bits: 1,700 characters for 10,000."""
    return base64.b64encode(np.packbits(right.numpy())).decode()


def unpack(cell: dict) -> np.ndarray:
    """Return which images a recorded cell counts as right, ``(n,)`` bool."""
    bits = np.frombuffer(base64.b64decode(cell["right"]), np.uint8)
    return np.unpackbits(bits, count=cell["n"]).astype(bool)


def alone(one: Unit) -> AbstractContextManager:
    """Let one process at a time change what is recorded of a unit: from reading a record to writing it."""
    return files.alone(one.folder / "lock")


def write(record: dict) -> None:
    """Record a run's results, atomically."""
    one = Unit(record["dataset"], spec_of(record), record["seed"], record["variant"])
    files.write_json(one.record, record)


def read(dataset: str, name: str, seed: int = 0) -> dict:
    """Return the recorded results of a model of the grid.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that makes it.
        ValueError: the file is of another format version, or no JSON.
    """
    return read_unit(unit(dataset, name, seed))


def weights_of(unit: Unit) -> str | None:
    """Return the sha256 of the weights that a unit is recorded with; None where nothing is recorded."""
    return read_unit(unit)["weights_sha256"] if unit.record.exists() else None


def there(one: Unit) -> bool:
    """Return whether a unit is recorded, in a file that can be read, and the weights that it is of are here."""
    try:
        return files.sha256(one.weights) == read_unit(one)["weights_sha256"]
    except (FileNotFoundError, ValueError):
        return False


def read_unit(one: Unit) -> dict:
    """Return the recorded results of a unit; errors as `read`."""
    if not one.record.exists():
        raise FileNotFoundError(
            f"There is no record of {one.spec.name} on {one.dataset}, seed {one.seed}. Make it with: {one.how()}"
        )
    return read_file(one.record)


def runs(dataset: str, name: str) -> list[dict]:
    """Return what is recorded of a model of the grid, one record per seed, in their order; errors as `unit`."""
    return [read_result(path) for path in sorted(unit(dataset, name).record.parent.glob("seed*.json"))]


def read_result(path: Path) -> dict:
    """Return the record in a file that was found among the results; refuse a copy, which would count once more."""
    record = read_file(path)
    if files.seed_of(path) != record["seed"] or record["model"] not in path.parts:
        raise ValueError(f"{path} holds {record['model']}, seed {record['seed']}: {files.NO_COPIES}")
    return record


def read_file(path: Path) -> dict:
    """Return the record in a file.

    The path None of a plain network, a key in its history, is "null" in JSON.

    Raises:
        ValueError: the file is of another format version, or no JSON.
    """
    record = files.read_json(path, object_pairs_hook=with_paths)
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {record.get('format')}, this package reads {FORMAT}: use the package version that"
            " wrote it, or remove it and measure again: python -m qlayer_core train, then evaluate"
        )
    return record


def with_paths(pairs: list[tuple[str, object]]) -> dict:
    """Return a JSON object whose key "null" is the path None again."""
    return {None if key == "null" else key: value for key, value in pairs}


def attack_of(cell: dict) -> Attack:
    """Return the attack that a recorded cell, or one of the paper's, is about."""
    return Attack(**{field.name: cell[field.name] for field in dataclasses.fields(Attack)})


def spec_of(record: dict) -> RunSpec:
    """Return the run that a record is about; a setting that it doesn't know has its default.

    Raises:
        ValueError: it knows a setting that this version does not.
    """
    fields = dict(record["spec"])
    layer = fields.pop("layer")
    known = [{field.name for field in dataclasses.fields(kind)} for kind in (RunSpec, LayerSpec)]
    if unknown := sorted({*fields} - known[0] | {*(layer or {})} - known[1]):
        raise ValueError(
            f"the record of {record['model']} on {record['dataset']}, seed {record['seed']}, has the setting"
            f" {', '.join(unknown)}, which this version of the package doesn't know: use the version that wrote it"
        )
    return RunSpec(**fields, layer=LayerSpec(**layer) if layer else None)
