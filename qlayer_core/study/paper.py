"""The numbers that the paper published, Tables 1 to 11 and Figure 2, in the form of our recorded cells.

Accuracies are in percent of the 10,000 test images, typed as the paper prints them, one line per table row, so
that a reader can compare this file with the paper by eye. Nothing is corrected: see `INCONSISTENCIES`.

    TABLES["1a"].cell("q-base", "fgsm 0.3").accuracy        # 52.69
    {cell.key: cell for cell in TABLES["1a"].cells if cell.model == "q-base"}[key(recorded_cell)]

The paper's "CW" is `"cw"` here. It may have attacked the probabilities, not the logits, of models with the
layer, so `"cw-softmax"` is the other recorded attack to hold beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qlayer_core import datasets

KEY = ("setting", "attack", "eps", "source", "attacked_path", "path")
"""Where these fields agree, two cells of the same model and data set are the same measurement."""


@dataclass(frozen=True)
class Cell:
    """One published accuracy, in percent.

    `table`, `row` and `column` are its place; the rest says what was measured, in the words of recorded
    cells: `eps` is the L-infinity bound for images in [0, 1] (0.0 if clean), `source` the network that made
    black-box images, `attacked_path` the path that a white-box attack follows, `path` the one whose answer is
    scored. Both paths are None for a CNN without the layer.
    """

    table: str
    row: str
    column: str
    model: str
    dataset: str
    setting: str
    attack: str
    eps: float
    source: str | None
    attacked_path: str | None
    path: str | None
    accuracy: float

    @property
    def key(self) -> tuple:
        """The values of `KEY`: equal to those of a recorded cell that measures the same."""
        return tuple(getattr(self, field) for field in KEY)


@dataclass(frozen=True)
class Table:
    """One table. The caption is ours; `caption_dataset` is the data set in the paper's (None: not named)."""

    number: str
    caption: str
    dataset: str
    caption_dataset: str | None
    cells: tuple[Cell, ...]

    def cell(self, row: str, column: str) -> Cell:
        """Return the cell in a row ("q-base") and a column ("clean", "fgsm 0.3"), or raise KeyError."""
        for cell in self.cells:
            if (cell.row, cell.column) == (row, column):
                return cell
        rows = ", ".join(dict.fromkeys(cell.row for cell in self.cells))
        columns = ", ".join(dict.fromkeys(cell.column for cell in self.cells))
        raise KeyError(f"Table {self.number} has no ({row!r}, {column!r}); rows: {rows}; columns: {columns}")


# Data set, source of the black-box images (None: white box), caption.
_ABOUT = {
    "1a": ("mnist", "cnn-a", "Accuracy of the target models under black-box attacks"),
    "1b": ("fashion-mnist", "cnn-a", "Accuracy of the target models under black-box attacks"),
    "2a": ("mnist", None, "Accuracy of the target models under white-box attacks"),
    "2b": ("fashion-mnist", None, "Accuracy of the target models under white-box attacks"),
    "3a": ("mnist", "cnn-a", "Layer after or between (Q-inner) the convolutions, black-box attacks"),
    "3b": ("mnist", None, "Layer after or between (Q-inner) the convolutions, white-box attacks"),
    "5": ("mnist", "cnn-a", "CNN selected on clean or mixed validation images, black-box attacks"),
    "6a": ("mnist", "cnn-a", "Answers of the Q-path and of the E-path under black-box attacks"),
    "6b": ("mnist", None, "Answers of the Q-path and of the E-path under white-box attacks"),
    "7a": ("mnist", "cnn-b", "Accuracy of the target models under black-box attacks"),
    "7b": ("fashion-mnist", "cnn-b", "Accuracy of the target models under black-box attacks"),
    "8a": ("mnist", "cnn-a", "Heads (sub-spaces) by codes (concepts), raw-trained, black box"),
    "8b": ("mnist", "cnn-a", "Heads (sub-spaces) by codes (concepts), adversarially trained, black box"),
    "9": ("mnist", "cnn-a", "Q-large with separate and with shared tails under black-box attacks"),
    "10": ("mnist", None, "Q-large with separate and with shared tails under white-box attacks"),
    "11": ("mnist", None, "White-box attacks through the E-path and through the shortcut of eq. 9"),
}

