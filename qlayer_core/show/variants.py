"""What the chapters show of `study.variants`: how the open settings were decided."""

from collections.abc import Mapping, Sequence
from statistics import mean

from qlayer_core.show import names
from qlayer_core.show.page import Markup, decimal, table
from qlayer_core.study import experiments, records, variants
from qlayer_core.study.variants import DECIDED_ON, SETTINGS, Setting

STRATEGIES = {"pull": "1", "reinitialize": "2"}  # for inactive codes, as the paper's section 3.5 counts them


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
        f" {'seed' if len(seeds) == 1 else 'mean of seeds'} {', '.join(map(str, seeds))}; bold throughout:"
        f" the one that the rule chooses from all of these; †: the book's. {len(scores)} of"
        f" {len(SETTINGS)} settings are recorded for all {len(DECIDED_ON)} networks. Strategies as in section 3.5"
        " of the paper; departures are from its text."
    )
    chosen, own = variants.decide(scores) if scores else None, variants.of_the_grid()
    nearly = [setting for setting, found in parts.items() if len(found) == len(DECIDED_ON) - 1]
    shown = (*sorted(scores, key=scores.get, reverse=True), *nearly)
    places = {setting.dropout for setting in shown}
    if len(places) == 1:  # a column that says one thing goes into the caption
        caption += f" Dropout: {names.DROPOUTS[places.pop()]}."
    lines = []
    for setting in shown:
        forms = (setting.commitment, setting.then or setting.commitment)
        cells = [
            ", ".join(forms) + " †" * (setting == own),
            f"{STRATEGIES[setting.raw]}, {STRATEGIES[setting.adversarial]}",
            *([names.DROPOUTS[setting.dropout]] if places else []),
            *(decimal(parts[setting].get(name, float("nan")), 1) for name in DECIDED_ON),
            decimal(scores.get(setting, float("nan"))),
            str(setting.departures()),
        ]
        lines.append([f"<strong>{cell}</strong>" if setting == chosen else cell for cell in cells])
    heads = ["commitment: raw, adv.", "strategy: raw, adv.", *(["dropout"] if places else [])]
    networks = (names.label(name).replace("adv. trained", "adv.") for name in DECIDED_ON)
    return table(lines, [*heads, *networks, "mean", "departures"], caption)


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
        if record := variants.recorded(setting.unit(dataset, name, seed)):
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
