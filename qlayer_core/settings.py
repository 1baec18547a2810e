"""The settings that the paper leaves open, compared on validation images before anything was trained in full.

Each `VARIANT` is a short training whose best weights, by the mixed validation set, are scored on clean,
FGSM and BIM validation images made on validation-a. Test images are not touched. The table is kept in
``data/results/<data set>/settings/<variant>.json``; `experiments.RUNS` uses the settings that it supports.
"""

import json
from dataclasses import asdict, replace

import torch

from qlayer_core import attacks, data, evaluation, experiments, files, models, results, training
from qlayer_core.experiments import LayerSpec, RunSpec

EPOCHS = 3
IMAGES = 2000  # of each validation set; BIM is made for a quarter of them
DECAYS = (0.95, 0.5, 0.25)  # of the learning rate, an epoch
CHECKS = 3  # validations an epoch


def _variants() -> dict[str, RunSpec]:
    base = RunSpec("q-base", layer=LayerSpec(heads=1, gate_norm=True, dropout="before"), decay=0.95)
    found = {f"cnn-decay-{decay}": RunSpec("cnn", decay=decay) for decay in DECAYS}
    for heads, name in ((1, "base"), (4, "large")):
        for norm in (True, False):
            for dropout in ("before", "behind"):
                for decay in DECAYS:
                    layer = replace(base.layer, heads=heads, gate_norm=norm, dropout=dropout)
                    label = f"{name}-{'norm' if norm else 'plain'}-dropout-{dropout}-decay-{decay}"
                    found[label] = replace(base, name=f"q-{name}", layer=layer, decay=decay)
    spec = replace(base, layer=replace(base.layer, start="k-means"))
    found["base-k-means"] = spec
    found["base-reinitialize"] = replace(base, inactive="reinitialize")
    found["base-losses-0.01"] = replace(base, alpha=0.01, beta=0.01)
    return {label: replace(spec, epochs=EPOCHS, checks=CHECKS) for label, spec in found.items()}


VARIANTS = _variants()


def compare(dataset: str, label: str) -> dict:
    """Train one variant, score it on validation images, record the row and return it."""
    spec = VARIANTS[label]
    source, _ = results.load(dataset, experiments.VALIDATION_SOURCE)
    seed = experiments.seed_of(spec.name, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.q_net(**asdict(spec.layer)) if spec.layer else models.cnn()
    validation = training.validation_sets(dataset, source, limit=IMAGES)
    state = training.train(spec, model, data.load(dataset, "train"), validation, seed=seed)
    clean = data.Split(*(part[: IMAGES // 4] for part in validation["clean"]))
    bim = {}
    for eps in experiments.EPSILONS[dataset]:
        images = attacks.bim(source, clean.images, eps=eps)
        for path, correct in evaluation.correct_by_path(model, images, clean.labels).items():
            bim.setdefault(path or "e", {})[f"bim {eps}"] = 100 * correct.float().mean().item()
    row = {"variant": label, "spec": asdict(spec), "images": IMAGES, "chosen": state.best, "bim": bim}
    row |= {"history": state.history, "seconds": round(state.seconds, 1)}
    path = results.RESULTS / dataset / "settings" / f"{label}.json"
    files.write_atomically(path, lambda temporary: temporary.write_text(json.dumps(row, indent=1) + "\n"))
    return row
