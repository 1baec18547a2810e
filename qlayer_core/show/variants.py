"""What the chapter on training shows of `study.variants`: how the open settings were decided, what each one costs."""

from collections.abc import Mapping, Sequence
from statistics import mean

from qlayer_core.show import names
from qlayer_core.show.page import Markup, decimal, table
from qlayer_core.study import experiments, records, variants
from qlayer_core.study.records import Unit
from qlayer_core.study.variants import DECIDED_ON, SEEDS, SETTINGS, STUDIED, Setting


def read(unit: Unit) -> dict | None:
    """Return a variant's record, or that of another unit which is the same run; None if there is neither.

    The same run may be recorded as the grid's, or as a setting of the decision.
    """
    if unit.record.exists():
        return records.read_unit(unit)
    name, raw = unit.spec.name, unit.spec.raw_name
    same = [records.unit(unit.dataset, name, unit.seed)]
    if name in DECIDED_ON:  # an adversarial training counts where it starts from the grid's raw network
        fitting = [one for one in SETTINGS.values() if one.spec(raw) == experiments.spec(raw) or name == raw]
        same += [one.unit(unit.dataset, name, unit.seed) for one in fitting]
    return next(
        (records.read_unit(one) for one in same if one.spec == unit.spec and one.record.exists()), None
    )


def decided(dataset: str = "mnist", seeds: Sequence[int] = (0,)) -> dict[Setting, float]:
    """Return the mean score of each setting that is recorded for all of `DECIDED_ON` and all these seeds."""
    return _means({setting: variants.scores(dataset, setting, seeds) for setting in SETTINGS.values()})


def decision(dataset: str = "mnist", seeds: Sequence[int] = (0,)) -> Markup:
    """Return the decision as a table, best first: each setting's score per model, their mean, and the one chosen.

    Settings of which one network is missing come last: they show why no more of them was trained.
    """
    parts = {setting: variants.scores(dataset, setting, seeds) for setting in SETTINGS.values()}
    scores = _means(parts)
    caption = (
        "Score (%) on the mixed validation images, Q-path,"
        f" {'seed' if len(seeds) == 1 else 'mean of seeds'} {', '.join(map(str, seeds))}; bold: the one that the rule"
        f" chooses. {len(scores)} of {len(SETTINGS)} settings are recorded for all {len(DECIDED_ON)} networks."
    )
    chosen = variants.decide(scores) if scores else None
    nearly = [setting for setting, found in parts.items() if len(found) == len(DECIDED_ON) - 1]
    lines = []
    for setting in (*sorted(scores, key=scores.get, reverse=True), *nearly):
        cells = [
            names.COMMITMENTS[setting.commitment],
            names.COMMITMENTS[setting.then or setting.commitment],
            names.UPDATES[setting.raw],
            names.UPDATES[setting.adversarial],
            names.DROPOUTS[setting.dropout],
            *(decimal(parts[setting].get(name, float("nan")), 1) for name in DECIDED_ON),
            decimal(scores.get(setting, float("nan"))),
            str(setting.departures()),
        ]
        lines.append([f"<strong>{cell}</strong>" if setting == chosen else cell for cell in cells])
    settings = [f"{what}, {how}" for what in ("commitment", "strategy") for how in ("raw", "adv.")]
    heads = [*settings, "dropout", *map(names.label, DECIDED_ON)]
    return table(lines, [*heads, "mean", "departures from the paper's text"], caption)


def _means(parts: Mapping[Setting, Mapping[str, float]]) -> dict[Setting, float]:
    """Return the mean over the networks for each setting of which none is missing."""
    return {
        setting: mean(found.values()) for setting, found in parts.items() if len(found) == len(DECIDED_ON)
    }


def commitments(
    name: str = "q-large", dataset: str = "mnist", *, dropout: str = "off", raw: str = "pull", seed: int = 0
) -> dict[str, list[dict]]:
    """Return the history of a raw-trained model under each recorded form of the commitment term, by its name."""
    found = {}
    for commitment, text in names.COMMITMENTS.items():
        setting = Setting(commitment, raw, raw, dropout)
        if record := read(setting.unit(dataset, name, seed)):
            found[text] = record["history"]
    return found


def adversarial_forms(
    name: str = "q-base-adv", dataset: str = "mnist", seed: int = 0
) -> dict[str, list[dict]]:
    """Return histories of adversarial training from the raw network of the grid, under each recorded setting."""
    found, raw = {}, experiments.spec(name.removesuffix("-adv"))
    for setting in SETTINGS.values():
        one = setting.unit(dataset, name, seed)
        if setting.spec(raw.name) == raw and one.record.exists():
            form = names.COMMITMENTS[one.spec.commitment]
            found[f"{form}, strategy {names.UPDATES[one.spec.inactive]}"] = records.read_unit(one)["history"]
    return found


def costs(name: str, change: str, dataset: str = "mnist") -> dict[str, list[float]]:
    """Return by how much a change beats the chosen settings, one number per recorded seed.

    Returns:
        Differences in points for ``"score"`` and each validation set, of the deployed answer, between the runs with
        the same seed; empty where nothing is recorded.
    """
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        pair = [read(variants.unit(dataset, name, one, seed)) for one in (change, "chosen")]
        if None in pair:
            continue
        changed, chosen = (_reached(record) for record in pair)
        for kind in chosen:
            found.setdefault(kind, []).append(changed[kind] - chosen[kind])
    return found


def studied(dataset: str = "mnist") -> int:
    """Return how many changes of the study are recorded."""
    pairs = [
        (name, change) for name in STUDIED for change in STUDIED[name] if not _same(name, change, dataset)
    ]
    return sum(bool(costs(name, change, dataset)) for name, change in pairs)


def study(models: Sequence[str] = tuple(STUDIED), dataset: str = "mnist") -> Markup:
    """Return what each change costs against the chosen settings, mean over seeds, as a table."""
    lines, kinds, possible = [], [], 0
    for name in models:
        for change in STUDIED[name]:
            if _same(name, change, dataset):
                continue
            possible += 1
            if found := costs(name, change, dataset):
                kinds = [kind for kind in found if kind != "score"]
                score = found["score"]
                ends = [decimal(end, 1, sign=True) for end in (min(score), max(score))]
                cells = [decimal(mean(found[kind]), 1, sign=True) for kind in ("score", *kinds)]
                span = " to ".join(ends) if len(score) > 1 else ""
                lines.append([names.label(name), change.replace("-", " "), str(len(score)), span, *cells])
    return table(
        lines,
        ["model", "change", "seeds", "score, lowest to highest", "score", *map(names.attack, kinds)],
        "Difference from the chosen settings with the same seed, in points of the deployed answer's validation"
        f" accuracy, mean over seeds. {len(lines)} of {possible} changes are recorded.",
    )


def _same(name: str, change: str, dataset: str) -> bool:
    """Return whether a change leaves the grid's settings as they are."""
    return variants.unit(dataset, name, change).spec == experiments.spec(name)


def _reached(record: dict) -> dict[str, float]:
    """Return score and accuracies of the deployed answer at the kept epoch."""
    chosen = record["chosen"]
    return {"score": chosen["score"]} | chosen["accuracy"]["q" if "q" in chosen["accuracy"] else None]
