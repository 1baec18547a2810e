"""What claims are judged by: comparisons of two recorded numbers, with an interval. The numbers are `measured`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import inf
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from qlayer_core import intervals
from qlayer_core.study import paper, records

OUTCOMES = ("holds", "undecided", "too little left", "fails", "not measured")
LITTLE = 5.0  # percent: where two networks keep no more, hardly any difference could show


@dataclass(frozen=True)
class Value:
    """One number that is or will be recorded: a cell of the tables, or what other studies measure.

    Settings beside those of cells: ``"worst case"`` over all attacks of the ladder, and ``"ladder"``, where `attack`
    is the name of a rung; ``"validation"``, where `attack` is a variant's name; ``"divergence"`` of the likelihoods
    of clean and attacked images, where `model` says of what and `attack` by which estimator.
    """

    dataset: str
    model: str
    setting: str
    attack: str
    eps: float = 0.0
    source: str | None = None
    attacked_path: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        """Return for example ``q-base black-box fgsm 0.2 cnn-a q``."""
        eps = f"{self.eps:g}" if self.eps else None
        words = (self.model, self.setting, self.attack, eps, self.source, self.attacked_path, self.path)
        return " ".join(word for word in words if word and word != "none")


FIELDS = tuple(field.name for field in fields(Value))


@dataclass(frozen=True)
class Comparison:
    """``first`` exceeds ``second`` by more than ``by`` points, at most ``most``; or, ``near``, is within ``by``."""

    first: Value
    second: Value
    by: float = 0.0
    near: bool = False
    published: tuple[float, float] | None = None  # the paper's own two numbers
    most: float = inf

    def __str__(self) -> str:
        """Return the comparison as words."""
        relation = f"within {self.by:g} of" if self.near else ">" + (f" {self.by:g} +" if self.by else "")
        slightly = f", by {self.most:g} at most" if self.most < inf else ""
        return f"{self.first} {relation} {self.second}{slightly}"

    def allows(self, gap: float) -> bool:
        """Return whether the two may lie so many points apart."""
        return abs(gap) <= self.by if self.near else self.by < gap <= self.most

    def in_the_paper(self) -> bool | None:
        """Return whether the paper's own numbers bear it out; None if it prints none."""
        if self.published is None:
            return None
        return self.allows(round(self.published[0] - self.published[1], 2))


@dataclass(frozen=True)
class Claim:
    """One statement of the paper, in our words."""

    name: str
    section: str
    sentence: str
    protocol: tuple[Comparison, ...] = ()
    strongest: tuple[Comparison, ...] = ()
    most: bool = False  # the paper says "generally" or "usually"
    note: str = ""  # what a reader of the verdict has to know


@dataclass(frozen=True)
class Outcome:
    """What our records say about a comparison: the mean difference over seeds, its interval, and the verdict."""

    comparison: Comparison
    result: str  # one of `OUTCOMES`
    first: float = float("nan")  # mean over seeds
    second: float = float("nan")
    low: float = float(
        "nan"
    )  # of the difference: ends of its 95 % interval or, of several, lowest and highest
    high: float = float("nan")
    seeds: int = 0  # of the network that has fewer
    pairs: int = 0  # of networks that were compared
    images: float = float("nan")  # of the seed that is of fewest; NaN where the numbers count no images
    over_seeds: tuple[float, float] | None = (
        None  # see `intervals.over_seeds`; None without two seeds of each
    )
    doubts: tuple[str, str] = ("", "")  # why either number is not to be relied on, see `Number`

    @property
    def difference(self) -> float:
        """By how much the first number is the larger, in points."""
        return self.first - self.second


class Number(NamedTuple):
    """A recorded number and its 95 % interval; of how many images, and which were right, where it counts images."""

    value: float
    low: float
    high: float
    n: int | None = None
    right: str = ""  # see `records.unpack`
    doubt: str = ""  # the sanity check that the attack failed, in words

    def first(self, n: int) -> "Number":
        """Return the same number of the first ``n`` images alone."""
        if n == self.n:
            return self
        bits = records.unpack({"n": self.n, "right": self.right})[:n]
        return counted(bits)._replace(doubt=self.doubt)


def counted(right: np.ndarray) -> Number:
    """Return the percentage of ``right``, ``(n,)`` bool, with its Wilson interval."""
    correct, n = int(right.sum()), len(right)
    return Number(
        100 * correct / n, *intervals.wilson(correct, n), n, records.pack(torch.from_numpy(right.copy()))
    )


