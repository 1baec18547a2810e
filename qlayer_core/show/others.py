"""What the chapter on other quantizers shows of recorded results: a table, ladders, and what they say in words.

Everything works with none, some or all of `study.experiments.QUANTIZED` recorded, and says what is missing.
"""

from collections.abc import Mapping, Sequence
from html import escape

from qlayer_core import datasets
from qlayer_core.show import keeping, ladder, names, training
from qlayer_core.show.flags import flag_table
from qlayer_core.show.page import (
    Markup,
    decimal,
    joined,
    line_names,
    lines,
    listed,
    mean_and_range,
    note,
    paragraph,
    struck,
    table,
)
from qlayer_core.study import experiments, records, sanity, tables

NETWORKS = (*experiments.TARGETS, *experiments.QUANTIZED)
BLIND, PLAIN, ADAPTIVE = "blind", "as it is", "adaptive"
HOWS = (BLIND, PLAIN, ADAPTIVE)


def recorded(dataset: str = "mnist", models: Sequence[str] = NETWORKS, seed: int = 0) -> dict[str, dict]:
    """Return the records that there are, by model name, in the order of ``models``."""
    units = {name: records.unit(dataset, name, seed) for name in models}
    return {name: records.read_unit(unit) for name, unit in units.items() if unit.record.exists()}


def measured(record: dict) -> bool:
    """Return whether more than a network's training is recorded: that it was attacked."""
    return any(cell["setting"] == "white-box" for cell in record["cells"])


def budgets(dataset: str) -> list[tuple[str, float]]:
    """Return the attacks of a data set, each with its budget, in the order of the table."""
    return [(attack, eps) for attack in ("fgsm", "bim") for eps in datasets.find(dataset).epsilons]


def cell(record: dict, attack: str, eps: float, how: str) -> dict | None:
    """Return a recorded cell of a network's deployed answer, or None.

    Args:
        record: of a plain network, one with the layer, or one behind a quantizer of its input.
        attack: ``"none"``, ``"fgsm"`` or ``"bim"``.
        eps: its budget.
        how: `BLIND`, made on another network; `PLAIN`, white box along the gradient that there is: a plain network's
            own, the E-path's with the layer; `ADAPTIVE`, through the quantizer of the input. None for other networks.
    """
    layered, quantized = record["spec"]["layer"] is not None, record["spec"].get("quantizer")
    if how == ADAPTIVE and not quantized:
        return None
    wanted = {"attack": attack, "eps": eps, "path": "q" if layered else None}
    if attack == "none":
        wanted["setting"] = "clean"
    elif how == BLIND:
        wanted |= {"setting": "black-box", "source": "cnn-a"}
    else:
        along = "adaptive" if how == ADAPTIVE else "e" if layered else None
        wanted |= {"setting": "white-box", "attacked_path": along}
    return next(
        (one for one in record["cells"] if all(one[key] == value for key, value in wanted.items())), None
    )


def results_table(dataset: str = "mnist") -> Markup:
    """Return accuracy clean, blind, as it is and adaptive, as a table with a row per network.

    Adversarially trained networks follow where one behind a quantizer is among them.
    """
    trained = recorded(dataset, [f"{name}-adv" for name in experiments.QUANTIZED])
    models = [f"{name}{how}" for how in ("", "-adv")[: 1 + bool(trained)] for name in NETWORKS]
    rows = []
    found = {name: record for name, record in recorded(dataset, models).items() if measured(record)}
    circles = tables.circles([one["n"] for record in found.values() for one in record["cells"]])
    for name, record in found.items():
        hows = HOWS if record["spec"].get("quantizer") else HOWS[:2]
        row = [line_names(names.label(name), *hows[1:])]
        clean = _number(cell(record, "none", 0.0, BLIND), circles)
        row.append(lines(clean, *["&nbsp;"] * (len(hows) - 1)))
        for attack, eps in budgets(dataset):
            row.append(lines(*(_number(cell(record, attack, eps, how), circles) for how in hows), says=hows))
        rows.append(row)
    heads = [f"{names.attack(attack)} {eps:g}" for attack, eps in budgets(dataset)]
    few = "".join(f" {mark} Only the first {n:,} test images." for n, mark in circles.items() if mark)
    return table(
        rows,
        ["network", "clean", *heads],
        "Test images (%) that are classified correctly, seed 0. Bold: the attacker is blind, and made the images on"
        " another network. Below: the attacker sees the network. They follow its gradient as it is (with the Q-Layer,"
        " that of the E-path) or, adaptive, one that suits its quantizer of the input. Struck through: the attack"
        f" failed a sanity check.{few}",
    )


