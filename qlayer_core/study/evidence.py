"""What claims are judged by: every recorded number in one frame, and comparisons of two of them with an interval."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import product
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from qlayer_core import datasets, intervals
from qlayer_core.study import adaptive, experiments, ladder, paper, records, tables, variants

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
    """``first`` exceeds ``second`` by more than ``by`` points; or, where ``near``, differs by ``by`` at most."""

    first: Value
    second: Value
    by: float = 0.0
    near: bool = False
    published: tuple[float, float] | None = None  # the paper's own two numbers

    def __str__(self) -> str:
        """Return the comparison as words."""
        relation = f"within {self.by:g} of" if self.near else ">" + (f" {self.by:g} +" if self.by else "")
        return f"{self.first} {relation} {self.second}"

    def in_the_paper(self) -> bool | None:
        """Return whether the paper's own numbers bear it out; None if it prints none."""
        if self.published is None:
            return None
        gap = round(self.published[0] - self.published[1], 2)
        return abs(gap) <= self.by if self.near else gap > self.by


@dataclass(frozen=True)
class Outcome:
    """What our records say about a comparison: the mean difference over seeds, its interval, and the verdict."""

    comparison: Comparison
    result: str  # one of `OUTCOMES`
    first: float = float("nan")  # mean over seeds
    second: float = float("nan")
    low: float = float("nan")  # of the difference
    high: float = float("nan")
    seeds: int = 0
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
        bits = records.unpack({"n": self.n, "right": self.right})[:n]
        return counted(bits)


def counted(right: np.ndarray) -> Number:
    """Return the percentage of ``right``, ``(n,)`` bool, with its Wilson interval."""
    correct, n = int(right.sum()), len(right)
    return Number(
        100 * correct / n, *intervals.wilson(correct, n), n, records.pack(torch.from_numpy(right.copy()))
    )


def judge(comparison: Comparison, recorded: Mapping[Value, Mapping[int, Number]]) -> Outcome:
    """Compare two recorded numbers, over all seeds that both have.

    Where one is of more images, it is counted again on those that both are of: the first are harder than most. The
    ends of the difference's `interval` are averaged over the seeds: that of one seed, wide rather than narrow. The
    comparison *holds* if the whole interval is on its side and every seed is; it *fails* if the whole interval is on
    the other side and every seed is; else it is *undecided*, also where so little is left of both that neither could
    be so far ahead.

    Args:
        comparison: what is claimed.
        recorded: numbers by seed, see `numbers`.
    """
    first, second = (recorded.get(value, {}) for value in (comparison.first, comparison.second))
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return Outcome(comparison, "not measured")
    both = [_of_the_same_images(first[seed], second[seed]) for seed in seeds]
    ends = [interval(one, other) for one, other in both]
    low, high = (mean(end) for end in zip(*ends, strict=True))
    gaps = [one.value - other.value for one, other in both]
    if comparison.near:
        inside = [abs(gap) <= comparison.by for gap in gaps]
        holds = all(inside) and -comparison.by <= low and high <= comparison.by
        fails = not any(inside) and (low > comparison.by or high < -comparison.by)
    else:
        beyond = [gap > comparison.by for gap in gaps]
        holds = all(beyond) and low > comparison.by
        fails = not any(beyond) and high < comparison.by
        fails &= not all(max(one.value, other.value) <= comparison.by for one, other in both)
    result = "holds" if holds else "fails" if fails else "undecided"
    means = (mean(number.value for number in part) for part in zip(*both, strict=True))
    images = min(number.n or float("nan") for pair in both for number in pair)
    return Outcome(comparison, result, *means, low, high, len(seeds), images)


def interval(one: Number, other: Number) -> tuple[float, float]:
    """Return the 95 % interval of ``one - other``: in pairs where it is known which of the same images were right."""
    if not (one.right and other.right and one.n == other.n):
        return intervals.difference(one[:3], other[:3])
    a, b = (records.unpack({"n": number.n, "right": number.right}) for number in (one, other))
    _, low, high = intervals.paired(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
    return low, high


def _of_the_same_images(one: Number, other: Number) -> tuple[Number, Number]:
    if not (one.right and other.right) or one.n == other.n:
        return one, other
    n = min(one.n, other.n)
    return one.first(n), other.first(n)


def side_by_side(table: pd.DataFrame, first: str, second: str) -> dict[str, list[tuple[Number, Number]]]:
    """Return our numbers of two rows of a table by column: a pair per seed that both have, of the same images.

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
        found[column] = [_of_the_same_images(one[seed], other[seed]) for seed in sorted(one.keys() & other)]
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


def compare(first: paper.Cell, second: paper.Cell, by: float = 0.0, near: bool = False) -> Comparison:
    """Return the comparison of two of the paper's cells, under its protocol."""
    return Comparison(recorded(first), recorded(second), by, near, (first.accuracy, second.accuracy))


def worst_case(dataset: str, model: str, eps: float) -> Value:
    """Return what is left of a model under the worst of all attacks of the ladder, image by image."""
    return Value(dataset, model, "worst case", "ladder", eps)


def pairs(
    first: str, second: str, columns: str, by: float = 0.0, near: bool = False
) -> tuple[Comparison, ...]:
    """Return comparisons of rows such as "1a q-base" and "1a cnn" in the columns "fgsm 0.2, bim 0.2"."""
    found = []
    for column in columns.split(", "):
        cells = (
            paper.TABLES[number].cell(row, column)
            for number, row in (first.split(" ", 1), second.split(" ", 1))
        )
        found.append(compare(*cells, by=by, near=near))
    return tuple(found)


def worst_cases(
    dataset: str, first: str, second: str, *epsilons: float, by: float = 0.0, near: bool = False
) -> tuple[Comparison, ...]:
    """Return comparisons of the worst cases of two models."""
    return tuple(
        Comparison(worst_case(dataset, first, eps), worst_case(dataset, second, eps), by, near)
        for eps in epsilons
    )


def validation(
    first: str, second: str, *models: str, by: float = 0.0, near: bool = False
) -> tuple[Comparison, ...]:
    """Return comparisons of two variants of models by their validation score."""
    return tuple(
        Comparison(*(Value("mnist", model, "validation", name) for name in (first, second)), by, near)
        for model in models
    )


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
        if complete(record):
            for eps in sorted({cell["eps"] for cell in record["cells"]}):
                left = counted(adaptive.worst(record, eps))
                yield _row(worst_case(dataset, model, eps), seed, *left)


def complete(record: dict) -> bool:
    """Return whether enough of a ladder is recorded to speak of a worst case: all white-box rungs at every eps."""
    wanted = {
        (rung.name, eps)
        for rung in ladder.ladder(experiments.spec(record["model"]), record["dataset"])
        if (rung.kind, rung.purpose) == ("white-box", "ladder")
        for eps in ladder.epsilons(record["dataset"])
    }
    return wanted <= {(cell["rung"], cell["eps"]) for cell in record["cells"]}


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
