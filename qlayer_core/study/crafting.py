"""One attack's images, made on the attacked network, or on the attacker's own and kept for the next target."""

import dataclasses
import hashlib
import json
import warnings
from contextlib import nullcontext

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qlayer_core import attacks, baselines, evaluation, files
from qlayer_core.specs import Attack, RunSpec
from qlayer_core.study import experiments, fingerprint, records
from qlayer_core.study.making import at_a_time
from qlayer_core.study.records import Unit


def make(
    unit: Unit, model: nn.Module, images: Tensor, attack: Attack, progress: bool, *, keep: bool = True
) -> tuple[Tensor, bool, dict]:
    """Return an attack's images, whether they were kept from before, and what a cell says of their source.

    Without ``keep`` all are made anew, and nothing is written.
    """
    if attack.setting != "black-box":
        return white_box(model.eval(), images, attack, progress), False, {}  # where it draws, it begins anew
    made, kept, source = _black_box(unit.dataset, attack, images, progress, keep)
    return made, kept, {"source_sha256": source}


def white_box(model: nn.Module, images: Tensor, attack: Attack, progress: bool) -> Tensor:
    """Return the images that an attacker makes who sees the network, or its quantizer's surrogate."""
    how = {"batch_size": at_a_time(images.device), "progress": progress}
    if not isinstance(model, baselines.Defended):
        return evaluation.adversarial(model, images, attack, **how)
    seen = baselines.adaptive(model) if attack.attacked_path == "adaptive" else baselines.as_it_is(model)
    plain = dataclasses.replace(attack, attacked_path=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", attacks.UnmovedWarning)  # they are counted
        return evaluation.adversarial(seen, images, plain, **how)


def _black_box(
    dataset: str, attack: Attack, images: Tensor, progress: bool, keep: bool
) -> tuple[Tensor, bool, str]:
    """Return what the attacker's model makes of the test images, whether it was kept from before, and its weights.

    With ``keep`` they are kept under runs/ for the next target. Their file's name says of which weights they are
    made, and in which environment: a folder that machines share holds images of each.
    """
    source, record = records.load(dataset, experiments.SOURCES[attack.source])
    here = environment(attack, None, images.device)
    del here["threads"]  # the same images, on as many cores as are free
    digest = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:12]
    made_with = f"{record['weights_sha256'][:12]} {digest} {len(images)} images"
    path = files.RUNS / dataset / "black-box" / f"{attack} {made_with}.safetensors"
    how = {"batch_size": at_a_time(images.device), "progress": progress}
    # Evaluations that start together wait for the first, and read what it made.
    with files.alone(path.with_suffix(".lock")) if keep else nullcontext():
        if keep and path.exists():
            return load_file(path)["images"].to(images.device), True, record["weights_sha256"]
        made = evaluation.adversarial(source.to(images.device), images, attack, **how).contiguous()
        if keep:
            files.write_atomically(path, lambda temporary: save_file({"images": made}, temporary))
    return made, False, record["weights_sha256"]


def environment(attack: Attack, spec: RunSpec | None, device: torch.device) -> dict:
    """Return with what an attack's images are made, and scored by the network of ``spec``."""
    stage = fingerprint.stage_of(attack.attack)
    return records.environment(fingerprint.stages(spec, *([stage] if stage else [])), device)