def judge(comparison: Comparison, recorded: Mapping[Value, Mapping[int, Number]]) -> Outcome:
    """Compare two recorded numbers, over all pairs of seeds: see `opposed`.

    The comparison *holds* if every pair is on its side, and the whole `interval` of their mean difference. It *fails*
    if every pair and the whole interval are on the other side; else it is *undecided*. Where so little is left of
    both that neither could be so far ahead, that they are near to each other for that reason, or that an undecided
    comparison could hardly be decided, the outcome is *too little left*. A worst case that twice the effort still
    lowered is only an upper bound: where a lower number would turn the comparison, it is *undecided*.

    Args:
        comparison: what is claimed.
        recorded: numbers by seed, see `measured.numbers`.
    """
    values = comparison.first, comparison.second
    one_network = (values[0].dataset, values[0].model) == (values[1].dataset, values[1].model)
    both = opposed(*(recorded.get(value, {}) for value in values), by_seed=one_network)
    if not both:
        return Outcome(comparison, "not measured")
    gaps = [one.value - other.value for one, other in both]
    low, high = interval(both)
    holds = all(map(comparison.allows, (*gaps, low, high)))
    fails = not any(map(comparison.allows, gaps)) and _outside(comparison, low, high)
    result = "holds" if holds else "fails" if fails else "undecided"
    doubts = tuple(next((one.doubt for one in part if one.doubt), "") for part in zip(*both, strict=True))
    bounds = (value.setting == "worst case" and doubt for value, doubt in zip(values, doubts, strict=True))
    if any(
        bound and hangs
        for bound, hangs in zip(bounds, _hangs_on(comparison, result, mean(gaps)), strict=True)
    ):
        result = "undecided"
    floor = max(LITTLE, comparison.by) if result == "undecided" else comparison.by
    if values[0].setting != "divergence" and all(one.value <= floor for pair in both for one in pair):
        result = "too little left"
    means = (mean(number.value for number in part) for part in zip(*both, strict=True))
    images = min(number.n or float("nan") for pair in both for number in pair)
    ends = (low, high) if len(both) == 1 else (min(gaps), max(gaps))
    each = [len(recorded[value]) for value in values]
    # A single seed of one network has no spread to compare with.
    spread = _over_seeds(both, 1 if one_network else each[1]) if one_network or each[1] > 1 else None
    return Outcome(comparison, result, *means, *ends, min(each), len(both), images, spread, doubts)


def _hangs_on(comparison: Comparison, result: str, gap: float) -> tuple[bool, bool]:
    """Return of each of the two numbers whether an outcome might turn if it were lower."""
    if comparison.near and result == "holds":
        return True, True
    too_high = gap > (comparison.by if comparison.near else comparison.most)
    first = result == "holds" or (result == "fails" and too_high)
    return first, result == "fails" and not too_high


def _outside(comparison: Comparison, low: float, high: float) -> bool:
    """Return whether no difference between ``low`` and ``high`` is what is claimed."""
    least, most = (-comparison.by, comparison.by) if comparison.near else (comparison.by, comparison.most)
    return high < least or low > most


def turned_by_seeds(one: Outcome) -> bool:
    """Return whether the spread over several seeds is so wide that others might turn an outcome."""
    if one.over_seeds is None or one.result not in ("holds", "fails"):
        return False
    if one.result == "holds":
        return not all(map(one.comparison.allows, one.over_seeds))
    return not _outside(one.comparison, *one.over_seeds)


def _over_seeds(both: Sequence[tuple[Number, Number]], seeds: int) -> tuple[float, float] | None:
    """Return the interval of a difference over seeds, see `intervals.over_seeds`; None without two of each.

    Args:
        both: as `opposed` returns them.
        seeds: how many of the second number stand against each of the first; 1 where they come in pairs.
    """
    gaps = [one.value - other.value for one, other in both]
    if seeds == 1:
        first, second = gaps, ()
    else:
        first, second = [one.value for one, _ in both[::seeds]], [other.value for _, other in both[:seeds]]
    return intervals.over_seeds(first, second) if len(first) > 1 else None


def opposed(
    first: Mapping[int, Number], second: Mapping[int, Number], by_seed: bool = False
) -> list[tuple[Number, Number]]:
    """Return every seed of one network against every seed of another, all on the images that all of them are of.

    Equal seeds of two networks have nothing in common; where both numbers are of one network, ``by_seed``, they do.
    The first images are harder than most: who is of more is counted again.
    """
    every = [*first.values(), *second.values()]
    if every and all(number.right for number in every):
        n = min(number.n for number in every)
        first, second = ({seed: number.first(n) for seed, number in part.items()} for part in (first, second))
    seeds = product(sorted(first), sorted(second))
    return [(first[a], second[b]) for a, b in seeds if a == b or not by_seed]