def _number(one: dict | None, circles: Mapping[int, str]) -> str:
    if one is None:
        return decimal(None)
    return struck(decimal(one["accuracy"], 1), one.get("unreliable")) + circles[one["n"]]


def missing(dataset: str = "mnist") -> Markup:
    """Return in a box which networks behind a quantizer are not trained, attacked or on a ladder; empty if none."""
    wanted = [f"{name}{how}" for how in ("", "-adv") for name in experiments.QUANTIZED]
    found = recorded(dataset, wanted)
    climbed = ladders(dataset)
    commands: dict[str, list[str]] = {}
    for name in wanted:
        if name not in found:
            commands.setdefault("Not trained", []).append(name)
        elif not measured(found[name]):
            commands.setdefault("Trained, but not attacked", []).append(name)
        elif any(cell(found[name], *one, how) is None for one in budgets(dataset) for how in HOWS):
            commands.setdefault("Attacked in part", []).append(name)
        elif name not in climbed and not name.endswith("-adv"):
            commands.setdefault("Without a ladder of attacks", []).append(name)
    if not commands:
        return Markup("", "")

    def call(what: str, name: str) -> str:
        if what == "Not trained":
            return escape(records.unit(dataset, name).how())
        stage = "adapt" if what == "Without a ladder of attacks" else "evaluate"
        return f"python -m qlayer_core {stage} {dataset} {name}"

    text = "".join(
        f"<p>{what}: {'; '.join(map(names.label, some))}. To make the first of them: "
        f"<code>{call(what, some[0])}</code></p>"
        for what, some in commands.items()
    )
    return note(f"What is still to be measured on {names.DATASETS[dataset]}", text, "note dropdown")


# ---- what the table says ----


def shares(record: dict, attack: str, eps: float) -> dict[str, float] | None:
    """Return what is left right, in percent, in each way of attacking, on the first images that all three are of.

    None where one of the three is not recorded.
    """
    cells = {how: cell(record, attack, eps, how) for how in HOWS}
    if None in cells.values():
        return None
    n = min(one["n"] for one in cells.values())
    return {how: 100 * float(records.unpack(one)[:n].mean()) for how, one in cells.items()}


def masked(dataset: str = "mnist", eps: float = 0.2, *, adversarial: bool = False) -> Markup:
    """Return, of the networks behind a quantizer, what the BIM that suits it finds beyond the others, and in words.

    Of the adversarially trained networks, or else of the raw ones.
    """
    every = recorded(dataset, of_training(experiments.QUANTIZED, adversarial))
    found = {name: left for name, record in every.items() if (left := shares(record, "bim", eps))}
    if not found:
        kind = "adversarially trained network" if adversarial else "network"
        return paragraph(
            f"Of no {kind} behind a quantizer of its input are all three attacks with epsilon {eps:g} recorded yet."
        )
    rows = [
        [names.short(name), *(decimal(left[how], 1) for how in (BLIND, PLAIN, ADAPTIVE))]
        for name, left in found.items()
    ]
    whose = "adversarially trained, " if adversarial else ""
    shown = table(
        rows,
        ["network", "blind", "seeing, along the gradient as it is", "seeing, adaptive"],
        f"{names.PICTURES[dataset].capitalize()} left right (%) by BIM with epsilon {eps:g}, {whose}on the same"
        " images.",
    )
    worse = [names.short(name) for name, left in found.items() if left[PLAIN] > left[BLIND] + 1]
    lower = [names.short(name) for name, left in found.items() if left[ADAPTIVE] < left[PLAIN] - 1]
    blinder = [names.short(name) for name, left in found.items() if left[ADAPTIVE] > left[BLIND] + 1]
    says = []
    if worse:
        says.append(
            "The attacker who follows the gradient as it is does worse than the blind attacker by more"
            f" than a point on {_whom(worse, found)}: the sign of a failed attack."
        )
    if lower:
        says.append(
            f"The adaptive attack fools more than the one as it is, by more than a point, on {_whom(lower, found)}."
        )
    if blinder:
        says.append(f"It still fools fewer than the blind attack on {_whom(blinder, found)}: look further.")
    return joined(shown, paragraph(" ".join(says))) if says else shown


