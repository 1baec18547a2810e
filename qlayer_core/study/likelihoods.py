"""Figure 2 as published and as it should be: how likely clean and attacked images are, as pixels and as codes.

One unit is one PixelCNN, over ``"pixels"`` or over the codes of a network with the layer. It learns the training
images, and scores every test image clean, attacked (FGSM made on the attackers' source-a, as in the black-box
tables) and with noise of the same size, each rounded to 256 values first, as a file or a camera would.

``data/results/<data set>/pixelcnn/<name>/seed<k>.json`` holds the log-likelihoods of all images and what follows from
them, see `describe`, images drawn from the model, and whether training was ``finished`` or paused before its end.
"""

import base64
import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from qlayer_core import checks, codes, data, datasets, evaluation, files, machine, pixelcnn
from qlayer_core.files import RESULTS, RUNS, WEIGHTS
from qlayer_core.models import QNet
from qlayer_core.pixelcnn import PixelCNN, Settings
from qlayer_core.study import experiments, records, scores
from qlayer_core.study.perturbations import EPSILONS, FIGURE_2, PERTURBATIONS, perturbed

FORMAT = 1
PIXELS, SETTINGS = "pixels", Settings()
SUBJECTS = (PIXELS, "q-base", "q-large")
SAMPLES = 16  # images drawn from each model


@dataclasses.dataclass(frozen=True)
class Unit:
    """One PixelCNN of one seed, and where it keeps what it makes; codes are always those of the network of seed 0."""

    dataset: str
    name: str = PIXELS
    seed: int = 0
    settings: Settings = SETTINGS

    def __post_init__(self):
        datasets.find(self.dataset)
        checks.seed(self.seed)
        if self.name != PIXELS and (
            self.name not in experiments.RUNS or experiments.spec(self.name).layer is None
        ):
            raise ValueError(f"name is {self.name!r}; give 'pixels' or a model with a layer, like 'q-base'")

    @property
    def record(self) -> Path:
        """Where the results are recorded; those of a trial, beside its weights."""
        if self.settings != SETTINGS:
            return self.folder / "record.json"
        return RESULTS / self.dataset / "pixelcnn" / self.name / f"seed{self.seed}.json"

    @property
    def folder(self) -> Path:
        """Where the run keeps its checkpoint and weights."""
        called = (
            self.name if self.settings == SETTINGS else f"{self.name}-trial"
        )  # it must not pass for a result
        return RUNS / self.dataset / "pixelcnn" / called / f"seed{self.seed}"

    @property
    def released(self) -> Path:
        """Where weights of seed 0 lie that chapters load."""
        return WEIGHTS / self.dataset / "pixelcnn" / f"{self.name}.safetensors"

    @property
    def weights(self) -> Path:
        """The weights: where the run left them, else released."""
        own = self.folder / "weights.safetensors"
        return own if own.exists() or self.seed != 0 else self.released

    def how(self) -> str:
        """Return the command that makes the unit."""
        return f"python -m qlayer_core likelihoods {self.dataset} {self.name} --seed {self.seed}"


