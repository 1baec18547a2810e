"""Signs that an attack failed: white box over black box, and a Carlini-Wagner attack beside a simpler one."""

from collections.abc import Mapping, Sequence

import pandas as pd

from qlayer_core import datasets
from qlayer_core.show import marks, names
from qlayer_core.show.page import Markup, decimal, listed, struck, table
from qlayer_core.show.plot import MUTED, TEXT, axes, picture
from qlayer_core.show.results import column_name, measured, row_name, summary
from qlayer_core.study import experiments, paper, tables

TARGETS = experiments.TARGETS
MAIN = {"mnist": ("1a", "2a"), "fashion-mnist": ("1b", "2b")}  # black box, white box
TRAINED = (*TARGETS, *(f"{name}-adv" for name in TARGETS))


def weaker_white_box(seed: int | None = None, dataset: str = "mnist") -> Markup:
    """Return where a white-box attack leaves more images right than the same attack made on another model.

    An attacker who sees the model can always do what one who doesn't can: each such case is a failure of the
    white-box attack, not a strength of the model.
    """
    black, white = (summary(number, seed) for number in MAIN[dataset])
    rows, few = [], False
    for place in black.index:
        if place[1] == "clean":
            continue
        line = [f"{row_name(place[0])}, {column_name(place[1])}"]
        odd = False
        for whose in ("paper", "ours"):
            blind, seeing = black.loc[place, whose], white.loc[place, whose]
            odd |= seeing > blind
            text = decimal(seeing)
            text = struck(text, white.loc[place, "unreliable"] if whose == "ours" else None)
            circles = [
                tables.FEW if whose == "ours" and one.loc[place, "few"] else "" for one in (black, white)
            ]
            line += [
                f"{decimal(blind)}{circles[0]}",
                (f"<strong>{text}</strong>" if seeing > blind else text) + circles[1],
            ]
        if odd:
            rows.append(line)
            few |= any(one.loc[place, "few"] for one in (black, white))
    return table(
        rows,
        ["network, attack", "paper, black box", "paper, white box", "ours, black box", "ours, white box"],
        "Accuracy (%) where, in the paper or in ours, a white-box attack is weaker (bold) than the same attack made"
        " blind. Struck through: ours, where it failed."
        + (f" {tables.FEW} Only the first of the test images." if few else ""),
    )


def clipped_table(dataset: str = "mnist", models: Sequence[str] = TRAINED, seed: int | None = None) -> Markup:
    """Return white-box accuracies by the exact gradient and by that of clipped probabilities, beside the paper's.

    A row per model and attack, of the deployed answer; with what share of the images the clipped gradient moved none.
    """
    number, kinds = MAIN[dataset][1], ("{}", "{}-clipped")
    found, others = {}, {}
    for name in models:
        mine = white_box(dataset, name, seed)
        for attack in ("fgsm", "bim"):
            for eps in datasets.find(dataset).epsilons:
                exact, clipped = (
                    mine[(mine.attack == kind.format(attack)) & (mine.eps == eps)] for kind in kinds
                )
                if clipped.empty:
                    continue
                row = f"{names.label(name)}, {names.attack(attack)} {eps}"
                found |= {(row, "exact"): exact, (row, "clipped"): clipped}
                unmoved = 100 * (clipped.unmoved / clipped.n).astype(float).mean()
                others[row] = paper.TABLES[number].cell(name, f"{attack} {eps}").accuracy, unmoved
    shown, alone = _means(found)
    failed = any(cells.unreliable.notna().any() for cells in found.values())
    return table(
        [
            [row, decimal(published), shown[row, "exact"], shown[row, "clipped"], decimal(unmoved, 1)]
            for row, (published, unmoved) in others.items()
        ],
        ["network, attack", "paper", "exact gradient", "clipped gradient", "unmoved, %"],
        "White-box accuracy (%) by the exact gradient and by that of probabilities clipped in single precision, and"
        " the share of images that the clipped gradient left as they were."
        f" {measured(number, seed, bounds=False)}{alone}"
        + (" Struck through: failed a sanity check." if failed else ""),
    )


