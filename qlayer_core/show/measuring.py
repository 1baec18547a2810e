"""What the chapter on measuring robustness draws: luck, attackers, steps and restarts, signs of a failed attack."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayer_core import attacks, intervals
from qlayer_core.show import names
from qlayer_core.show.page import Markup, decimal, listed, struck, table, wrapped
from qlayer_core.show.plot import MUTED, SERIES, TEXT, WRONG, axes, picture
from qlayer_core.study import experiments, records, tables

WEAK = ("fgsm", "bim", "cw")  # the paper's three, among which a weak one is looked for

CHANCE = 10.0  # percent that guessing among ten classes gets right
Attack = Callable[[attacks.Model, Tensor, Tensor, float], Tensor]


@picture
def luck(right: Tensor, sizes: Sequence[int] = (50, 200, 1000, 5000), draws: int = 30, seed: int = 0):
    """Draw what accuracy one would have measured on random subsets of the images, each with its own Wilson interval.

    Intervals that miss the accuracy on all images are thicker, and red.

    Args:
        right: ``(N,)`` bool, which images the network has right.
        sizes: of the subsets, each at most N: no image is drawn twice for one of them.
        draws: subsets of each size.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = 100 * right.double().mean().item()
    figure, grid = axes(6, 3.4)
    ax, words = grid[0, 0], []
    for place, size in enumerate(sizes):
        counts = [
            int(right[torch.randperm(len(right), generator=generator)[:size]].sum()) for _ in range(draws)
        ]
        found = [100 * count / size for count in counts]
        bounds = [intervals.wilson(count, size) for count in counts]
        hits = [low <= truth <= high for low, high in bounds]
        looks = [(SERIES[0], 1.2) if hit else (WRONG, 2.4) for hit in hits]
        colours, widths = zip(*looks, strict=True)
        where = np.linspace(place - 0.38, place + 0.38, draws)
        ax.vlines(where, *zip(*bounds, strict=True), colors=colours, linewidths=widths)
        ax.plot(where, found, "o", color=TEXT, markersize=2.5)
        reach = sum(high - low for low, high in bounds) / draws / 2
        words.append(
            f"{size:,} images: {min(found):.1f} to {max(found):.1f} %, intervals of {reach:.1f} points either way, of"
            f" which {sum(hits)} contain it"
        )
    ax.axhline(truth, color=MUTED, linewidth=1)
    ax.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    ax.set(xlabel="images", ylabel="measured accuracy (%)")
    return figure, (
        f"Accuracy on {draws} random subsets of each size, each with its 95 % interval; all {len(right):,} images"
        f" give {truth:.1f} %. {'; '.join(words)}."
    )


@picture
def ladder(rights: Mapping[str, Mapping[str, Tensor]]):
    """Draw what each attacker leaves right, a panel per network, with 95 % Wilson intervals.

    Args:
        rights: name of a model (see `names`) to attacker to ``(N,)`` bool.
    """
    rows = max(len(found) for found in rights.values())
    figure, grid = axes(6.4, 0.42 * rows * len(rights) + 0.9, len(rights), 1, sharex=True)
    words = []
    for ax, (name, found) in zip(grid[:, 0], rights.items(), strict=True):
        shares = [100 * right.double().mean().item() for right in found.values()]
        bounds = [intervals.wilson(int(right.sum()), len(right)) for right in found.values()]
        places = range(len(found))
        ax.barh(places, shares, color=names.colour(name), height=0.6)
        for place, (low, high) in zip(places, bounds, strict=True):
            ax.hlines(place, low, high, color=TEXT, lw=2)
        ax.set_yticks(places, list(found))
        ax.invert_yaxis()
        ax.set(title=names.label(name), xlim=(0, 100))
        ax.grid(axis="y", visible=False)
        listed = ", ".join(f"{who} {share:.0f} %" for who, share in zip(found, shares, strict=True))
        words.append(f"{names.label(name)}: {listed}")
    grid[-1, 0].set_xlabel("accuracy (%)")
    return figure, f"What each attacker leaves right, with 95 % intervals. {'; '.join(words)}."


