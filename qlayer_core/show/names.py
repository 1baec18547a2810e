"""One name and one look for each model, path, attack and setting, in all figures, tables and sliders.

Colours come from the palette of Okabe and Ito (2008), which people with any colour vision can tell apart. Each has
a contrast of at least 3:1 to a white and to a dark page; on its dark one the book makes them lighter, `VARIABLES`.
They are for bars, lines and markers; text needs more contrast and keeps the page's own colour. Colour is never the
only sign: the path shows in the line, adversarial training in the marker, and each curve has its name beside it.
"""

import re

import numpy as np

from qlayer_core.attacks import REGISTRY
from qlayer_core.specs import PRINTED

COLOURS = {"cnn": "#d55e00", "q-base": "#0072b2", "q-large": "#009e73", "q-inner": "#cc79a7"}
VARIABLES = {shade: f"var(--mark-{name}, {shade})" for name, shade in COLOURS.items()}  # on a page
NEUTRAL = "#767676"  # every other model, and whatever belongs to none
LINES = {None: "-", "q": "-", "e": "--", "shortcut": ":"}
MARKERS = {"cnn": "o", "q-base": "s", "q-large": "D", "q-inner": "^"}
CODES = ((0, 34, 78), (124, 123, 120), (254, 232, 56))  # of maps of codes: lightness alone tells them apart
MODELS = {
    "cnn": "CNN",
    "cnn-same-training": "CNN trained alike",
    "q-base": "Q-base",
    "q-large": "Q-large",
    "q-inner": "Q-inner",
    "q-large-shared": "Q-large with shared tails",
    "cnn-clean-selected": "CNN selected on clean images",
    "cnn-b": "CNN B",
    "q-base-b": "Q-base on CNN B",
    "squeezing": "feature squeezing",
    "one-hot": "one-hot encoding",
    "thermometer": "thermometer encoding",
    "randomised": "randomised discretisation",
}
DATASETS = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
PICTURES = {"mnist": "digits", "fashion-mnist": "garments"}  # what their images are
PATHS = {"q": "Q-path", "e": "E-path", "shortcut": "shortcut", "straight-through": "straight through"}
SETTINGS = {"black-box": "black box", "white-box": "white box"}
COMMITMENTS = {"squared": "as printed (squared)", "linear": "linear", "none": "none"}
UPDATES = {"pull": "1, pull", "reinitialize": "2, re-initialize"}  # strategies of section 3.5
DROPOUTS = {"off": "off", "front": "in front", "behind": "behind"}


def colour(name: str) -> str:
    """Return the colour of a model, ``#rrggbb``; its adversarially trained variant has the same."""
    return COLOURS.get(_raw(name), NEUTRAL)


def style(name: str, path: str | None = None) -> dict:
    """Return keyword arguments of `matplotlib.axes.Axes.plot` for a model's curve.

    Args:
        name: of the model, as in `study.experiments.RUNS`; one that is not among the four of `COLOURS` is grey.
        path: whose answer the curve shows: ``"q"`` has a solid line, ``"e"`` a dashed, ``"shortcut"`` a dotted
            one; None for a network without the layer. Markers are filled for raw training, open for adversarial.
    """
    shade = colour(name)
    return {
        "color": shade,
        "linestyle": LINES[_known(path)],
        "marker": MARKERS.get(_raw(name), "x"),
        "markerfacecolor": "none" if _raw(name) != name else shade,
        "markeredgecolor": shade,
    }


def code_colours(places: np.ndarray) -> np.ndarray:
    """Return the colours of codes, ``(..., 3)`` uint8, by their places ``(...)`` in [0, 1] on the ramp `CODES`.

    The place of a code is that of `codes.along_main_direction`.
    """
    channels = [np.interp(places, (0, 0.5, 1), channel) for channel in zip(*CODES, strict=True)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def label(name: str, path: str | None = None) -> str:
    """Return how the text calls a model: ``label("q-base-adv", "e")`` is ``"Q-base (adv. trained), E-path"``."""
    raw = _raw(name)
    called = MODELS.get(raw) or re.sub(r"q-k(\d+)-n(\d+)", r"K = \1 with \2 codes", raw)  # of Table 8
    training = ["adv. trained"] * name.endswith("-adv") + ["by the paper's text"] * (PRINTED in name)
    of = f" ({' '.join(training)})" if training else ""
    return f"{called}{of}, {PATHS[path]}" if _known(path) else called + of


def short(name: str) -> str:
    """Return how the text calls a network where its training has been named before."""
    return label(name.removesuffix("-adv"))


def inside(model: str) -> str:
    """Return a network's name inside a sentence that has said how it was trained: ``"the CNN"``."""
    return f"the {short(model)}" if model.startswith("cnn") else short(model)


def attack(words: str) -> str:
    """Return how the text calls an attack or a column of a table: ``"bim 0.2"`` is ``"BIM 0.2"``."""
    name, *rest = words.split()
    return " ".join((REGISTRY[name].label if name in REGISTRY else name, *rest))


def _raw(name: str) -> str:
    return name.removesuffix("-adv").removesuffix(PRINTED)


def _known(path: str | None) -> str | None:
    if path not in LINES:
        known = [one for one in LINES if one]
        raise ValueError(f"path is {path!r}; choose one of {', '.join(known)}, or None for a plain network")
    return path
