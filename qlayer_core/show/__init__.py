"""What the chapters show: figures, tables, sliders. It may use the study and the core; neither uses it.

``from qlayer_core import show`` gives a module for each part of the book, listed below; `show.sliders` are the
explorers, and `show.plot`, `show.page` and `show.names` what all of them draw, write and name with.
"""

from qlayer_core.show import (
    attacks,
    challenge,
    disagreements,
    figure_2,
    found,
    gradients,
    keeping,
    ladder,
    layer,
    measuring,
    names,
    page,
    pixels,
    plot,
    results,
    sanity,
    sliders,
    speed,
    training,
    variants,
    verdict,
    why,
)

__all__ = [
    "attacks",
    "challenge",
    "disagreements",
    "figure_2",
    "found",
    "gradients",
    "keeping",
    "ladder",
    "layer",
    "measuring",
    "names",
    "page",
    "pixels",
    "plot",
    "results",
    "sanity",
    "sliders",
    "speed",
    "training",
    "variants",
    "verdict",
    "why",
]
