"""Does the fast number format change what is claimed? Attacks and training in it and in float32.

python benchmarks/agreement.py      agreement.json beside this file, in about 20 minutes on one core

It needs a machine whose own choice is a faster format than float32; elsewhere there is nothing to compare.

The attacks are those of the paper's tables, on all test images where they are quick and on the first 1,000 where they
are not; training is one epoch with three seeds, scored on the clean validation set.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from qlayer_core import data, evaluation, fast, files, machine, models, training
from qlayer_core.specs import Attack
from qlayer_core.study import experiments, records

FORMATS = ("auto", "float32")
NETWORKS = ("cnn", "q-base", "q-large")
ATTACKS = [  # name, epsilon, images: of 1,000, chance alone moves half a point
    ("none", 0.0, 10_000),
    ("fgsm", 0.2, 10_000),
    ("fgsm", 0.3, 10_000),
    ("bim", 0.2, 1000),
    ("cw", 0.2, 1000),
]


def white_box(name: str, attack: str, eps: float, count: int) -> dict:
    """Return the accuracy of each path under a white-box attack, by number format."""
    model, _ = records.load("mnist", name)
    images, labels = data.load("mnist", "test", limit=count)
    made = Attack("white-box", attack, eps)
    row = {"model": name, "attack": attack, "eps": eps, "images": count}
    for number_format in FORMATS:
        os.environ["QLAYER_PRECISION"] = number_format
        cells = evaluation.cells(model, evaluation.adversarial(model, images, made), labels, made)
        row[number_format] = {cell["path"] or "": cell["accuracy"] for cell in cells}
    return row


def trained(name: str) -> dict:
    """Return the validation accuracy that short trainings reach, one a seed, by number format."""
    spec = replace(experiments.spec(name), epochs=1, selection="clean")
    train_set = data.load("mnist", "train")
    validation = {"clean": data.load("mnist", "validation")}
    row: dict = {"model": name}
    for number_format in FORMATS:
        os.environ["QLAYER_PRECISION"] = number_format
        row[number_format] = [
            training.train(spec, models.build(spec, seed), train_set, validation, seed=seed).best["score"]
            for seed in range(3)
        ]
    return row


def main() -> None:
    """Measure and write ``agreement.json``."""
    if machine.number_format() == "float32":
        raise SystemExit(
            "This machine computes in float32 by its own choice: there is no fast format to compare."
        )
    fast.keep_memory()
    torch.set_num_threads(1)
    found = {
        "number_format": machine.number_format(),
        "weights": {
            name: records.read_unit(records.unit("mnist", name))["weights_sha256"] for name in NETWORKS
        },
        "attacks": [white_box(name, *attack) for name in NETWORKS for attack in ATTACKS],
        "training": [trained(name) for name in ("cnn", "q-base")],
    }
    files.write_json(Path(__file__).with_suffix(".json"), found)


if __name__ == "__main__":
    main()
