"""Figure 2 taken apart, from the records: how surprising changed images are, as pixels and as codes."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qlayer_core.show.page import Markup, decimal, listed, table, wrapped
from qlayer_core.show.pixels import LOOKS, label
from qlayer_core.show.plot import MUTED, axes, picture
from qlayer_core.study import divergence, likelihoods, paper, scores


def per_symbol(record: dict, name: str) -> np.ndarray:
    """Return a recorded set's surprise in bits per symbol, ``(n,)``."""
    return -scores.unpack(record["sets"][name]) / (scores.dimensions(record) * math.log(2))


@picture
def histograms(panels: Sequence[tuple[str, dict, Sequence[str]]], columns: int = 2):
    """Draw histograms of images' surprise in bits per symbol, sets over each other.

    Args:
        panels: title, record, and names of its sets.
        columns: panels in a row.
    """
    import seaborn as sns  # here, since all of SciPy's statistics come with it: a quarter of a chapter's start

    rows = -(-len(panels) // columns)
    figure, grid = axes(3.1 * columns, 2.5 * rows + 0.3, rows, columns)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.08)
    words = []
    for ax, (title, record, sets) in zip(grid.flat, panels, strict=False):
        values = {name: per_symbol(record, name) for name in sets}
        low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
        said = []
        for name, found in values.items():
            text, colour, line = LOOKS[name.split()[-2] if " " in name else name]
            sns.histplot(
                x=found,
                bins=np.linspace(low, high, 41),
                stat="percent",
                element="step",
                color=colour,
                linestyle=line,
                alpha=0.25,
                label=text,
                ax=ax,
            )
            said.append(f"{text} {found.mean():.2f}")
        ax.set(title=title, ylabel="", xlabel="bits per symbol")
        words.append(f"{title}, mean bits: {listed(said)}")
    grid[0, 0].legend()
    for ax in grid[:, 0]:
        ax.set_ylabel("images (%)")
    for ax in grid.flat[len(panels) :]:
        ax.set_visible(False)
    return figure, f"Histograms of the surprise of images, in bits per symbol. {'; '.join(words)}."


def apart(records: Mapping[str, dict], eps: float = likelihoods.FIGURE_2) -> Markup:
    """Return Figure 2 taken apart: each way to score, the published formula, and what measures a distance."""
    how = {
        "published fgsm": "FGSM, as the public code scores it",
        "crossed fgsm": "FGSM, the same on the right scale",
        "fgsm": "FGSM, the attacked image itself",
        "signs": "random signs of the same size",
        "uniform": "uniform noise",
    }
    rows = []
    for name, record in records.items():
        statistics = {row["set"]: row for row in record["statistics"]}
        clean = statistics["clean"]["bits"]
        for kind, words in how.items():
            row = statistics.get(f"{kind} {eps:g}")
            if row is None:
                continue
            authors = kind == ("published fgsm" if name == likelihoods.PIXELS else "fgsm")
            key = "pixels" if name == likelihoods.PIXELS else "concepts"
            quoted = paper.FIGURE_2[key] if authors and name != "q-large" else None
            rows.append(
                [
                    wrapped(f"{label(name)}: {words}"),
                    f"{clean:.2f} → {row['bits']:.2f}",
                    decimal(quoted),
                    decimal(row["kl published"]),
                    _with_ends(row["kl histogram"], most=divergence.ceiling(record["sets"]["clean"]["n"])),
                    _with_ends(row["auc"], 3),
                ]
            )
    n = {record["sets"]["clean"]["n"] for record in records.values()}
    counts = listed([f"{count:,}" for count in sorted(n)])
    columns = ["symbols: images", "bits per symbol", "paper's KL", "its formula, ours", "KL, nats", "AUC"]
    return table(
        rows,
        columns,
        f"Clean against changed images, epsilon {eps:g}, {counts} test images, with 95 % intervals. A KL of"
        f" {divergence.ceiling(max(n)):.2f} is the most that {divergence.BINS} bins can show of {max(n):,} images.",
    )


def _with_ends(found: Sequence[float], digits: int = 2, most: float = math.inf) -> str:
    # images drawn anew may fill the bins less evenly, and pass the most
    value, low, high = (decimal(min(number, most), digits) for number in found)
    if found[0] > 0.98 * most:
        return f"{value}<br><small>the most</small>"
    return f"{value}<br><small>{low} to {high}</small>"


def statistic(record: dict, name: str, what: str) -> float:
    """Return one recorded statistic of a set: ``"bits"``, ``"kl published"``, ``"kl histogram"``, ``"auc"``, ..."""
    (row,) = (row for row in record["statistics"] if row["set"] == name)
    value = row[what]
    return value[0] if isinstance(value, list) else value


