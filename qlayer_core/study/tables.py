"""All recorded cells as one data frame, and the paper's tables beside ours."""

from collections.abc import Iterable
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd

from qlayer_core import checks, data, intervals
from qlayer_core.study import experiments, paper, records, variants

KEY = ("dataset", "model", *paper.KEY)
FEW = "\N{DEGREE SIGN}"  # marks numbers of the first test images only


def cells(setting: variants.Setting | None = None) -> pd.DataFrame:
    """Return every recorded cell of the grid, one row each, or those of its networks with another setting.

    Returns:
        Columns dataset, model, seed, the fields of `paper.KEY`, n, correct, accuracy (percent), unmoved, unreliable
        (a reason, or None) and right (which images were, see `records.unpack`). A path or source that does not apply
        is None.
    """
    rows = []
    folders = ["*"]
    if setting is not None:
        adversarial = {name: experiments.spec(name).adversarial for name in variants.DECIDED_ON}
        folders = [f"variants/{name}/{setting.variant(how)}" for name, how in adversarial.items()]
    for path in sorted(path for one in folders for path in records.RESULTS.glob(f"*/{one}/seed*.json")):
        record = records.read_result(path)
        who = {name: record[name] for name in ("dataset", "model", "seed")} | {"unreliable": None}
        for cell in record["cells"]:
            rows.append(who | cell)
    columns = ["dataset", "model", "seed", *paper.KEY]
    columns += ["n", "correct", "accuracy", "unmoved", "unreliable", "right"]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    return frame.astype({"eps": float}).where(frame.notna(), None)


def table(number: str, seed: int | None = 0) -> pd.DataFrame:
    """Return a table of the paper beside ours, one row per cell.

    Args:
        number: ``"1a"`` to ``"11"``.
        seed: whose results to show; None for all, one row per cell and seed.

    Returns:
        Columns row, column, seed, n, paper, ours, difference, low, high, unreliable, right: number of images,
        accuracies in percent and the 95 % Wilson interval of ours. A cell that is not recorded has NaN.

    Raises:
        ValueError: there is no such table, or the seed is negative.
        TypeError: the seed is no whole number.
    """
    if number not in paper.TABLES:
        raise ValueError(f"unknown table {number!r}; choose one of {', '.join(paper.TABLES)}")
    if seed is not None:
        checks.seed(seed)
    published = pd.DataFrame([vars(cell) for cell in paper.TABLES[number].cells])
    published = published.rename(columns={"accuracy": "paper"})
    ours = cells().rename(columns={"accuracy": "ours"})
    if seed is not None:
        ours = ours[ours.seed == seed]
    frame = published.merge(ours, how="left", on=list(KEY))
    bounds = [
        intervals.wilson(int(correct), int(n)) if pd.notna(n) else (float("nan"),) * 2
        for correct, n in zip(frame.correct, frame.n, strict=True)
    ]
    frame = frame.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])
    frame = frame.astype(dict.fromkeys(("n", "paper", "ours"), float))
    frame["difference"] = (frame.ours - frame.paper).round(2)
    columns = ["row", "column", "seed", "n", "paper", "ours", "difference", "low", "high"]
    return frame[[*columns, "unreliable", "right"]]


def summary(number: str, seed: int | None = None) -> pd.DataFrame:
    """Return a table of the paper beside ours, one row per cell, seeds taken together.

    Returns:
        Index row and column, in the paper's order. Columns paper, ours (mean over seeds, each of the images that all
        were measured on), low and high (lowest and highest of several seeds, else the 95 % Wilson interval), chosen
        (of the seed that `preferred` names), difference, seeds (how many; 0 where nothing is recorded), which (a
        tuple of them), n (how many images ours is of, or NaN), few (whether only the first of the test images were
        attacked) and unreliable (a reason, or None).
    """
    found, best = {}, {}
    for place, part in table(number, seed).groupby(["row", "column"], sort=False):
        one, same_images = part.iloc[0], alike(part[part.ours.notna()], "ours")
        ours, about = list(same_images.ours), paper.TABLES[number].cell(*place)
        if seed is None and about.model not in best:
            best[about.model] = preferred(about.dataset, about.model)
        chosen = dict(zip(same_images.seed, ours, strict=True)).get(best.get(about.model), np.nan)
        low, high = (min(ours), max(ours)) if len(ours) > 1 else (one.low, one.high)
        found[place] = {
            "paper": one.paper,
            "ours": round(mean(ours), 2) if ours else np.nan,
            "low": low,
            "high": high,
            "chosen": chosen,
            "difference": round(mean(ours) - one.paper, 2) if ours else np.nan,
            "seeds": len(ours),
            "which": tuple(same_images.seed),
            "n": part.n.min(),
            "few": bool((part.n < data.TEST_IMAGES).any()),
            "unreliable": unreliable(part),
        }
    frame = pd.DataFrame.from_dict(found, orient="index")
    return (
        frame.rename_axis(["row", "column"])
        .astype({"unreliable": object})
        .where(frame.notna(), None)
        .astype(dict.fromkeys(("paper", "ours", "low", "high", "chosen", "difference", "n"), float))
    )