def cw_table(dataset: str = "mnist", models: Sequence[str] = TRAINED, seed: int | None = None) -> Markup:
    """Return the paper's C&W columns beside ours on logits and on probabilities, and beside BIM."""
    number, kinds = MAIN[dataset][1], ("cw", "cw-softmax", "bim")
    found, published = {}, {}
    for name in models:
        mine = white_box(dataset, name, seed)
        for eps in datasets.find(dataset).epsilons if len(mine) else ():
            row = f"{names.label(name)}, {eps}"
            found |= {(row, kind): mine[(mine.attack == kind) & (mine.eps == eps)] for kind in kinds}
            published[row] = paper.TABLES[number].cell(name, f"cw {eps}").accuracy
    shown, alone = _means(found)
    return table(
        [[row, decimal(theirs), *(shown[row, kind] for kind in kinds)] for row, theirs in published.items()],
        ["network, epsilon", "paper", "logits", "probabilities", "BIM"],
        "Accuracy (%) under the Carlini-Wagner attack: the paper's, ours on logits, and ours on probabilities; beside"
        f" it BIM with the same epsilon. {measured(number, seed, bounds=False)}{alone}",
    )


def recorded_curves(
    setting: str, dataset: str = "mnist", models: Sequence[str] = TARGETS, seed: int | None = None
) -> dict[tuple | str, tuple]:
    """Return FGSM accuracy against epsilon of each recorded model, for `sliders.accuracy_explorer`.

    Args:
        setting: ``"black-box"`` (from CNN A) or ``"white-box"`` (through the E-path).
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        models: their names.
        seed: whose; None for the mean over all that are recorded.

    Returns:
        Model name, or model name and path, to epsilons, accuracies in percent and the band: the number of images or,
        with several seeds, the lowest and the highest values.
    """
    found = {}
    for key, mine in _fgsm(setting, dataset, models, seed).items():
        by_eps = mine.assign(accuracy=mine.accuracy.astype(float)).groupby("eps").accuracy
        several = mine.seed.nunique() > 1
        band = (by_eps.min().tolist(), by_eps.max().tolist()) if several else int(mine.n.min())
        found[key] = by_eps.mean().index.tolist(), by_eps.mean().tolist(), band
    return found


def failed(
    setting: str, dataset: str = "mnist", models: Sequence[str] = TARGETS, seed: int | None = None
) -> dict[tuple | str, list[float]]:
    """Return at which epsilons of the curves of `recorded_curves` the attack failed a sanity check, for any seed."""
    return {
        key: sorted(set(mine[mine.unreliable.notna()].eps))
        for key, mine in _fgsm(setting, dataset, models, seed).items()
    }


def _fgsm(
    setting: str, dataset: str, models: Sequence[str], seed: int | None
) -> dict[tuple | str, pd.DataFrame]:
    """Return the cells of each curve of `recorded_curves`, those of one epsilon all of the same images."""
    frame = tables.cells()
    frame = frame[frame.dataset == dataset]
    if seed is not None:
        frame = frame[frame.seed == seed]
    found = {}
    for name in models:
        layered = experiments.spec(name).layer is not None
        seen = (
            _equal(frame.source, "cnn-a")
            if setting == "black-box"
            else _equal(frame.attacked_path, "e" if layered else None)
        )
        attacked = (frame.setting == setting) & (frame.attack == "fgsm") & seen
        for path in ("q", "e") if layered else (None,):
            mine = frame[
                (frame.model == name) & _equal(frame.path, path) & (attacked | (frame.setting == "clean"))
            ]
            if mine.eps.nunique() < 2:
                continue
            parts = [tables.alike(part) for _, part in mine.groupby("eps")]
            found[(name, path) if path else name] = pd.concat(parts)
    return found