def train(
    unit: Unit,
    *,
    limit: int | None = None,
    until: int | None = None,
    again: bool = False,
    report: Callable[[dict], None] = lambda row: None,
    progress: bool = False,
) -> dict:
    """Train the PixelCNN of a unit, or go on where an earlier call stopped, and record it; return the record.

    One whose training is recorded as finished, and whose weights are there, is not trained again.

    Args:
        unit: what to train.
        limit: only the first so many training and validation images: a trial, so only with settings of its own.
        until: pause after so many epochs.
        again: begin anew where what is recorded is of another network's codes, or where nothing is left to continue.
        report: called with each new row of the history.
        progress: show the batches of an epoch as they pass.
    """
    if limit is not None and unit.settings == SETTINGS:
        raise ValueError(
            f"limit is {limit}: a trial with the result's settings would pass for it; give the unit other ones"
        )
    if until is not None:
        checks.option("until", until)
    device = machine.device()
    network, network_sha256 = _network(unit, device, again)
    of = "" if network is None else f" of {network_sha256[:12]}"  # whose codes are learned
    checkpoint = unit.folder / f"checkpoint{of}.pt"
    if unit.record.exists() and not checkpoint.exists():
        before = read(unit)
        if before["network_sha256"] == network_sha256 and before["finished"] and unit.weights.exists():
            return before
        if before["sets"] and not again:
            raise ValueError(
                f"{unit.record} holds {len(before['sets'])} scored sets, and nothing is left of that training to"
                f" continue. Another one would replace them. If you want that, say so: {unit.how()} --again"
            )
    train_set, validation_set = (
        encode(network, data.load(unit.dataset, split, limit=limit).images.to(device))
        for split in ("train", "validation")
    )
    model = _untrained(unit, network).to(device)
    state = pixelcnn.train(
        model,
        train_set,
        validation_set,
        seed=machine.seed_of(f"pixelcnn/{unit.name}", unit.seed),
        checkpoint=checkpoint,
        until=until,
        report=report,
        progress=progress,
    )
    weights = unit.folder / "weights.safetensors"
    records.save_weights(model, weights)
    record = {
        "format": FORMAT,
        "dataset": unit.dataset,
        "name": unit.name,
        "seed": unit.seed,
        "settings": dataclasses.asdict(unit.settings),
        "symbols": {"heads": model.heads, "values": model.values, "side": list(train_set.shape[2:])},
        "network_sha256": network_sha256,
        "environment": records.environment(("pixelcnn", "steps"), device),
        "seconds": {"training": round(state.seconds, 1)},
        "history": state.history,
        "chosen": state.best,
        "finished": state.over(unit.settings.epochs, unit.settings.patience),
        "bits": {
            "uniform": math.log2(model.values),
            "independent": codes.independent_bits(train_set, validation_set, model.values),
            "model": state.best["bits"]["validation"],
        },
        "weights_sha256": files.sha256(weights),
        "sets": {},
        "statistics": [],
    }
    if unit.record.exists():
        before = read(unit)
        if all(before[name] == record[name] for name in ("weights_sha256", "network_sha256")):
            # What was measured is of these weights.
            seconds = before["seconds"] | record["seconds"]
            record = before | {name: record[name] for name in ("history", "finished")} | {"seconds": seconds}
    _write(unit, record)
    return record


def measure(
    unit: Unit,
    *,
    limit: int | None = None,
    report: Callable[[dict], None] = lambda row: None,
    progress: bool = False,
) -> dict:
    """Score all sets of test images that are not recorded yet, then draw samples; return the record.

    Args:
        unit: what scores.
        limit: only the first so many test images, unless more are recorded; a set of all takes an eighth of an epoch.
        report: called with what `scores.describe` says of each new set.
        progress: show the batches as they pass.
    """
    device = machine.device()
    model, network, record = load(unit, device)
    if limit is not None:
        limit = max(limit, record["sets"].get("clean", {}).get("n", 0))
    clean, labels = data.load(unit.dataset, "test", limit=limit).to(device)
    symbols = encode(network, clean)
    for name in set_names(unit):
        if record["sets"].get(name, {}).get("n") == len(clean):
            continue
        started = time.perf_counter()
        images = clean if name == "clean" else perturbed(unit.dataset, clean, *name.split()[-2:])
        scored, context, facts = symbols, None, {}
        if name.startswith("published"):  # the model sees the attacked image, in [0, 1] where 0 to 255 is due
            context = pixelcnn.seen(images[:, 0]).permute(0, 3, 1, 2)
        elif name.startswith("crossed"):  # the same on the scale that the model knows
            context = model.inputs(encode(network, images))
        else:
            scored = encode(network, images)
            facts["changed"] = 100 * (scored != symbols).float().mean().item()
            if network is not None:
                right = evaluation.correct_by_path(network, images, labels, full_precision=True)["q"]
                facts["accuracy"] = 100 * right.float().mean().item()
        found = pixelcnn.log_likelihood(model, scored, context, progress=progress)
        record["sets"][name] = new = {"n": len(found), "log_likelihoods": scores.pack(found)} | facts
        row, seconds = scores.describe(record, name), round(time.perf_counter() - started, 1)
        with files.alone(unit.folder / "lock"):  # reading, changing and writing in one go
            record = _now(unit, record)
            if record["sets"].get("clean", {}).get("n", 0) > len(clean):  # another call scores more images
                return record
            record["sets"][name], record["seconds"][name] = new, seconds
            record["statistics"] = [one for one in record["statistics"] if one["set"] != name] + [row]
            _write(unit, record)
        report(row)
    if "samples" not in record:
        draws = torch.Generator().manual_seed(unit.seed)
        drawn = pixelcnn.sample(model, SAMPLES, tuple(symbols.shape[2:]), draws).cpu().numpy()
        with files.alone(unit.folder / "lock"):
            record = _now(unit, record) | {"samples": base64.b64encode(drawn.tobytes()).decode()}
            _write(unit, record)
    return record