def sinking(
    model: attacks.Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    steps: Sequence[int],
    restarts: int,
    seed: int = 0,
) -> list[list[float]]:
    """Return the accuracy in percent that PGD leaves, a row for each number of steps, a column for 1 to ``restarts``.

    Steps are of 2.5 eps over their number, so that few of them can spend the budget, too. An image counts as right
    if no start so far has fooled it, and only such images are attacked again.

    Args:
        model: images to logits.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        eps: L-infinity bound.
        steps: numbers of steps to try.
        restarts: random starts of each.
        seed: of the starts.
    """
    rows = []
    for count in steps:
        generator = torch.Generator().manual_seed(seed)
        left = torch.arange(len(images))
        row = []
        for _ in range(restarts):
            if len(left):
                options = {"step": min(eps, 2.5 * eps / count), "iterations": count, "loss": "margin"}
                x = attacks.pgd(model, images[left], labels[left], eps=eps, generator=generator, **options)
                with torch.no_grad():
                    left = left[model(x).argmax(1) == labels[left]]
            row.append(100 * len(left) / len(images))
        rows.append(row)
    return rows


class Mended(NamedTuple):
    """A white-box cell, and how much of its right answers are to images that were wrong before the attack."""

    dataset: str
    model: str
    attack: str  # such as "BIM 0.2"
    path: str | None  # whose answer counts
    right: float  # percent
    mended: float  # points of it


def mended() -> list[Mended]:
    """Return how much of each recorded white-box accuracy was wrong without an attack, the most first.

    The attacks of the tables are not told the labels: they begin with the network's own answer, also where it is
    wrong, and drive the image away from it.
    """
    found = []
    for path in sorted(records.RESULTS.glob("*/*/seed*.json")):
        record = records.read_file(path)
        cells = record["cells"]
        clean = {cell["path"]: records.unpack(cell) for cell in cells if cell["setting"] == "clean"}
        for cell in cells:
            n = cell["n"]
            if cell["setting"] == "white-box" and len(before := clean.get(cell["path"], [])) >= n:
                share = 100 * float((records.unpack(cell) & ~before[:n]).mean())
                attack = f"{names.attack(cell['attack'])} {cell['eps']:g}"
                whose = record["dataset"], record["model"], attack, cell["path"]
                found.append(Mended(*whose, cell["accuracy"], share))
    return sorted(found, key=lambda one: -one.mended)


class Symptom(NamedTuple):
    """One check of an attack: what it measured in words, and whether it is a sign of failure."""

    name: str
    found: str
    raised: bool


def symptoms(
    attack: Attack,
    model: attacks.Model,
    source: attacks.Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    seed: int = 0,
) -> list[Symptom]:
    """Return four checks of an attack on a model that need nothing but the attack itself.

    Args:
        attack: ``attack(model, images, labels, eps)``.
        model: the attacked network, images to logits.
        source: another one, for the same attack made blindly.
        images: ``(N, 1, H, W)`` in [0, 1].
        labels: ``(N,)``, the true classes.
        eps: L-infinity bound.
        seed: of the noise.
    """

    def right(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x).argmax(1) == labels

    def share(hits: Tensor) -> float:
        return 100 * hits.double().mean().item()

    def clearly_more(one: Tensor, other: Tensor) -> bool:
        _, low, _ = intervals.paired(int((one & ~other).sum()), int((other & ~one).sum()), len(one))
        return low > 0

    made = attack(model, images, labels, eps)
    still = share((made == images).flatten(1).all(1))
    seeing, blind = right(made), right(attack(source, images, labels, eps))
    half = right(attack(model, images, labels, 0.5))
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    noisy = right((images + eps * signs).clamp(0, 1))
    low, _ = intervals.wilson(int(half.sum()), len(half))
    return [
        Symptom("images come back unmoved", f"{still:.0f} %", still > 1),
        Symptom(
            "seeing is worse than blind",
            f"{share(seeing):.0f} %, blind {share(blind):.0f} %",
            clearly_more(seeing, blind),
        ),
        Symptom(
            "no better than noise",
            f"{share(seeing):.0f} %, noise {share(noisy):.0f} %",
            not clearly_more(noisy, seeing),
        ),
        Symptom("half the range is not enough", f"{share(half):.0f} %", low > CHANCE),
    ]


