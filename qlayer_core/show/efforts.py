"""How hard each attack of the ladder tries, in words."""

import re
from collections.abc import Iterator, Mapping

from qlayer_core.show import names
from qlayer_core.show.ladder import rung_name
from qlayer_core.show.page import Markup, folded, listed, typeset, upper
from qlayer_core.study import ladder

AUTOATTACK_QUERIES = 5000  # of its Square attack, Croce and Hein (2020)


def in_words(found: Mapping[str, dict]) -> Markup:
    """Return in words how much each attack of a network with the layer may try, and where it was another attack.

    Args:
        found: evaluations by model name, as `show.ladder.recorded` returns them.
    """
    steps = sorted({rung.options["iterations"] for rung in ladder.LAYER if "iterations" in rung.options})
    soft = sorted(set(re.findall(r"soft ([\d.]+)", " ".join(rung.surrogate or "" for rung in ladder.LAYER))))
    queries = next(rung.options["queries"] for rung in ladder.LAYER if rung.attack == "square")
    short, usual, long = steps
    few, many = (
        [
            rung_name(rung.name)
            for rung in ladder.LAYER
            if (rung.kind, rung.options.get("iterations")) == ("white-box", count)
        ]
        for count in (short, long)
    )
    says = (
        f"PGD and APGD: {usual} steps.",
        f"On images of other networks, and {listed(few)}: {short} steps (towards each class: {short} for each).",
        f"{upper(listed(many))}: {long} steps.",
        f"Soft codes: temperatures {listed(soft)}.",
        f"Square: {queries:,} questions per image; AutoAttack allows {AUTOATTACK_QUERIES:,}.",
        "Twice the steps and twice the starts are among the checks below.",
        *_earlier(found),
    )
    items = "".join(f"<li>{typeset(one)}</li>" for one in says)
    return folded("How hard each attack tries", Markup(f"<ul>{items}</ul>", " ".join(says)))


def _earlier(found: Mapping[str, dict]) -> Iterator[str]:
    """Yield in a sentence where a rung has kept what fooled its own path, and not, as now, what fools the Q-path."""
    whose: dict[str, list[str]] = {}
    for name, record in found.items():
        for cell in record["cells"]:
            surrogate = f"{cell['how']['surrogate']}{ladder.JUDGED}"
            again = cell | {"how": cell["how"] | {"surrogate": surrogate}}
            if not ladder.unchanged(name, cell) and ladder.unchanged(name, again):
                whose.setdefault(names.label(name), []).append(rung_name(cell["rung"]))
    rungs = {rung: None for some in whose.values() for rung in some}
    if whose:
        yield (
            f"On {listed([*whose])}, an earlier and weaker form of {listed([*rungs])}: it kept the image that fooled"
            " the path which it follows."
        )
