"""Every recorded number that a claim may rest on, in one frame."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import product

import pandas as pd

from qlayer_core import datasets, files, intervals
from qlayer_core.study import adaptive, experiments, ladder, records, sanity, tables, variants
from qlayer_core.study.evidence import FIELDS, Number, Value, counted, worst_case

COLUMNS = (*FIELDS, "seed", *Number._fields)


def frame() -> pd.DataFrame:
    """Return all recorded numbers that a claim may rest on: columns `COLUMNS`; percent, or nats for divergences.

    ``n`` is the number of images, None where a number is not a share of images; ``right`` says which were right,
    where that is recorded, and ``doubt`` which check the attack failed, or that twice its effort fooled more.
    """
    later = _frame([*_cells(tables.cells(variants.LATER)), *_ladders(climbed(variants.LATER))])
    later = later.assign(model=later.model.map(variants.later))
    grid = _frame([*_cells(tables.cells()), *_ladders(adaptive.recorded()), *_variants(), *_divergences()])
    return pd.concat([grid, later], ignore_index=True) if len(later) else grid


def _frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"eps": float, "value": float})


def _row(value: Value, seed: int, number: Number) -> dict:
    return asdict(value) | {"seed": seed} | number._asdict()


def _counted(value: Value, seed: int, correct: int, n: int, right: str = "", doubt: str = "") -> dict:
    number = Number(100 * correct / n, *intervals.wilson(correct, n), n, right or "", doubt)
    return _row(value, seed, number)


def _cells(cells: pd.DataFrame) -> Iterator[dict]:
    for row in cells.to_dict("records"):
        value = Value(**{name: None if pd.isna(row[name]) else row[name] for name in FIELDS})
        counts = int(row["correct"]), int(row["n"]), row["right"]
        yield _counted(value, row["seed"], *counts, row["unreliable"] or "")


def _ladders(evaluations: Iterable[dict]) -> Iterator[dict]:
    for record in evaluations:
        dataset, model, seed = (record[name] for name in ("dataset", "model", "seed"))
        for cell in filter(partial(ladder.unchanged, model), record["cells"]):
            rung = Value(dataset, model, "ladder", cell["rung"], cell["eps"])
            yield _counted(rung, seed, cell["correct"], cell["n"], cell["right"])
        if ladder.complete(record):
            rising = sanity.unconverged(record)
            for eps in sorted({cell["eps"] for cell in record["cells"]}):
                left = counted(adaptive.worst(record, eps))._replace(doubt=rising.get(eps, ""))
                yield _row(worst_case(dataset, model, eps), seed, left)


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
            record = files.read_json(path)
            for row in record["statistics"]:
                attack, *rest = row["set"].rsplit(" ", 1)
                if not rest:
                    continue
                for estimator in ("kl published", "kl histogram", "kl gaussian"):
                    number = row[estimator]
                    ends = number if isinstance(number, list) else [number] * 3
                    how = f"{attack} {estimator}"
                    value = Value(dataset, record["name"], "divergence", how, float(rest[0]))
                    yield _row(value, record["seed"], Number(*ends))


def otherwise(frame: pd.DataFrame, names: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a frame twice: with the grid's networks, and with networks of another setting in their place.

    Both have the same numbers of the same seeds alone, since what every seed must bear out is the sooner borne out
    the fewer there are. And neither has what would mix two settings: of a network that is replaced the numbers that
    the other lacks, and networks with the layer that are trained as those are, and not replaced.

    Args:
        frame: what `frame` returns.
        names: model by the name of what replaces it, `experiments.BY_THE_TEXT` or `variants.WITH_DROPOUT`.
    """
    others = frame[frame.model.isin(names)]
    if others.empty:
        return frame, frame
    others = others.assign(model=others.model.map(names))
    replaced = set(others.model)
    trained = {experiments.spec(name).adversarial for name in replaced}
    mixed = [
        name
        for name, spec in experiments.RUNS.items()
        if spec.layer and spec.adversarial in trained and name not in replaced
    ]
    frame = frame[~frame.model.isin([*mixed, *names])]
    fields = [*FIELDS, "seed"]
    keys = [pd.MultiIndex.from_frame(one[fields].astype(str)) for one in (frame, others)]
    whose = [pd.MultiIndex.from_frame(one[["dataset", "model"]]) for one in (frame, others)]
    kept = frame[~whose[0].isin(whose[1])]
    return pd.concat([kept, frame[keys[0].isin(keys[1])]]), pd.concat([kept, others])


def climbed(setting: variants.Setting) -> list[dict]:
    """Return the recorded adaptive evaluations of the networks of the decision with a setting."""
    units = (
        setting.unit(dataset, name, seed)
        for dataset, name, seed in product(datasets.DATASETS, variants.DECIDED_ON, variants.SEEDS)
    )
    return [record for one in units for record in adaptive.today(one)]


def numbers(frame: pd.DataFrame) -> dict[Value, dict[int, Number]]:
    """Return a frame with the columns `COLUMNS` as a number per value and seed."""
    found: dict[Value, dict[int, Number]] = {}
    for row in frame.to_dict("records"):
        known = {name: None if pd.isna(row[name]) else row[name] for name in (*FIELDS, *Number._fields)}
        number = Number(**{name: known.pop(name) for name in Number._fields})
        number = number._replace(
            n=number.n and int(number.n), right=number.right or "", doubt=number.doubt or ""
        )
        found.setdefault(Value(**known), {})[row["seed"]] = number
    return found