@picture
def white_over_black(dataset: str = "mnist", models: Sequence[str] = TARGETS, seed: int | None = None):
    """Draw FGSM accuracy of the deployed answer against epsilon, white box over black box, a panel per model.

    A point whose attack failed a sanity check is crossed out.
    """
    settings = {"black-box": ("-", "o"), "white-box": ("--", "s")}
    cross = {"marker": "x", "linestyle": "", "color": TEXT, "markersize": 9, "markeredgewidth": 1.5}
    both = {setting: recorded_curves(setting, dataset, models, seed) for setting in settings}
    crossed = {setting: failed(setting, dataset, models, seed) for setting in settings}
    keys = [
        key
        for key in both["black-box"]
        if key in both["white-box"] and (isinstance(key, str) or key[1] == "q")
    ]
    across = min(3, max(2, len(keys)))
    down = -(-max(1, len(keys)) // across)
    figure, grid = axes(2.3 * across, 2.3 * down + 0.5, down, across, sharey=True)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
    words, struck_out = [], []
    for ax, key in zip(grid.flat, keys, strict=False):
        name = key if isinstance(key, str) else key[0]
        for setting, (dash, marker) in settings.items():
            xs, ys, _ = both[setting][key]
            ax.plot(xs, ys, dash, marker=marker, color=names.colour(name))
            bad = [(x, y) for x, y in zip(xs, ys, strict=True) if x in crossed[setting][key]]
            if bad:
                ax.plot(*zip(*bad, strict=True), **cross)
                struck_out.append(
                    f"{names.label(name)}, {names.SETTINGS[setting]}, at {listed([f'{x:g}' for x, _ in bad])}"
                )
        blind, seeing = (dict(zip(*both[setting][key][:2], strict=True)) for setting in settings)
        above = [f"{eps:g}" for eps in blind if seeing.get(eps, 0) > blind[eps]]
        words.append(
            f"{names.label(name)}: white box above black box at {listed(above) if above else 'no epsilon'}"
        )
        ax.set(title=names.label(name), xlabel="epsilon", ylim=(0, 102))
    for ax in grid.flat[len(keys) :]:
        ax.set_visible(False)
    for ax in grid[:, 0]:
        ax.set_ylabel("accuracy (%)")
    for setting, (dash, marker) in settings.items():
        grid[0, 0].plot([], [], dash, marker=marker, color=MUTED, label=names.SETTINGS[setting])
    if struck_out:
        grid[0, 0].plot([], [], label="attack failed a sanity check", **cross)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, labelcolor=TEXT)
    return (
        figure,
        "Accuracy under FGSM against epsilon, by an attacker who sees the network and by one who doesn't."
        f" {'; '.join(words)}."
        + (
            f" Crossed out, since the attack failed a sanity check: {'; '.join(struck_out)}."
            if struck_out
            else ""
        ),
    )


def white_box(dataset: str, name: str, seed: int | None = None) -> pd.DataFrame:
    """Return the recorded white-box cells of a model's deployed answer, attacked through its E-path if it has one."""
    path, attacked = (None, None) if experiments.spec(name).layer is None else ("q", "e")
    frame = tables.cells()
    frame = frame[(frame.dataset == dataset) & (frame.model == name) & (frame.setting == "white-box")]
    frame = frame[_equal(frame.path, path) & _equal(frame.attacked_path, attacked)]
    return frame if seed is None else frame[frame.seed == seed]


def _means(found: Mapping[tuple[str, str], pd.DataFrame]) -> tuple[dict[tuple[str, str], str], str]:
    """Return the mean accuracy of cells by row and column, with marks, and what the daggers mean.

    It is struck through where a cell is unreliable; a dash for none.
    """
    fewer, alone = marks.seeds({place: tuple(cells.seed) for place, cells in found.items()})
    few = tables.circles(n for cells in found.values() for n in cells.n)
    shown = {}
    for place, cells in found.items():
        cells = tables.alike(cells)
        mean = decimal(cells.accuracy.astype(float).mean() if len(cells) else None)
        shown[place] = struck(mean, tables.unreliable(cells)) + few.get(cells.n.min(), "") + fewer[place]
    return shown, alone


def _equal(values: pd.Series, wanted: str | None) -> pd.Series:
    return values.isna() if wanted is None else values == wanted
