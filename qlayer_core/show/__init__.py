"""What the chapters show: figures, tables, sliders. It may use the study and the core; neither uses it.

``from qlayer_core import show`` gives a module for each part of the book: `show.attacks`, `show.layer`,
`show.training`, `show.variants`, `show.results`, `show.sanity` and `show.speed`; `show.sliders` are the explorers,
and `show.plot`, `show.page` and `show.names` what all of them draw, write and name with.
"""

from qlayer_core.show import (
    attacks,
    layer,
    names,
    page,
    plot,
    results,
    sanity,
    sliders,
    speed,
    training,
    variants,
)

__all__ = [
    "attacks",
    "layer",
    "names",
    "page",
    "plot",
    "results",
    "sanity",
    "sliders",
    "speed",
    "training",
    "variants",
]
