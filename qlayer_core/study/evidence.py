"""What claims are judged by: every recorded number in one frame, and comparisons of two of them with an interval."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from math import inf
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from qlayer_core import datasets, intervals
from qlayer_core.study import adaptive, ladder, paper, records, tables, variants

OUTCOMES = ("holds", "undecided", "fails", "not measured")


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
COLUMNS = (*FIELDS, "seed", "value", "low", "high", "n", "right")


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
    images: float = float("nan")  # of the seed that is of fewest; NaN where the numbers count no images

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

    def first(self, n: int) -> "Number":
        """Return the same number of the first ``n`` images alone."""
        if n == self.n:
            return self
        bits = records.unpack({"n": self.n, "right": self.right})[:n]
        return counted(bits)


def counted(right: np.ndarray) -> Number:
    """Return the percentage of ``right``, ``(n,)`` bool, with its Wilson interval."""
    correct, n = int(right.sum()), len(right)
    return Number(
        100 * correct / n, *intervals.wilson(correct, n), n, records.pack(torch.from_numpy(right.copy()))
    )


def judge(comparison: Comparison, recorded: Mapping[Value, Mapping[int, Number]]) -> Outcome:
    """Compare two recorded numbers, over all pairs of seeds: see `opposed`.

    The comparison *holds* if every pair is on its side, and the whole `interval` of their difference, its ends
    averaged over the pairs: that of one pair, wide rather than narrow. It *fails* if every pair and the whole
    interval are on the other side; else it is *undecided*, also where so little is left of both that neither could
    be so far ahead.

    Args:
        comparison: what is claimed.
        recorded: numbers by seed, see `numbers`.
    """
    values = comparison.first, comparison.second
    one_network = (values[0].dataset, values[0].model) == (values[1].dataset, values[1].model)
    both = opposed(*(recorded.get(value, {}) for value in values), by_seed=one_network)
    if not both:
        return Outcome(comparison, "not measured")
    gaps = [one.value - other.value for one, other in both]
    low, high = (mean(end) for end in zip(*(interval(*pair) for pair in both), strict=True))
    least, most = (-comparison.by, comparison.by) if comparison.near else (comparison.by, comparison.most)
    holds = all(map(comparison.allows, (*gaps, low, high)))
    fails = not any(map(comparison.allows, gaps)) and (high < least or low > most)
    if not comparison.near and high < least:
        fails &= not all(max(one.value, other.value) <= comparison.by for one, other in both)
    result = "holds" if holds else "fails" if fails else "undecided"
    means = (mean(number.value for number in part) for part in zip(*both, strict=True))
    images = min(number.n or float("nan") for pair in both for number in pair)
    ends = (low, high) if len(both) == 1 else (min(gaps), max(gaps))
    return Outcome(comparison, result, *means, *ends, min(len(recorded[value]) for value in values), images)


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


def interval(one: Number, other: Number) -> tuple[float, float]:
    """Return the 95 % interval of ``one - other``: in pairs where it is known which of the same images were right."""
    if not (one.right and other.right and one.n == other.n):
        return intervals.difference(one[:3], other[:3])
    a, b = (records.unpack({"n": number.n, "right": number.right}) for number in (one, other))
    _, low, high = intervals.paired(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
    return low, high


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


def numbers(frame: pd.DataFrame) -> dict[Value, dict[int, Number]]:
    """Return a frame with the columns `COLUMNS` as a number per value and seed."""
    found: dict[Value, dict[int, Number]] = {}
    for row in frame.to_dict("records"):
        value = Value(**{name: None if pd.isna(row[name]) else row[name] for name in FIELDS})
        n, right = (None if pd.isna(row[name]) else row[name] for name in ("n", "right"))
        number = Number(row["value"], row["low"], row["high"], n and int(n), right or "")
        found.setdefault(value, {})[row["seed"]] = number
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
    # Two ways into one network are compared by the same gradient, and by the shortcut only the exact one is measured.
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


# ---- everything that is recorded ----


def frame() -> pd.DataFrame:
    """Return all recorded numbers that a claim may rest on: columns `COLUMNS`; percent, or nats for divergences.

    ``n`` is the number of images, None where a number is not a share of images; ``right`` says which were right,
    where that is recorded.
    """
    rows = [*_cells(), *_ladders(), *_variants(), *_divergences()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"eps": float, "value": float})


def _row(
    value: Value, seed: int, number: float, low: float, high: float, n: int | None = None, right: str = ""
) -> dict:
    numbers = {"value": number, "low": low, "high": high, "n": n, "right": right or None}
    return asdict(value) | {"seed": seed} | numbers


def _counted(value: Value, seed: int, correct: int, n: int, right: str = "") -> dict:
    return _row(value, seed, 100 * correct / n, *intervals.wilson(correct, n), n, right)


def _cells() -> Iterator[dict]:
    for row in tables.cells().to_dict("records"):
        value = Value(**{name: None if pd.isna(row[name]) else row[name] for name in FIELDS})
        yield _counted(value, row["seed"], int(row["correct"]), int(row["n"]), row["right"])


def _ladders() -> Iterator[dict]:
    for record in adaptive.recorded():
        dataset, model, seed = (record[name] for name in ("dataset", "model", "seed"))
        for cell in record["cells"]:
            rung = Value(dataset, model, "ladder", cell["rung"], cell["eps"])
            yield _counted(rung, seed, cell["correct"], cell["n"], cell["right"])
        if ladder.complete(record):
            for eps in sorted({cell["eps"] for cell in record["cells"]}):
                left = counted(adaptive.worst(record, eps))
                yield _row(worst_case(dataset, model, eps), seed, *left)


def _variants() -> Iterator[dict]:
    """Mixed validation scores: percentages of 10,000 images, each clean and attacked."""
    for dataset, (model, changes), seed in product(
        datasets.DATASETS, variants.STUDIED.items(), variants.SEEDS
    ):
        for change in changes:
            record = variants.recorded(variants.unit(dataset, model, change, seed))
            if record and record.get("chosen"):
                value = Value(dataset, model, "validation", change)
                yield _counted(value, seed, round(100 * record["chosen"]["score"]), 10_000)


def _divergences() -> Iterator[dict]:
    for dataset in datasets.DATASETS:
        for path in sorted((records.RESULTS / dataset / "pixelcnn").glob("*/seed*.json")):
            record = json.loads(path.read_text())
            for row in record["statistics"]:
                attack, *rest = row["set"].rsplit(" ", 1)
                if not rest:
                    continue
                for estimator in ("kl published", "kl histogram", "kl gaussian"):
                    number = row[estimator]
                    ends = number if isinstance(number, list) else [number] * 3
                    how = f"{attack} {estimator}"
                    value = Value(dataset, record["name"], "divergence", how, float(rest[0]))
                    yield _row(value, record["seed"], *ends)