# Columns: clean, then FGSM, BIM and (white box) CW, each at the smaller and the larger eps of the data set.
# Rows: `MODEL`, in Table 6 `MODEL PATH` (the path scored), in Table 11 `MODEL via PATH` (the path attacked).
# Table 8: K sub-spaces by n_c = 16, 64, 128 concepts, FGSM 0.3.
_ROWS = {
    "1a": {
        "cnn": (98.73, 75.77, 40.03, 62.52, 16.02),
        "q-base": (96.57, 84.86, 52.69, 84.08, 38.22),
        "q-large": (97.38, 85.87, 65.19, 86.48, 67.01),
        "cnn-adv": (98.73, 96.78, 80.57, 96.18, 64.60),
        "q-base-adv": (98.58, 96.36, 91.7, 96.72, 92.46),
        "q-large-adv": (98.33, 95.83, 84.58, 96.11, 86.4),
    },
    "1b": {
        "cnn": (86.65, 66.15, 43.07, 63.94, 38.7),
        "q-base": (84.76, 72.24, 47.77, 72.67, 52.41),
        "q-large": (82.3, 69.35, 51.92, 70.24, 52.32),
        "cnn-adv": (88.25, 83.56, 57.81, 83.68, 51.76),
        "q-base-adv": (83.21, 79.09, 71.07, 79.53, 73.12),
        "q-large-adv": (82.32, 78.78, 70.31, 78.89, 70.84),
    },
    "2a": {
        "cnn": (98.73, 43.18, 7.84, 6.69, 0.82, 58.00, 39.95),
        "q-base": (96.57, 77.23, 58.47, 59.05, 55.33, 90.46, 85.77),
        "q-large": (97.38, 65.99, 30.68, 60.24, 16.95, 87.64, 80.03),
        "cnn-adv": (98.73, 95.63, 90.23, 88.03, 7.77, 95.65, 90.08),
        "q-base-adv": (98.58, 95.21, 91.28, 94.64, 83.07, 97.37, 94.85),
        "q-large-adv": (98.33, 95.34, 90.83, 94.11, 79.94, 97.34, 95.3),
    },
    "2b": {
        "cnn": (86.65, 32.16, 11.28, 20.29, 8.06, 44.01, 20.95),
        "q-base": (84.76, 53.30, 24.17, 50.77, 14.36, 74.87, 67.82),
        "q-large": (82.30, 44.01, 17.33, 42.97, 14.99, 66.48, 56.92),
        "cnn-adv": (88.25, 81.39, 62.84, 65.41, 8.53, 78.62, 57.60),
        "q-base-adv": (83.21, 76.57, 59.27, 75.13, 41.85, 80.77, 73.4),
        "q-large-adv": (80.04, 75.36, 58.79, 74.04, 53.71, 78.82, 69.43),
    },
    "3a": {
        "cnn": (98.73, 75.77, 40.03, 62.52, 16.02),
        "q-large": (97.38, 85.87, 65.19, 86.48, 67.01),
        "q-inner": (98.09, 86.51, 61.60, 87.62, 63.49),
    },
    "3b": {
        "cnn": (98.73, 43.18, 7.84, 6.69, 0.82, 58.00, 39.95),
        "q-large": (97.38, 65.99, 30.68, 60.24, 16.95, 87.64, 80.03),
        "q-inner": (98.09, 82.41, 67.15, 83.08, 81.96, 90.36, 79.46),
    },
    "5": {
        "cnn-clean-selected": (99.48, 55.71, 22.29, 17.66, 0.63),
        "cnn": (98.73, 75.77, 40.03, 62.52, 16.02),
    },
    "6a": {
        "q-base q": (96.57, 84.86, 52.69, 84.08, 38.22),
        "q-base e": (97.46, 77.64, 37.65, 69.06, 17.13),
        "q-large q": (97.38, 85.87, 65.19, 86.48, 67.01),
        "q-large e": (98.59, 70.52, 34.44, 72.86, 29.32),
        "q-base-adv q": (98.58, 96.36, 91.77, 96.72, 92.46),
        "q-base-adv e": (98.84, 96.84, 86.0, 96.88, 81.51),
        "q-large-adv q": (98.33, 95.83, 84.58, 96.11, 86.4),
        "q-large-adv e": (99.09, 97.15, 64.42, 97.36, 60.9),
    },
    "6b": {
        "q-base q": (96.57, 77.23, 58.47, 59.05, 55.33, 90.46, 85.77),
        "q-base e": (97.46, 46.91, 44.09, 43.69, 43.69, 55.84, 32.31),
        "q-large q": (97.38, 65.99, 30.68, 60.24, 16.95, 87.64, 80.03),
        "q-large e": (98.59, 8.54, 2.13, 2.16, 1.98, 49.59, 32.07),
        "q-base-adv q": (98.58, 95.21, 91.28, 94.64, 83.07, 97.37, 94.85),
        "q-base-adv e": (98.84, 94.6, 90.62, 87.83, 14.62, 94.32, 86.53),
        "q-large-adv q": (98.33, 95.34, 90.83, 94.11, 79.94, 97.34, 95.3),
        "q-large-adv e": (99.09, 95.99, 88.28, 91.91, 34.34, 95.03, 88.12),
    },
    "7a": {
        "cnn": (98.73, 82.49, 51.60, 73.14, 28.89),
        "q-base": (96.57, 88.98, 64.57, 89.25, 57.83),
        "q-large": (97.38, 86.73, 68.48, 88.51, 74.05),
        "cnn-adv": (98.73, 97.29, 82.79, 96.78, 71.56),
        "q-base-adv": (98.58, 96.88, 93.45, 96.88, 93.83),
        "q-large-adv": (98.33, 96.36, 86.72, 96.41, 89.32),
    },
    "7b": {
        "cnn": (86.65, 72.62, 52.03, 70.87, 49.70),
        "q-base": (84.76, 74.64, 54.55, 75.85, 58.33),
        "q-large": (82.3, 71.95, 57.33, 73.16, 61.28),
        "cnn-adv": (88.25, 84.19, 64.84, 83.70, 63.29),
        "q-base-adv": (83.21, 80.07, 73.54, 80.12, 71.63),
        "q-large-adv": (82.32, 79.13, 72.10, 79.41, 74.42),
    },
    "8a": {
        "K=1": (46.69, 52.69, 44.64),
        "K=2": (60.38, 60.42, 49.42),
        "K=4": (65.23, 65.19, 60.68),
    },
    "8b": {
        "K=1": (70.89, 91.7, 83.77),
        "K=2": (80.08, 85.5, 85.74),
        "K=4": (82.28, 84.58, 83.65),
    },
    "9": {
        "q-large": (97.38, 85.87, 65.19, 86.48, 67.01),
        "q-large-shared": (98.44, 84.43, 48.64, 84.52, 47.19),
    },
    "10": {
        "q-large": (97.38, 65.99, 30.68, 60.24, 16.95, 87.64, 80.03),
        "q-large-shared": (98.44, 56.96, 16.10, 34.69, 8.17, 87.18, 79.48),
    },
    "11": {
        "cnn": (98.73, 43.18, 7.84, 6.69, 0.82, 58.00, 39.95),
        "q-base via e": (96.57, 77.23, 58.47, 59.05, 55.33, 90.46, 85.77),
        "q-base via shortcut": (96.57, 85.93, 63.12, 68.9, 60.78, 97.29, 96.58),
        "q-large via e": (97.38, 65.99, 30.68, 60.24, 16.95, 87.64, 80.03),
        "q-large via shortcut": (97.38, 70.36, 36.29, 62.62, 19.03, 92.72, 87.13),
        "cnn-adv": (98.73, 95.63, 90.23, 88.03, 7.77, 95.65, 90.08),
        "q-base-adv via e": (98.58, 95.21, 91.28, 94.64, 83.07, 97.37, 94.85),
        "q-base-adv via shortcut": (98.58, 97.05, 94.25, 96.28, 86.73, 98.34, 97.8),
        "q-large-adv via e": (98.33, 95.34, 90.83, 94.11, 79.94, 97.34, 95.3),
        "q-large-adv via shortcut": (98.33, 95.74, 90.31, 94.11, 73.77, 97.8, 96.47),
    },
}