def _now(unit: Unit, record: dict) -> dict:
    """Return the record as it is now: while images were scored, another call may have added to it."""
    now = read(unit)
    if now["weights_sha256"] != record["weights_sha256"]:
        raise ValueError(f"{unit.name} was trained further while it scored: start again with: {unit.how()}")
    return now


def release(unit: Unit) -> None:
    """Copy the weights of seed 0 to where chapters find them."""
    if unit.seed != 0:
        raise ValueError(f"seed is {unit.seed}; only seed 0 is released")
    own = unit.folder / "weights.safetensors"
    if not own.exists():
        raise FileNotFoundError(f"{own} is missing. Make it with: {unit.how()}")
    files.write_atomically(unit.released, lambda temporary: shutil.copyfile(own, temporary))


def read(unit: Unit) -> dict:
    """Return the record of a unit.

    Raises:
        FileNotFoundError: nothing is recorded, with the command that makes it.
        ValueError: the file is of another format version, or damaged.
    """
    if not unit.record.exists():
        raise FileNotFoundError(f"{unit.record} is missing. Make it with: {unit.how()}")
    record = files.read_json(unit.record)
    if record.get("format") != FORMAT:
        raise ValueError(f"{unit.record} has format {record.get('format')}, this package reads {FORMAT}")
    return record


def recorded(dataset: str, name: str) -> list[Unit]:
    """Return the PixelCNNs that are recorded over a network's codes, one per seed, in their order."""
    found = (RESULTS / dataset / "pixelcnn" / name).glob("seed*.json")
    return [Unit(dataset, name, seed) for seed in sorted(map(files.seed_of, found))]


def load(unit: Unit, device: torch.device | str = "cpu") -> tuple[PixelCNN, QNet | None, dict]:
    """Return the trained PixelCNN, the network whose codes it models (None for pixels), and the record.

    Raises:
        FileNotFoundError: weights or record are missing.
        ValueError: they don't belong together.
    """
    record = read(unit)
    if not unit.weights.exists():
        raise FileNotFoundError(f"{unit.weights} is missing. Make it with: {unit.how()}")
    if files.sha256(unit.weights) != record["weights_sha256"]:
        raise ValueError(f"{unit.weights} is not the file that was measured: start again with: {unit.how()}")
    network, _ = _network(unit, device)
    settings = Settings(**record["settings"])
    model = _untrained(dataclasses.replace(unit, settings=settings), network)
    return records.load_weights(model, unit.weights).to(device), network, record


def set_names(unit: Unit) -> list[str]:
    """Return the sets of images that are scored, such as ``"clean"``, ``"fgsm 0.4"``, ``"published fgsm 0.4"``."""
    names = ["clean", *(f"{kind} {eps:g}" for kind in PERTURBATIONS for eps in EPSILONS)]
    if unit.name == PIXELS:
        names += [f"{how} fgsm {FIGURE_2:g}" for how in ("crossed", "published")]
    return names


@torch.no_grad()
def encode(network: QNet | None, images: Tensor, batch_size: int = 256) -> Tensor:
    """Return symbols ``(N, heads, H, W)`` uint8 of images: their codes, or their pixels for no network."""
    if network is None:
        return pixelcnn.as_symbols(images)
    found = []
    with torch.autocast(images.device.type, enabled=False):
        for batch in images.split(batch_size):
            indices = network.layer.nearest(network.layer.project(network.encoder(batch)))
            found.append(indices.transpose(0, 1).to(torch.uint8))
    return torch.cat(found)


def _network(unit: Unit, device: torch.device | str, again: bool = False) -> tuple[QNet | None, str | None]:
    """Return the network whose codes are modelled and the sha256 of its weights; None and None for pixels."""
    if unit.name == PIXELS:
        return None, None
    network, about = records.load(unit.dataset, unit.name)
    if not again and unit.record.exists() and read(unit)["network_sha256"] != about["weights_sha256"]:
        raise ValueError(
            f"{unit.name} has been trained anew since this PixelCNN learned its codes. To train another one, which"
            f" replaces {unit.record}, say so: {unit.how()} --again"
        )
    return network.to(device), about["weights_sha256"]


def _untrained(unit: Unit, network: QNet | None) -> PixelCNN:
    with machine.seeded(machine.seed_of(f"pixelcnn/{unit.name}", unit.seed)):
        if network is None:
            return pixelcnn.over_pixels(unit.settings)
        return pixelcnn.over_codes(network.layer, unit.settings)


def _write(unit: Unit, record: dict) -> None:
    files.write_json(unit.record, record)
