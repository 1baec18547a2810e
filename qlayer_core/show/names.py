"""One look for each model across all figures and sliders: its colour, line, marker and name.

Colours come from the palette of Okabe and Ito (2008), which people with any colour vision can tell apart. Each has
a contrast of at least 3:1 to a white and to a dark page, so one set serves both modes. It is for bars, lines and
markers; text needs more contrast and keeps the page's own colour. Colour is never the only sign: the path shows
in the line, adversarial training in the marker, and each curve has its name beside it.
"""

COLOURS = {"cnn": "#d55e00", "q-base": "#0072b2", "q-large": "#009e73", "q-inner": "#cc79a7"}
NEUTRAL = "#767676"  # every other model, and whatever belongs to none
LINES = {None: "-", "q": "-", "e": "--", "shortcut": ":"}
MARKERS = {"cnn": "o", "q-base": "s", "q-large": "D", "q-inner": "^"}
NAMES = {"cnn": "CNN", "q-base": "Q-base", "q-large": "Q-large", "q-inner": "Q-inner"}
PATH_NAMES = {"q": "Q-path", "e": "E-path", "shortcut": "shortcut"}


def colour(name: str) -> str:
    """Return the colour of a model, ``#rrggbb``; its adversarially trained variant has the same."""
    return COLOURS.get(_raw(name), NEUTRAL)


def style(name: str, path: str | None = None) -> dict:
    """Return keyword arguments of `matplotlib.axes.Axes.plot` for a model's curve.

    Args:
        name: of the model, as in `experiments.RUNS`; one that is not among the four of `COLOURS` is grey.
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


def label(name: str, path: str | None = None) -> str:
    """Return how the text calls a model: ``label("q-base-adv", "e")`` is ``"Q-base, adv. trained, E-path"``."""
    parts = [NAMES.get(_raw(name), _raw(name))]
    if _raw(name) != name:
        parts.append("adv. trained")
    if _known(path):
        parts.append(PATH_NAMES[path])
    return ", ".join(parts)


def _raw(name: str) -> str:
    return name.removesuffix("-adv")


def _known(path: str | None) -> str | None:
    if path not in LINES:
        raise ValueError(
            f"path is {path!r}; choose one of {', '.join(PATH_NAMES)}, or None for a plain network"
        )
    return path