def circles(counts: Iterable[float]) -> dict[float, str]:
    """Return the mark of each number of images, one circle more for each that is smaller; of all of them, none."""
    some = sorted({n for n in counts if n < data.TEST_IMAGES}, reverse=True)
    return {data.TEST_IMAGES: ""} | {n: FEW * at for at, n in enumerate(some, 1)}


def report(number: str, seed: int | None = None) -> str:
    """Return a table of the paper beside ours as text, row by row of plain words and numbers.

    Args:
        number: ``"1a"`` to ``"11"``.
        seed: whose results to show; None for the mean over all, their range, and what the one has that `preferred`
            names.
    """
    frame = summary(number, seed).reset_index()
    if not frame.seeds.any():
        if seed is None or not (there := behind(number).seeds):
            return "Of this table nothing is recorded."
        known = ", ".join(map(str, there))
        return f"Of this table nothing is recorded with seed {seed}; seeds that are recorded: {known}."
    marks, doubted = circles(frame.n), frame.unreliable.notna()
    after = frame.n.map(marks).fillna("") + doubted.map({True: "~", False: ""})

    def text(name: str) -> pd.Series:
        return frame[name].map("{:.2f}".format).mask(frame[name].isna(), "-")

    values = {name: text(name) for name in ("paper", "ours", "difference")}
    for name in ("ours", "difference"):
        values[name] += after
    if seed is None:
        values["range"] = (text("low") + "-" + text("high")).mask(frame.ours.isna(), "-")
        values |= {
            "chosen": text("chosen") + after.mask(frame.chosen.isna(), ""),
            "seeds": frame.seeds.astype(str),
        }
    parts = []
    for name, shown in values.items():
        wide = frame.assign(shown=shown).pivot(index="row", columns="column", values="shown")
        wide = wide.loc[frame.row.unique(), frame.column.unique()].rename_axis(None, axis=1)
        parts.append(f"{name}: {paper.TABLES[number].caption}\n{wide.to_string()}")
    about = behind(number, seed)
    how = f"attacks computed in {' or '.join(about.formats)}, answers in float32"
    if seed is None:
        parts.append(
            f"ours: mean over seeds {', '.join(map(str, about.seeds))}, on {max(about.images):,} test images; range:"
            f" lowest and highest of several seeds or, with one, its 95 % Wilson interval; {how}"
        )
        parts.append(f"chosen: the seed that validation images prefer: {_chosen(number)}")
    else:
        wide = (frame.high - frame.low).max()
        parts.append(
            f"ours: seed {seed} alone, on {max(about.images):,} test images; 95 % Wilson intervals are at most"
            f" {wide:.1f} points wide; {how}"
        )
    few = [f"{mark} of the first {n:,.0f}" for n, mark in marks.items() if mark]
    if few:
        rest = f", the others of {data.TEST_IMAGES:,}" if (frame.n == data.TEST_IMAGES).any() else ""
        parts.append(f"{', '.join(few)} test images{rest}")
    if about.paused:
        parts.append(provisional(about.paused))
    if doubted.any():
        parts.append("~ the attack failed a sanity check: the number says little about the network")
    return "\n\n".join(parts)


def _chosen(number: str) -> str:
    """Return in words which seed of each model of a table validation images prefer."""
    models = dict.fromkeys((cell.dataset, cell.model) for cell in paper.TABLES[number].cells)
    found = {name: preferred(dataset, name) for dataset, name in models}
    words = [f"{name} {seed}" for name, seed in found.items() if seed is not None]
    rest = "; the others have one seed" if len(words) < len(found) else ""
    return (", ".join(words) or "none, since no network has several") + rest * bool(words)


Measurements = dict[tuple, pd.DataFrame]


def by_measurement(frame: pd.DataFrame) -> Measurements:
    """Return the rows of `cells` by what they measure, one per seed, so that `same` need not search for them."""
    known = frame[list(KEY)].astype(object)
    keys = pd.Series(list(known.where(known.notna(), None).itertuples(index=False, name=None)), frame.index)
    return {(): frame.iloc[:0]} | dict(iter(frame.groupby(keys, sort=False)))


