"""What the chapters show of training: a live picture, recorded histories, the epoch that is kept, the collapse."""

import math
from collections.abc import Mapping, Sequence

from IPython.display import display
from ipywidgets import VBox
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from qlayer_core.show import names, slides
from qlayer_core.show.controls import explorer, slider
from qlayer_core.show.page import Markup, decimal, listed, note, table
from qlayer_core.show.plot import MUTED, SERIES, TEXT, apart, axes, picture, write
from qlayer_core.study import experiments, records

LOSSES = {  # the squared commitment loss has the codebook loss's value
    "q": "$L_Q$",
    "e": "$L_E$",
    None: "$L$",
    "codebook": "to codes",
}
DASHES = ("-", "--", ":")
History = Sequence[dict]


class LiveCurves:
    """A picture of a training run that grows with it: pass `add` as ``report`` to `training.train`."""

    def __init__(self, name: str):
        self.name, self.rows = name, []
        self.shown = display(note("Training", "<p>The first epoch is under way.</p>"), display_id=True)

    def add(self, row: dict) -> None:
        """Draw the history with one more row."""
        self.rows.append(row)
        self.shown.update(draw({self.name: self.rows}))


def recorded(
    models: Sequence[str] = experiments.TARGETS, dataset: str = "mnist", seed: int = 0
) -> dict[str, History]:
    """Return the history of each of these models that is recorded."""
    units = {name: records.unit(dataset, name, seed) for name in models}
    return {name: records.read_unit(unit)["history"] for name, unit in units.items() if unit.record.exists()}


def every_seed(
    models: Sequence[str] = experiments.TARGETS, dataset: str = "mnist"
) -> dict[str, list[History]]:
    """Return the histories of each of these models that is recorded, one per seed."""
    found = {name: [run["history"] for run in records.runs(dataset, name)] for name in models}
    return {name: runs for name, runs in found.items() if runs}


def deployed(history: History) -> str | None:
    """Return the path with whose answer the network is deployed: ``"q"``, or None for a plain network."""
    return "q" if "q" in history[0]["accuracy"] else None


def best(history: History) -> dict:
    """Return the row whose weights were kept: the first with the highest score."""
    return max(history, key=lambda row: row["score"])