def _cells(number: str) -> Iterator[Cell]:
    """Yield the cells of a table whose rows are models and whose columns are attacks."""
    dataset, source, _ = _ABOUT[number]
    setting, attacks = ("black-box", ("fgsm", "bim")) if source else ("white-box", ("fgsm", "bim", "cw"))
    epsilons = datasets.find(dataset).epsilons
    columns = [("clean", "none", 0.0)] + [(f"{a} {eps}", a, eps) for a in attacks for eps in epsilons]
    for row, accuracies in _ROWS[number].items():
        model, *words = row.split()
        layer = not model.startswith("cnn")
        path = ("e" if words == ["e"] else "q") if layer else None
        attacked = (words[1] if words[:1] == ["via"] else "e") if layer and not source else None
        for (column, attack, eps), accuracy in zip(columns, accuracies, strict=True):
            how = (setting, attack, eps, source, attacked) if eps else ("clean", "none", 0.0, None, None)
            yield Cell(number, row, column, model, dataset, *how, path, accuracy)


def _ablation_cells(number: str) -> Iterator[Cell]:
    """Yield the cells of Table 8a or 8b. Two of its nine models are Q-base and Q-large."""
    names = {"q-k1-n64": "q-base", "q-k4-n64": "q-large"}
    for row, accuracies in _ROWS[number].items():
        for size, accuracy in zip((16, 64, 128), accuracies, strict=True):
            name = f"q-k{row.removeprefix('K=')}-n{size}"
            model = names.get(name, name) + ("-adv" if number == "8b" else "")
            how = ("black-box", "fgsm", 0.3, "cnn-a", None, "q")
            yield Cell(number, row, f"n_c={size}", model, "mnist", *how, accuracy)