def same(found: Measurements, cell: paper.Cell, **changed: object) -> pd.DataFrame:
    """Return the rows of `by_measurement` of what a paper's cell measures, or of what differs as told."""
    wanted = {name: getattr(cell, name) for name in KEY} | changed
    return found.get(tuple(wanted[name] for name in KEY), found[()])


class Behind(NamedTuple):
    """What stands behind our numbers of a table; all empty where nothing is recorded."""

    seeds: list[int]
    images: list[int]  # of how many the cells are, rising
    formats: list[str]  # in which attacks were computed, such as "bfloat16"
    paused: list[tuple[str, int]]  # model and seed of each training that was paused before it was over


def behind(number: str, seed: int | None = None) -> Behind:
    """Return what stands behind our numbers of a table, of one seed or of all."""
    found = by_measurement(cells())
    parts = [same(found, cell) for cell in paper.TABLES[number].cells]
    if seed is not None:
        parts = [part[part.seed == seed] for part in parts]
    frame = pd.concat(parts)
    images = {int(part.n.min()) for part in parts if len(part)}  # a cell is of what all its seeds are of
    which = sorted(set(zip(frame.dataset, frame.model, frame.seed, strict=True)))
    runs = [records.read(*run) for run in which]
    return Behind(sorted(set(frame.seed)), sorted(images), formats(runs), paused(runs))


def paused(runs: Iterable[dict]) -> list[tuple[str, int]]:
    """Return model and seed of each of these records whose training was paused before it was over."""
    return [(record["model"], record["seed"]) for record in runs if not records.finished(record)]


def provisional(runs: Iterable[tuple[str, int]]) -> str:
    """Return in words that the trainings of these models and seeds were paused."""
    named = ", ".join(f"{name} (seed {seed})" for name, seed in runs)
    return f"provisional: training was paused before it was over, of {named}"


def formats(runs: Iterable[dict]) -> list[str]:
    """Return in which number formats the attacks of these records were computed."""
    return sorted({where["number_format"] for record in runs for where in record["environments"]})


def alike(rows: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    """Return rows of one measurement, one per seed, each of the images that all of them are of: the first ones.

    Those are harder than most, so that a mean over seeds of different images would compare nothing.

    Args:
        rows: of `cells` or `table`.
        value: name of the column of accuracies in percent; it and n are counted again.
    """
    if rows.n.nunique() < 2 or rows.right.isna().any():
        return rows
    n = int(rows.n.min())
    right = (records.unpack({"n": int(row.n), "right": row.right})[:n] for row in rows.itertuples())
    return rows.assign(**{"n": n, value: [round(100 * bits.mean(), 2) for bits in right]})


def preferred(dataset: str, model: str) -> int | None:
    """Return the seed whose network scored best on validation images, as the paper chose what to show (appendix B).

    None unless several seeds of the model are measured.
    """
    measured = [run for run in records.runs(dataset, model) if run["cells"]]
    scores = {run["seed"]: run["chosen"]["score"] for run in measured}
    return max(scores, key=scores.get) if len(scores) > 1 else None


def cell(dataset: str, model: str, seed: int = 0, **fields) -> dict | None:
    """Return the recorded cell that has these fields, or None if it is not recorded.

    Raises:
        ValueError: there is no such data set, model or field, or several cells have these.
    """
    records.unit(dataset, model, seed)
    every = cells()
    for name in fields:
        checks.one_of("field", name, every.columns)
    found = _where(every, {"dataset": dataset, "model": model, "seed": seed} | fields)
    if len(found) > 1:
        differ = [name for name in paper.KEY if found[name].nunique(dropna=False) > 1]
        raise ValueError(
            f"{len(found)} recorded cells of {model} on {dataset}, seed {seed}, have {fields}: say their"
            f" {', '.join(differ)}, too"
        )
    return None if found.empty else found.iloc[0].to_dict()


def _where(frame: pd.DataFrame, wanted: dict[str, object]) -> pd.DataFrame:
    """Return the rows that have these values; None is a value that does not apply."""
    for name, value in wanted.items():
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    return frame


def unreliable(cells: pd.DataFrame) -> str | None:
    """Return why cells of one measurement with several seeds are unreliable, seed by seed; None if none is."""
    reasons = cells[cells.unreliable.notna()]
    if len(cells) == 1 or reasons.empty:
        return None if reasons.empty else reasons.unreliable.iloc[0]
    return "; ".join(f"seed {one.seed}: {one.unreliable}" for one in reasons.itertuples())
