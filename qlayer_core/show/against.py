"""What all attacks leave of the layer's network beside a plain one: as outcomes, and with other settings in words."""

from collections.abc import Iterable

import pandas as pd

from qlayer_core.show.page import listed, whole
from qlayer_core.study import evidence, experiments, measured, variants
from qlayer_core.study.evidence import Comparison, Outcome, worst_case
from qlayer_core.study.statements import MUCH

LAYER, PLAIN = "q-base", "cnn"
SMALL = (0.1, 0.2)  # epsilons at which something is left to compare
WITH_IT = {  # of the layer's network with dropout, by `direction`
    "helps": "it is ahead",
    "harms": "it is still behind",
    "neither": "the two cannot be told apart",
    "both": "it is ahead at one budget and behind at the other",
    "luck": "the training run decides which is ahead",
}


def against_all(
    frame: pd.DataFrame, training: str = "", layer: str | None = None, plain: str = PLAIN
) -> list[Outcome]:
    """Return what is measured of the layer's network beside a plain one, under all attacks."""
    layer, plain = layer or f"{LAYER}{training}", f"{plain}{training}"
    pairs = [Comparison(worst_case("mnist", layer, eps), worst_case("mnist", plain, eps)) for eps in SMALL]
    return known_of(outcomes(pairs, frame))


def outcomes(comparisons: Iterable[Comparison], frame: pd.DataFrame) -> list[Outcome]:
    """Judge comparisons by the recorded numbers of a frame."""
    numbers = measured.numbers(frame)
    return [evidence.judge(comparison, numbers) for comparison in comparisons]


def known_of(found: list[Outcome]) -> list[Outcome]:
    """Return those that are measured."""
    return [one for one in found if one.result != "not measured"]


def direction(known: list[Outcome]) -> str:
    """Return whether the layer clearly "helps", "harms", does "both" at one budget each, or "neither".

    "luck", where nothing is clear because seeds lie far apart.
    """
    better, worse = (any(one.result == result for one in known) for result in ("holds", "fails"))
    if not (better or worse):
        return "luck" if any(map(hangs, known)) else "neither"
    return "both" if better and worse else "helps" if better else "harms"


def hangs(one: Outcome) -> bool:
    """Return whether it is another seed, rather than a small difference, that leaves an outcome undecided."""
    return one.result == "undecided" and one.pairs > 1 and one.high - one.low > MUCH


def networks(frame: pd.DataFrame, model: str) -> str:
    """Return in words how many trained networks of a model have climbed the ladder."""
    mine = (frame.dataset == "mnist") & (frame.model == model) & (frame.setting == "worst case")
    n = frame[mine].seed.nunique()
    return "one network" if n == 1 else f"mean of {n} networks"


def by_the_text(frame: pd.DataFrame) -> str:
    """Return as a sentence what is left of the network that is trained by the paper's text; "" if not measured."""
    other = experiments.printed(f"{LAYER}-adv")
    known = against_all(frame, "-adv", other)
    if not known:
        return ""
    return (
        "The book's setting for this training departs from the paper's text. Trained by the text,"
        f" {_left(frame, other, known)}."
    )


def with_dropout(frame: pd.DataFrame, training: str, own: str) -> tuple[str, str]:
    """Return what the layer does with dropout behind it, as the end of a first sentence and as one with its numbers.

    Both are "" if it is not measured, and the first also where ``own``, the `direction` without, says the same.
    """
    other = variants.later(f"{LAYER}{training}")
    known = against_all(frame, training, other)
    if not known:
        return "", ""
    found = direction(known)
    end = "" if found == own else f"; with dropout behind the layer, {WITH_IT[found]}"
    return end, (
        "With dropout behind the layer, which scores best on validation images,"
        # Not all of these networks have climbed the ladder's last rung.
        f" {_left(frame, other, known, 'at most ')}: then {WITH_IT[found]}."
    )


def _left(frame: pd.DataFrame, other: str, known: list[Outcome], bound: str = "") -> str:
    """Return in words what is left of a network of another setting, and of the plain one."""
    kept, bare = (listed([whole(getattr(one, which)) for one in known]) for which in ("first", "second"))
    where = listed([f"{one.comparison.first.eps:g}" for one in known])
    return (
        f"the network with the layer keeps {bound}{kept} of 100 digits at {where} ({networks(frame, other)}), and"
        f" the plain one {bare}"
    )
