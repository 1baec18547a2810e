"""Recorded results and released weights: writing them, reading them, and tables of paper beside ours.

One JSON file a trained model, ``data/results/<data set>/<model>/seed<k>.json``; weights as safetensors in
``data/weights/<data set>/<model>.safetensors`` where released, else under ``runs/``.
"""

import dataclasses
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qlayer_core import evaluation, experiments, files, machine, models, paper
from qlayer_core.data import DATASETS
from qlayer_core.paths import RESULTS, RUNS, WEIGHTS

FORMAT = 1
PACKAGE = Path(__file__).parent
# A change in one of these may change numbers: a recorded file says which it was made with.
CODE = ("attacks", "data", "evaluation", "experiments", "layer", "machine", "models", "optimizer", "training")


def record_path(dataset: str, name: str, seed: int = 0) -> Path:
    """Return where the results of a run are recorded."""
    return RESULTS / _known(dataset) / experiments.run(name).name / f"seed{seed}.json"


def run_folder(dataset: str, name: str, seed: int = 0) -> Path:
    """Return where a run keeps its checkpoint and weights."""
    return RUNS / _known(dataset) / experiments.run(name).name / f"seed{seed}"


def weights_path(dataset: str, name: str, seed: int = 0) -> Path:
    """Return the weights of a run: released (seed 0 only), or where it left its own.

    Where both are there and differ, a run was trained again: the record says which of them it is about.
    """
    released = WEIGHTS / _known(dataset) / f"{experiments.run(name).name}.safetensors"
    own = run_folder(dataset, name, seed) / "weights.safetensors"
    if seed != 0 or not released.exists():
        return own
    if own.exists() and record_path(dataset, name).exists():
        recorded = read(dataset, name)["weights_sha256"]
        return own if sha256(own) == recorded != sha256(released) else released
    return released


def load(dataset: str, name: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """Return the trained network, in evaluation mode, and its recorded results.

    Raises:
        ValueError: unknown data set or model, or weights or a file that don't fit this version.
        FileNotFoundError: nothing is recorded or no weights are there, with the command that makes them.
    """
    record = read(dataset, name, seed)
    path = weights_path(dataset, name, seed)
    if not path.exists():
        raise FileNotFoundError(
            _missing(f"file with the weights of {name} on {dataset}, seed {seed}", dataset, name, seed)
        )
    if sha256(path) != record["weights_sha256"]:
        raise ValueError(
            f"{path} is not the file that the recorded results were measured with: restore both from the"
            f" repository, or start again with: python -m qlayer_core train {dataset} {name} --seed {seed}"
        )
    return load_weights(models.build(name), path), record


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


def new_record(
    dataset: str, spec: experiments.RunSpec, seed: int, device: torch.device | str = "cpu"
) -> dict:
    """Return a record without measurements: what is run, with which code, and on what."""
    return {
        "format": FORMAT,
        "dataset": dataset,
        "model": spec.name,
        "seed": seed,
        "spec": dataclasses.asdict(spec),
        **environment(device),
        "environments": [],
        "seconds": {},
        "history": [],
        "chosen": None,
        "weights_sha256": None,
        "cells": [],
    }


def environment(device: torch.device | str = "cpu") -> dict:
    """Return with which code and on what something is measured; a record holds that of its training.

    Each cell says in which of the record's ``environments`` it was measured.
    """
    on_gpu = torch.device(device).type == "cuda"
    return {
        "code": {name: sha256(PACKAGE / f"{name}.py")[:12] for name in CODE},
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
        },
        "number_format": machine.number_format(device),
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
    }


def write(record: dict) -> None:
    """Record a run's results, atomically."""
    path = record_path(record["dataset"], record["model"], record["seed"])
    text = json.dumps(record, indent=1) + "\n"
    files.write_atomically(path, lambda temporary: temporary.write_text(text))


def read(dataset: str, name: str, seed: int = 0) -> dict:
    """Return the recorded results of a run.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that makes it.
        ValueError: the file is of another format version, or no JSON.
    """
    path = record_path(dataset, name, seed)
    if not path.exists():
        raise FileNotFoundError(_missing(f"record of {name} on {dataset}, seed {seed}", dataset, name, seed))
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): restore it from the repository") from error
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {record.get('format')}, this package reads {FORMAT}: use the package version that"
            f" wrote it, or measure again with: python -m qlayer_core evaluate {dataset} {name} --seed {seed}"
        )
    return record


def table(number: str, seed: int = 0) -> pd.DataFrame:
    """Return a table of the paper beside ours, one row a cell.

    Args:
        number: ``"1a"`` to ``"11"``.
        seed: whose results to show.

    Returns:
        Columns row, column, paper, ours, difference, low, high: accuracies in percent and the 95 % Wilson interval
        of ours. A cell that is not recorded has NaN.
    """
    if number not in paper.TABLES:
        raise ValueError(f"unknown table {number!r}; choose one of {', '.join(paper.TABLES)}")
    rows = []
    for cell in paper.TABLES[number].cells:
        ours = recorded_cell(cell, seed)
        low, high = evaluation.wilson(ours["correct"], ours["n"]) if ours else (None, None)
        accuracy = ours["accuracy"] if ours else None
        rows.append(
            {
                "row": cell.row,
                "column": cell.column,
                "paper": cell.accuracy,
                "ours": accuracy,
                "low": low,
                "high": high,
            }
        )
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("ours", "low", "high"), float))
    frame.insert(4, "difference", (frame.ours - frame.paper).round(2))
    return frame


def recorded_cell(cell: paper.Cell, seed: int = 0) -> dict | None:
    """Return our recorded cell for one of the paper's, or None if it is not recorded."""
    if not record_path(cell.dataset, cell.model, seed).exists():
        return None
    cells = read(cell.dataset, cell.model, seed)["cells"]
    return next((ours for ours in cells if paper.key(ours) == cell.key), None)


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _known(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    return dataset


def _missing(what: str, dataset: str, name: str, seed: int) -> str:
    return (
        f"There is no {what}. Make it with: python -m qlayer_core train {dataset} {name} --seed {seed} &&"
        f" python -m qlayer_core evaluate {dataset} {name} --seed {seed}"
    )
