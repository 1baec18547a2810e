"""What the chapter on Fashion-MNIST shows: garments that an attack spoils, and which classes it fools first."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from torch import Tensor

from qlayer_core import attacks, checks, data, datasets
from qlayer_core.show import names, sanity, slides
from qlayer_core.show.page import Markup, listed
from qlayer_core.study import experiments, records


def first_of(labels: Tensor, classes: Sequence[int]) -> list[int]:
    """Return the place of the first image of each of these classes in ``labels``, ``(N,)`` int64."""
    return [int((labels == wanted).nonzero()[0]) for wanted in classes]


def strip(
    images: Tensor,
    what: Sequence[str],
    source: attacks.Model,
    epsilons: Sequence[float],
    notes: Mapping[float, str] | None = None,
) -> Markup:
    """Return images as an attacker leaves them, one row per epsilon: FGSM on ``source``, its own answers as labels.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        what: what each of them shows; empty strings where the reader is to guess.
        source: images to logits, the attacker's network.
        epsilons: L-infinity bounds, in [0, 1].
        notes: epsilon to what else is written below its row, plain text.

    Raises:
        ValueError: pixels outside [0, 1], a negative epsilon, or not one name per image.
    """
    checks.pixels(images)
    if len(what) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(what)} names; give one each")
    rows = ""
    for eps in epsilons:
        made = attacks.fgsm(source, images, eps=eps) if eps else images
        seen = f"{listed(what)}, " if all(what) else f"{len(images)} garments, "
        text = f"{seen}{f'attacked by FGSM with epsilon {eps:g}' if eps else 'clean'}."
        note = (notes or {}).get(eps, "")
        below = f"epsilon {eps:g}" + (f": {note}" if note else "")
        rows += (
            slides.montage(made[:, 0].numpy(), text, len(images), 36)
            + f"<p>{escape(below).replace(' %', '&nbsp;%')}</p>"
        )
    named = f"<p>From the left: {escape(listed(what))}.</p>" if all(what) else ""
    text = (
        f"Rows of {len(images)} garments, attacked with epsilon {listed([f'{eps:g}' for eps in epsilons])}."
    )
    return Markup(f'{slides.STYLE}<div class="ql">{named}{rows}</div>', text)


def notes(dataset: str = "fashion-mnist", models: Sequence[str] = experiments.TARGETS) -> dict[float, str]:
    """Return for each epsilon what the recorded networks still get right of the images that FGSM made blindly.

    Returns:
        Epsilon to for example ``"CNN 66.1, Q-base 70.3 % of the test images right"``: the deployed answers, mean over
        the seeds.
    """
    found: dict[float, list[str]] = {}
    for key, (epsilons, accuracies, _) in sanity.recorded_curves("black-box", dataset, models).items():
        name, path = (key, None) if isinstance(key, str) else key
        if path != "e":
            for eps, accuracy in zip(epsilons, accuracies, strict=True):
                found.setdefault(eps, []).append(f"{names.label(name)} {accuracy:.1f}")
    return {eps: f"{', '.join(parts)} % of the test images right" for eps, parts in found.items()}


def by_class(dataset: str, name: str) -> dict[str, dict[str, float]]:
    """Return how often a network is right for each class, clean and under FGSM made on CNN A, from its records.

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        name: of a model.

    Returns:
        ``"clean"`` and for example ``"fgsm 0.1"``, for the budgets of the paper that are recorded, to class name to
        accuracy in percent of the deployed answer, mean over the recorded seeds.
    """
    about = datasets.find(dataset)
    labels = data.load(dataset, "test").labels.numpy()
    path = None if experiments.spec(name).layer is None else "q"
    found: dict[str, list[list[float]]] = {}
    for cell in (cell for record in records.runs(dataset, name) for cell in record["cells"]):
        blind = (cell["attack"], cell["source"]) == ("fgsm", "cnn-a") and cell["eps"] in about.epsilons
        if cell["path"] == path and (blind or cell["setting"] == "clean"):
            right, truth = records.unpack(cell), labels[: cell["n"]]
            column = f"fgsm {cell['eps']:g}" if blind else "clean"
            rates = [100 * float(np.mean(right[truth == one])) for one in range(len(about.class_names))]
            found.setdefault(column, []).append(rates)
    return {  # clean first, then by epsilon
        column: dict(zip(about.class_names, np.mean(seeds, axis=0).tolist(), strict=True))
        for column, seeds in sorted(found.items())
    }