def _table(number: str) -> Table:
    dataset, _, caption = _ABOUT[number]
    if number in ("8a", "8b"):
        return Table(number, caption, dataset, None, tuple(_ablation_cells(number)))
    return Table(number, caption, dataset, "mnist", tuple(_cells(number)))


TABLES = {number: _table(number) for number in _ABOUT}

FIGURE_2 = {"pixels": 5.39, "concepts": 4.33}
"""KL divergence between the distributions of clean and of FGSM 0.4 images, on MNIST."""

_HEAD = (("dropout", 0.25), ("fc", 128, "relu"), ("dropout", 0.5), ("fc", 10, "softmax"))
ARCHITECTURES = {
    "cnn-a": (("conv", 64, 5, 1, "relu"), ("conv", 64, 5, 2, "relu"), *_HEAD),
    "cnn-b": (("conv", 128, 3, 1, "relu"), ("conv", 64, 3, 2, "relu"), *_HEAD),
}
"""Table 4, input to output: conv has channels, kernel, stride; fc has units; dropout has its rate."""


@dataclass(frozen=True)
class Inconsistency:
    """A place where the paper disagrees with itself.

    - "value": the cells of each pair are one measurement, printed with two values;
    - "caption": the main caption of `tables` names another data set than they hold;
    - "claim": the text says that the first cell of each pair is the higher one, and it is not;
    - "exception": the same, where the text says "generally" or "usually";
    - "order": the second cell is the first one's attack with full knowledge of the model, and yet it leaves
      more images right: no misprint, but a sign of masked gradients.
    """

    kind: Literal["value", "caption", "claim", "exception", "order"]
    note: str
    tables: tuple[str, ...]
    pairs: tuple[tuple[Cell, Cell], ...] = ()