def interval(both: Sequence[tuple[Number, Number]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference of pairs of numbers, over the images that were drawn.

    Image by image where it is known which of the same images were right; else the ends of each pair's interval,
    averaged, which is wide rather than narrow.
    """
    every = [number for pair in both for number in pair]
    if not all(number.right for number in every) or len({number.n for number in every}) > 1:
        ends = (intervals.difference(one[:3], other[:3]) for one, other in both)
        return tuple(mean(end) for end in zip(*ends, strict=True))
    bits = {one: records.unpack({"n": one.n, "right": one.right}).astype(float) for one in set(every)}
    gaps = sum(bits[one] - bits[other] for one, other in both) / len(both)
    return intervals.of_differences(gaps.sum(), (gaps * gaps).sum(), len(gaps))[1:]


def side_by_side(table: pd.DataFrame, first: str, second: str) -> dict[str, list[tuple[Number, Number]]]:
    """Return our numbers of two rows of a table by column, in pairs: see `opposed`.

    Args:
        table: as `tables.table` returns it.
        first: row.
        second: row.
    """
    found = {}
    for column, part in table.groupby("column", sort=False):
        one, other = (
            {
                row.seed: Number(row.ours, row.low, row.high, int(row.n), row.right)
                for row in part[(part.row == name) & part.ours.notna()].itertuples()
            }
            for name in (first, second)
        )
        found[column] = opposed(one, other)
    return found


# ---- from the paper's cells to ours ----


def recorded(cell: paper.Cell) -> Value:
    """Return what is recorded under the protocol by which the paper's cell came about.

    White-box FGSM and BIM through the E-path, or of a plain CNN, took the gradient of clipped probabilities, and C&W
    on a network with the layer attacked probabilities: see `attacks.losses` and `study.experiments`.
    """
    attack = cell.attack
    if cell.setting == "white-box":
        if attack in ("fgsm", "bim") and cell.attacked_path in (None, "e"):
            attack += "-clipped"
        elif attack == "cw" and cell.attacked_path is not None:
            attack = "cw-softmax"
    how = (cell.eps, cell.source, cell.attacked_path, cell.path)
    return Value(cell.dataset, cell.model, cell.setting, attack, *how)


def compare(first: paper.Cell, second: paper.Cell, **how: float) -> Comparison:
    """Return the comparison of two of the paper's cells, under its protocol; how: by, near, most."""
    one, other = recorded(first), recorded(second)
    # Two ways into one network are compared by the same gradient: the exact one, which more seeds have on both.
    if one.attacked_path != other.attacked_path and (one.setting, one.model) == (other.setting, other.model):
        one, other = (replace(value, attack=value.attack.removesuffix("-clipped")) for value in (one, other))
    return Comparison(one, other, published=(first.accuracy, second.accuracy), **how)


def worst_case(dataset: str, model: str, eps: float) -> Value:
    """Return what is left of a model under the worst of all attacks of the ladder, image by image."""
    return Value(dataset, model, "worst case", "ladder", eps)


def pairs(
    first: str, second: str, columns: str, by: float = 0.0, near: bool = False, most: float = inf
) -> tuple[Comparison, ...]:
    """Return comparisons of rows such as "1a q-base" and "1a cnn" in the columns "fgsm 0.2, bim 0.2"."""
    found = []
    for column in columns.split(", "):
        cells = (
            paper.TABLES[number].cell(row, column)
            for number, row in (first.split(" ", 1), second.split(" ", 1))
        )
        found.append(compare(*cells, by=by, near=near, most=most))
    return tuple(found)


def worst_cases(
    dataset: str, first: str, second: str, *epsilons: float, **how: float
) -> tuple[Comparison, ...]:
    """Return comparisons of the worst cases of two models; how: by, near, most."""
    both = ((worst_case(dataset, first, eps), worst_case(dataset, second, eps)) for eps in epsilons)
    return tuple(Comparison(*values, **how) for values in both)


def validation(first: str, second: str, *models: str, **how: float) -> tuple[Comparison, ...]:
    """Return comparisons of two variants of models by their validation score; how: by, near, most."""
    both = ([Value("mnist", model, "validation", name) for name in (first, second)] for model in models)
    return tuple(Comparison(*values, **how) for values in both)


def rungs(first: str, second: str, *models: str) -> tuple[Comparison, ...]:
    """Return comparisons of two rungs of the ladder, on MNIST at the epsilons of the tables."""
    return tuple(
        Comparison(*(Value("mnist", model, "ladder", name, eps) for name in (first, second)))
        for model in models
        for eps in (0.2, 0.3)
    )