@picture
def draw(rows: Mapping[str, History]):
    """Draw histories, one line of panels per model: validation accuracy, with the kept epoch marked, and losses.

    Args:
        rows: name of a model to the rows of its history, as `training.train` reports them.
    """
    figure, grid = axes(6.6, 2.5 * len(rows), len(rows), 2)
    words = []
    for (left, right), (name, history) in zip(grid, rows.items(), strict=True):
        epochs, kept, path = [row["epoch"] for row in history], best(history), deployed(history)
        for one in history[0]["accuracy"]:
            look = names.style(name, one) | {"marker": ""}
            for kind, shade in zip(history[0]["accuracy"][one], (1, 0.85, 0.7), strict=False):
                values = [row["accuracy"][one][kind] for row in history]
                left.plot(epochs, values, **look | {"alpha": shade})
        for kind, place in apart(history[-1]["accuracy"][path]).items():
            write(left, names.attack(kind), 1.02 * epochs[-1], place)  # clear of the kept epoch's line
        left.axvline(kept["epoch"], color=MUTED, linewidth=1)
        left.set(ylim=(0, 101), ylabel=f"{names.label(name)}\nvalidation accuracy (%)")
        losses, ends = [loss for loss in LOSSES if loss in history[0]["losses"]], {}
        for loss, dash in zip(losses, DASHES, strict=False):
            values = [row["losses"][loss] for row in history]
            right.plot(epochs, values, color=names.colour(name), linestyle=dash)
            ends[LOSSES[loss if path else None]] = values[-1]
            words.append(f"{name}: loss {loss} from {values[0]:.2g} to {values[-1]:.2g}")
        right.set(yscale="log", ylabel="training loss")
        low, high = map(math.log, right.get_ylim())
        low -= 0.12 * (high - low)  # the lowest name stands clear of the axis
        right.set_ylim(math.exp(low), math.exp(high))
        shares = {what: 100 * (math.log(value) - low) / (high - low) for what, value in ends.items()}
        for what, place in apart(shares).items():
            write(right, what, epochs[-1], math.exp(low + place / 100 * (high - low)))
        wide = high - low > math.log(10)
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_locator(NullLocator())
        for ax in (left, right):  # room for the curves' names
            ax.set_xlim(0, 1.4 * epochs[-1])
            ax.set_xticks(range(0, epochs[-1] + 1, max(1, epochs[-1] // 3)))
        score = ", ".join(f"{kind} {value:.1f} %" for kind, value in kept["accuracy"][path].items())
        words.append(f"{name}: best at epoch {kept['epoch']} of {epochs[-1]} with {score}")
        words.append(f"{name}: clean {history[-1]['accuracy'][path]['clean']:.1f} % at the end")
    for ax in grid[-1]:
        ax.set_xlabel("epoch")
    return figure, f"Validation accuracy and training losses by epoch. {'; '.join(words)}."


def inactive(history: History) -> tuple[list[int], list[int]]:
    """Return the epochs and how many codes of all heads were inactive in each, for `plot.curves`."""
    return [row["epoch"] for row in history], [sum(row["inactive"]) for row in history]


def afterwards(rows: Mapping[str, History]) -> Markup:
    """Return a table of what was kept, and of what both paths answer at the end of training."""
    lines = []
    for name, history in rows.items():
        path, kept, last = deployed(history), best(history), history[-1]

        def accuracies(row: dict, path: str | None = path) -> list[str]:
            return [
                f"{row['accuracy'][one]['clean']:.1f}" for one in ((path,) if path is None else ("q", "e"))
            ]

        pairs = [accuracies(kept), accuracies(last)]
        cells = [cell for pair in pairs for cell in (pair if len(pair) == 2 else (*pair, ""))]
        lines.append([names.label(name), f"{kept['epoch']} of {last['epoch']}", *cells])
    return table(
        lines,
        ["model", "kept epoch", "kept: answer", "kept: E-path", "at the end: answer", "at the end: E-path"],
        "Clean validation accuracy (%) of the deployed answer and of the E-path at the epoch whose weights were kept,"
        f" and at the end.{_paused({names.label(name): history for name, history in rows.items()})}",
    )


def _paused(rows: Mapping[str, History]) -> str:
    """Return a sentence for a caption that names the runs that neither patience nor the last epoch has ended."""
    spec = experiments.spec("cnn")  # all that are shown here have its epochs and patience
    paused = [
        name
        for name, history in rows.items()
        if history[-1]["epoch"] - best(history)["epoch"] < spec.patience and len(history) < spec.epochs
    ]
    return f" Paused before it was over: {listed(paused)}." if paused else ""


def kept_table(rows: Mapping[str, History]) -> Markup:
    """Return a table of the epoch that was kept: its score, and the deployed answer on each validation set.

    Args:
        rows: a name for each run, such as its setting, to its history; all with the same validation sets.
    """
    lines, kinds = [], []
    for name, history in rows.items():
        row = best(history)
        accuracies = row["accuracy"][deployed(history)]
        kinds = [names.attack(kind) for kind in accuracies]
        values = (row["score"], *accuracies.values())
        lines.append(
            [name, f"{row['epoch']} of {history[-1]['epoch']}", *(decimal(value, 1) for value in values)]
        )
    return table(
        lines,
        ["run", "kept epoch", "mixed score", *kinds],
        "Right answers (%) on validation images at the epoch whose weights were kept, and the mixed score by which"
        f" it was chosen.{_paused(rows)}",
    )


def forces(history: History) -> dict[str, list[float]]:
    """Return by epoch what moves the encoder, see `training.forces`.

    Returns:
        ``"share of commitment"``, its pull on the encoder in percent of both pulls, and ``"feature norm"``.
    """
    both = [(row["pull of e"], row["pull of commitment"]) for row in history]
    return {
        "share of commitment": [100 * c / (e + c) if e + c else 0.0 for e, c in both],
        "feature norm": [row["feature norm"] for row in history],
    }


@picture
def draw_forces(rows: Mapping[str, History]):
    """Draw the features' length and the commitment's share of the pull on the encoder, by epoch.

    Args:
        rows: a name for each run, such as its commitment term, to its history.
    """
    figure, (grid,) = axes(6.6, 2.9, 1, 2)
    words = []
    for (name, history), shade, dash in zip(rows.items(), SERIES, (*DASHES, "-."), strict=False):
        epochs, found = [row["epoch"] for row in history], forces(history)
        for ax, (what, values) in zip(grid, found.items(), strict=True):
            ax.plot(epochs, values, color=shade, linestyle=dash, label=name)
            ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            words.append(f"{name}: {what} from {values[0]:.3g} to {values[-1]:.3g}")
    grid[0].set(xlabel="epoch", ylabel="commitment's share of the pull\non the encoder (%)", ylim=(0, 102))
    grid[1].set(xlabel="epoch", ylabel="mean length\nof a feature vector", ylim=(0, None))
    lines = grid[1].get_legend_handles_labels()
    figure.legend(*lines, title="commitment", loc="outside upper center", ncols=3, labelcolor=TEXT)
    return figure, f"What moves the encoder, and how long its feature vectors are. {'; '.join(words)}."


def collapse(rows: Mapping[str, History], kind: str = "clean") -> VBox:
    """Return a slider over epochs: what the Q-path reads until then under each form of the commitment term.

    Below the curves stand the values at the slider's epoch, and there the features' length and the commitment's share
    of the pull on the encoder.

    Args:
        rows: a name for each run, such as its commitment term, to its history.
        kind: the validation set that is read.
    """
    last = max(len(history) for history in rows.values())
    drawn = []
    for (name, history), shade, dash in zip(rows.items(), SERIES, DASHES, strict=False):
        epochs = [row["epoch"] for row in history]
        drawn.append(
            slides.Curve(
                name,
                {"color": shade, "linestyle": dash},
                epochs,
                [row["accuracy"]["q"][kind] for row in history],
            )
        )
    found = {name: forces(history) for name, history in rows.items()}
    title = f"The Q-path's accuracy in % on validation images ({names.attack(kind)}), by epoch"

    def page(step: int) -> str:
        lines = "".join(
            f'<tr><th scope="row">{name}</th>{_at(values, "feature norm", step, "{:.2f}")}'
            f"{_at(values, 'share of commitment', step, '{:.0f} %')}</tr>"
            for name, values in found.items()
        )
        heads = "".join(
            f'<th scope="col">{head}</th>'
            for head in ("", "feature length", "commitment's share of the pull")
        )
        so_far = [curve._replace(xs=curve.xs[: step + 1], ys=curve.ys[: step + 1]) for curve in drawn]
        chart = slides.chart(title, so_far, step + 1, f"{step + 1}", x="epoch", ticks=_ticks(last))
        return f"{chart}<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"

    return explorer([slider("epoch", [str(epoch + 1) for epoch in range(last)], 1)], page)


def _at(values: Mapping[str, Sequence[float]], what: str, step: int, text: str) -> str:
    """Return a table's cell with a value at a step, or a dash where the run was over."""
    return f"<td>{text.format(values[what][step]) if step < len(values[what]) else '-'}</td>"


def _ticks(last: int) -> list[int]:
    """Return some five evenly spaced epochs from 0 that reach ``last``."""
    width = -(-last // 5)
    return list(range(0, last + width, width))