def _disagree(kind: str, note: str, *places: str) -> Inconsistency:
    """Build an entry from places such as "2a cnn-adv > 2a q-base-adv: bim 0.2, cw 0.2"."""
    pairs = []
    for place in places:
        rows, columns = place.split(": ")
        first, second = (row.split(" ", 1) for row in rows.split(" > "))
        for column in columns.split(", "):
            pairs.append(tuple(TABLES[number].cell(row, column) for number, row in (first, second)))
    tables = dict.fromkeys(cell.table for pair in pairs for cell in pair)
    return Inconsistency(kind, note, tuple(tables), tuple(pairs))


_6A = TABLES["6a"].cell("q-base-adv q", "fgsm 0.3")
INCONSISTENCIES = (
    Inconsistency(
        "value",
        "Q-base + adv, black-box FGSM 0.3: Table 6a has a digit more than Tables 1a and 8b, and rounds to another.",
        ("1a", "6a", "8b"),
        ((TABLES["1a"].cell("q-base-adv", "fgsm 0.3"), _6A), (TABLES["8b"].cell("K=1", "n_c=64"), _6A)),
    ),
    _disagree(
        "value",
        "Q-large + adv on clean Fashion-MNIST: one model has two accuracies, more than two points apart.",
        "1b q-large-adv > 2b q-large-adv: clean",
        "7b q-large-adv > 2b q-large-adv: clean",
    ),
    Inconsistency("caption", "The caption says MNIST, but part (b) holds Fashion-MNIST.", ("1b", "2b", "7b")),
    _disagree(
        "claim", "Appendix E says that a Q-Layer helps; here it does not.", "7b q-large > 7b cnn: fgsm 0.1"
    ),
    _disagree(
        "claim",
        "Section 4.3 says that CNN + adv is slightly ahead under small perturbations; under BIM and C&W it is not.",
        "2a cnn-adv > 2a q-base-adv: bim 0.2, cw 0.2",
        "2a cnn-adv > 2a q-large-adv: bim 0.2, cw 0.2",
    ),
    _disagree(
        "claim",
        "Section 4.3 says that the results on Fashion-MNIST are similar: CNN + adv ahead under small perturbations,"
        " the Q-Layer under large ones. BIM and C&W 0.1 contradict the first, FGSM 0.2 the second.",
        "2b cnn-adv > 2b q-base-adv: bim 0.1, cw 0.1",
        "2b cnn-adv > 2b q-large-adv: bim 0.1, cw 0.1",
        "2b q-base-adv > 2b cnn-adv: fgsm 0.2",
        "2b q-large-adv > 2b cnn-adv: fgsm 0.2",
    ),
    _disagree(
        "claim", "Section 4.4 says that Q-inner is better; here it is not.", "3b q-inner > 3b q-large: cw 0.3"
    ),
    _disagree(
        "exception",
        "Section 4.2 says that attacks made with CNN A are generally stronger than those with CNN B; one is weaker.",
        "7b q-base-adv > 1b q-base-adv: bim 0.2",
    ),
    _disagree(
        "exception",
        "Section 4.3 and Appendix H say that attacks through the shortcut are usually weaker; against Q-large + adv"
        " two are stronger, which the paper underlines, and one is level.",
        "11 q-large-adv via shortcut > 11 q-large-adv via e: fgsm 0.3, bim 0.2, bim 0.3",
    ),
    _disagree(
        "order",
        "An attacker who sees the network can do all that a blind one can. Yet these white-box attacks are weaker"
        " than the same attack made with CNN A.",
        "1a q-base > 2a q-base: fgsm 0.3, bim 0.3",
        "1a cnn-adv > 2a cnn-adv: fgsm 0.3",
        "1a q-large-adv > 2a q-large-adv: fgsm 0.3",
        "1b cnn-adv > 2b cnn-adv: fgsm 0.2",
        "3a q-inner > 3b q-inner: fgsm 0.3, bim 0.3",
        "6a q-base e > 6b q-base e: fgsm 0.3, bim 0.3",
        "6a q-base-adv e > 6b q-base-adv e: fgsm 0.3",
        "6a q-large-adv e > 6b q-large-adv e: fgsm 0.3",
    ),
)