def over_seeds(records: Sequence[dict], eps: float = 0.1) -> dict[str, list[float]]:
    """Return numbers of PixelCNNs of the same symbols, by what they say, one per record.

    They are of the first test images that all of the records scored, since the paper's formula is a sum over images.
    """
    n = shared(records)
    scale = scores.dimensions(records[0]) * records[0]["symbols"]["values"]

    def scored(name: str, measure: Callable[[np.ndarray, np.ndarray], float]) -> list[float]:
        pairs = [[scores.unpack(one["sets"][of])[:n] for of in ("clean", name)] for one in records]
        return [measure(clean, changed) for clean, changed in pairs]

    def formula(clean: np.ndarray, changed: np.ndarray) -> float:
        return divergence.published(clean, changed, scale)

    far = f"fgsm {likelihoods.FIGURE_2:g}"
    return {
        "bits per symbol": [record["bits"]["model"] for record in records],
        f"AUC, FGSM {eps:g}": scored(f"fgsm {eps:g}", divergence.auc),
        f"AUC, random signs {eps:g}": scored(f"signs {eps:g}", divergence.auc),
        f"KL, {far.upper()}, nats": scored(far, divergence.histogram_kl),
        "paper's formula": scored(far, formula),
    }


def shared(records: Sequence[dict]) -> int:
    """Return how many test images all of the records scored."""
    return min(record["sets"]["clean"]["n"] for record in records)


def spread(records: Mapping[str, Sequence[dict]]) -> Markup:
    """Return what the PixelCNN's own chance adds: the numbers of `over_seeds`, lowest to highest."""
    rows = []
    for name, several in records.items():
        numbers = over_seeds(several)
        ends = [" to ".join(sorted({f"{min(few):.3f}", f"{max(few):.3f}"})) for few in numbers.values()]
        rows.append([wrapped(label(name)), f"{len(several)}", f"{shared(several):,}", *ends])
    return table(
        rows,
        ["symbols", "seeds", "images", *numbers],
        "PixelCNNs of the same codes, trained from several seeds, lowest to highest, on the first test images.",
    )


@picture
def against_epsilon(records: Mapping[str, dict], what: str = "auc", y: str = "AUC"):
    """Draw a statistic of each perturbation against epsilon, with its interval, a panel per record."""
    figure, grid = axes(2.6 * max(2, len(records)), 2.9, 1, len(records), sharey=True)
    figure.get_layout_engine().set(w_pad=0.1)
    words = []
    for ax, (name, record) in zip(grid[0], records.items(), strict=True):
        for kind in likelihoods.PERTURBATIONS:
            rows = {row["set"]: row[what] for row in record["statistics"] if row["set"] != "clean"}
            values = np.array([rows[f"{kind} {eps:g}"] for eps in likelihoods.EPSILONS])
            text, colour, line = LOOKS[kind]
            ax.plot(likelihoods.EPSILONS, values[:, 0], line, marker="o", color=colour, label=text)
            ax.fill_between(likelihoods.EPSILONS, values[:, 1], values[:, 2], color=colour, alpha=0.2, lw=0)
            said = " ".join(f"{value:.2f}" for value in values[:, 0])
            words.append(f"{label(name)}, {text}: {said}")
        ax.set(title=label(name), xlabel="epsilon")
    if what == "auc":
        for ax in grid[0]:
            ax.axhline(0.5, color=MUTED, lw=1)
            ax.set_ylim(0, 1.03)
            curves = ax.get_lines()[:-1]
            if (lowest := min(min(curve.get_ydata()) for curve in curves)) >= 0.995:  # they cover each other
                ax.annotate(
                    f"all {len(curves)} curves at {lowest:.1f}",
                    (0.5, 0.85),
                    xycoords="axes fraction",
                    ha="center",
                )
    grid[0, 0].set_ylabel(y)
    grid[0, 0].legend(loc="lower right")
    ends = f"{likelihoods.EPSILONS[0]:g} to {likelihoods.EPSILONS[-1]:g}"
    return figure, f"{y} against epsilon, {ends}. {'; '.join(words)}."


def flips(record: dict) -> Markup:
    """Return which share of codes each perturbation changes, and which share of answers stays right."""
    kinds = list(likelihoods.PERTURBATIONS)
    rows = [
        [
            f"epsilon {eps:g}",
            *(
                f"{statistic(record, f'{kind} {eps:g}', what):.1f}"
                for kind in kinds
                for what in ("changed", "accuracy")
            ),
        ]
        for eps in likelihoods.EPSILONS
    ]
    columns = ["size", *(f"{LOOKS[kind][0]}: {what}" for kind in kinds for what in ("changed", "right"))]
    n = record["sets"]["clean"]["n"]
    clean = statistic(record, "clean", "accuracy")
    return table(
        rows,
        columns,
        f"Codes that changed and answers that are right, in percent, of {n:,} test images; of the clean ones"
        f" {clean:.1f} % are classified correctly.",
    )