def of_training(models: Sequence[str], adversarial: bool) -> list[str]:
    """Return the names of the adversarially trained networks of these models, or of the raw ones."""
    return [f"{name}-adv" if adversarial else name for name in models]


def _whom(some: Sequence[str], found: Mapping[str, object]) -> str:
    if len(some) == len(found) > 1:
        return "both" if len(found) == 2 else f"all {len(found)}"
    return listed(some)


def equal_gains() -> Markup:
    """Return by how many points each network beats the plain one of its data set and training, as a table."""
    columns = {}
    for dataset in datasets.DATASETS:
        for trained, how in (("", "raw"), ("-adv", "adv. trained")):
            runs = training.every_seed([f"{name}{trained}" for name in NETWORKS], dataset)
            plain = f"cnn{trained}"
            found = keeping.gains(runs, plain) if plain in runs else {}
            columns[f"{names.DATASETS[dataset]}, {how}"] = {
                name.removesuffix("-adv"): gain for name, gain in found.items()
            }
    says = ("at equal clean accuracy", "range", "as it was kept", "range")
    rows = []
    for name in NETWORKS:
        if any(name in found for found in columns.values()):
            cells = ["not trained"] * len(columns)
            for place, found in enumerate(columns.values()):
                if name in found:
                    kept, equal = (mean_and_range(points, sign=True) for points in found[name])
                    cells[place] = lines(*equal, *kept, says=says)
            rows.append([line_names(names.label(name), *says[1:]), *cells])
    return table(
        rows,
        ["network", *columns],
        "Points ahead of the plain CNN, raw or adversarially trained as the network is, on average over the"
        " attacked validation images; of several seeds, each beside each, the mean and the range, lowest to highest."
        " Bold: at its best epoch among those with at least the clean accuracy of the plain CNN's kept epoch, where"
        " one reaches it; a dash where none does. Below: at the epoch that was kept.",
    )


# ---- ladders ----


def ladders(dataset: str = "mnist", *, adversarial: bool = False) -> dict[str, dict]:
    """Return the complete ladders of `NETWORKS`, by name: those of the paper's, and those behind a quantizer."""
    known = ladder.recorded(dataset, others=True)
    return {name: known[name] for name in of_training(NETWORKS, adversarial) if name in known}


def levels_beside_slopes(found: Mapping[str, dict], eps: float, dataset: str = "mnist") -> Markup:
    """Return in words what choosing among levels leaves of each network, and the best of the slopes through them."""
    parts, sharper = [], []
    for name, record in found.items():
        rows = [row for row in ladder.climbed(record, eps) if row["alone"] is not None]
        alone = {row["name"]: 100 * row["alone"] / row["n"] for row in rows}
        if "ls-pga" not in alone:
            continue
        slopes = min(left for rung, left in alone.items() if "straight through" in rung)
        parts.append(f"{names.short(name)} {alone['ls-pga']:.1f} % ({slopes:.1f} %)")
        if alone["ls-pga"] < slopes - 1:
            sharper.append(names.short(name))
    if not parts:
        return Markup("", "")
    more = f" So the sharper attack finds more on {listed(sharper)}." if sharper else ""
    return paragraph(
        f"At epsilon {eps:g}, the attack that chooses among levels leaves, by itself, these shares of the table's"
        f" {names.PICTURES[dataset]} (in brackets: the best attack straight through): {listed(parts)}.{more}"
    )


def flags(found: Mapping[str, dict]) -> Markup:
    """Return `flag_table` of the networks behind a quantizer, and what it says of them; empty if none."""
    some = {name: record for name, record in found.items() if name in experiments.QUANTIZED}
    if not some:
        return Markup("", "")
    shown = flag_table(some)
    missed = [
        names.label(name)
        for name, record in some.items()
        if any(flag.name == "square" and flag.raised for flag in sanity.flags(record))
    ]
    if not missed:
        return shown
    more = paragraph(
        f"On {listed(missed)} the search without a gradient still fools images that every gradient has missed. So a"
        " better attack is likely to exist, and what is left is an upper bound with room below it."
    )
    return Markup(shown.html + more.html, f"{shown.text} {more.text}")