def symptom_table(found: Mapping[str, Sequence[Symptom]]) -> Markup:
    """Return the checks of several attacks side by side, those that are signs of failure in bold."""
    columns = list(found)
    rows = [
        [
            found[columns[0]][i].name,
            *(
                wrapped(f"<strong>yes: {one.found}</strong>" if one.raised else f"no: {one.found}", 5)
                for one in line
            ),
        ]
        for i, line in enumerate(zip(*found.values(), strict=True))
    ]
    return table(
        rows,
        ["sign of failure", *columns],
        "Yes means that the attack failed. The first row gives the share of images that came back unmoved, the others"
        " the share still answered right.",
    )


def weak(dataset: str = "mnist", seed: int | None = None) -> list[dict]:
    """Return recorded white-box accuracies under FGSM, BIM and Carlini-Wagner: of the same networks and images.

    One dict per network of the grid and epsilon: model, eps, and accuracies in percent as ``"fgsm"``, ``"bim"`` and
    ``"cw"``, mean over the ``"seeds"`` that have all three, on the first ``"n"`` images, which all are of; of the
    deployed answer, attacked through the E-path where there is one. ``"unreliable"`` has a reason, or None, for each
    of the three, and ``"formats"`` the number formats in which they were computed.
    """
    frame = tables.cells()
    frame = frame[(frame.dataset == dataset) & (frame.setting == "white-box")]
    if seed is not None:
        frame = frame[frame.seed == seed]
    rows = []
    for model in dict.fromkeys(frame.model):
        plain = experiments.spec(model).layer is None
        mine = frame[frame.model == model]
        mine = mine[mine.path.isna() if plain else (mine.path == "q") & (mine.attacked_path == "e")]
        for eps, part in mine.groupby("eps"):
            part = part[part.attack.isin(WEAK)]
            whole = part.groupby("seed").attack.transform("nunique") == len(WEAK)
            if whole.any():
                part = tables.alike(part[whole])
                means = part.assign(accuracy=part.accuracy.astype(float)).groupby("attack").accuracy.mean()
                about = {"n": int(part.n.min()), "seeds": part.seed.nunique()}
                about["unreliable"] = {kind: tables.unreliable(part[part.attack == kind]) for kind in WEAK}
                about["formats"] = tables.formats(records.read(dataset, model, one) for one in set(part.seed))
                rows.append({"model": model, "eps": eps, **means[list(WEAK)], **about})
    return rows


def weak_table(rows: Sequence[dict]) -> Markup:
    """Return `weak` as a table."""
    *fewer, images = sorted({row["n"] for row in rows})
    few = tables.circles(fewer)
    some = "".join(f" ({mark} the first {n:,})" for n, mark in few.items() if mark)
    *_, most = seeds = sorted({row["seeds"] for row in rows})
    each = "one seed" if most == 1 else f"mean over {listed([str(n) for n in seeds])} seeds"
    formats = sorted({one for row in rows for one in row["formats"]})
    bounds = [intervals.wilson(round(row[kind] * row["n"] / 100), row["n"]) for row in rows for kind in WEAK]
    doubted = any(why for row in rows for why in row["unreliable"].values())

    def number(row: dict, kind: str) -> str:
        text = decimal(row[kind], 1)
        # with spaces as wide as a digit, so that the points stand below each other
        return "\u2007" * (5 - len(text)) + struck(text, row["unreliable"][kind]) + few.get(row["n"], "")

    return table(
        [
            [f"{names.label(row['model'])}, {row['eps']}", *(number(row, kind) for kind in WEAK)]
            for row in rows
        ],
        ["network, epsilon", *map(names.attack, WEAK)],
        "Our counterpart of Table 2a: white-box accuracy (%), one network at one epsilon per row, on the first"
        f" {images:,} test images{some}, {each} of each network. Their 95 % Wilson intervals are at most"
        f" {max(high - low for low, high in bounds):.1f} points wide. Attacks computed in {listed(formats)},"
        f" answers in float32.{' Struck through: the attack failed a sanity check.' if doubted else ''}",
    )
