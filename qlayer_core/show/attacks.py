"""What the chapter on fooling a network draws, and the answers behind it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from qlayer_core import attacks
from qlayer_core.show import names
from qlayer_core.show.plot import GRID, TEXT, WRONG, axes, frame, picture, tile


@torch.no_grad()
def answers(model: attacks.Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class that a model answers with and its probability, each ``(N,)``."""
    probability, chosen = model(images).float().softmax(1).max(1)
    return chosen, probability


def attack_path(
    model: attacks.Model, image: Tensor, label: int, *, eps: float, step: float = 0.01, iterations: int = 40
) -> Tensor:
    """Return the probability of ``label`` before and after each step of BIM, ``(iterations + 1,)``.

    Args:
        model: images to logits.
        image: ``(1, 1, 28, 28)`` in [0, 1].
        label: its class.
        eps: L-infinity bound.
        step: of one iteration.
        iterations: how many.
    """
    target, x, seen = torch.tensor([label]), image, []
    for _ in range(iterations + 1):
        with torch.no_grad():
            seen.append(model(x).float().softmax(1)[0, label])
        # One step from x, then back into the box around the image.
        x = attacks.fgsm(model, x, target, eps=step).clamp(image - eps, image + eps)
    return torch.stack(seen)


@picture
def gallery(model: attacks.Model, images: Tensor, attacked: Mapping[str, Tensor], labels: Tensor):
    """Draw images, and for each attack what it changed and the result, with the model's answers.

    Args:
        model: images to logits.
        images: ``(N, 1, 28, 28)`` in [0, 1], the clean ones.
        attacked: name of the attack to its images, each ``(N, 1, 28, 28)``.
        labels: ``(N,)``, the true classes.
    """
    rows = [("clean", images, False)]
    for name, made in attacked.items():
        name = names.attack(name)
        rows += [(f"change\nby {name}", made - images, True), (name, made, False)]
    figure, grid = axes(0.82 * len(images) + 0.85, 0.94 * len(rows) + 0.1, len(rows), len(images))
    largest = max((made - images).abs().max().item() for made in attacked.values())
    words = []
    for line, (name, shown, change) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        for ax, image in zip(line, shown, strict=True):
            tile(ax, image, largest if change else None)
        if not change:
            chosen, probability = answers(model, shown)
            for ax, answer, p, label in zip(line, chosen, probability, labels, strict=True):
                wrong = answer != label
                ax.set_xlabel(
                    f"{answer} ({100 * p:.0f} %)", fontweight="bold" if wrong else "normal", labelpad=2
                )
                frame(ax, WRONG if wrong else GRID, 2.5 if wrong else 1)
            words.append(f"{name}: read as {', '.join(str(int(answer)) for answer in chosen)}")
    return figure, (
        f"Digits {', '.join(str(int(label)) for label in labels)}, what each attack changed, and the attacked"
        f" images with the network's answer; wrong answers are framed. {'; '.join(words)}."
    )


@picture
def gradient(model: attacks.Model, image: Tensor, label: int):
    """Draw an image ``(1, 1, 28, 28)``, the gradient of its loss in every pixel, and the gradient's sign."""
    problem = attacks.Problem(model, image, torch.tensor([label]), eps=1.0)
    slope = problem.gradient(image, "ce")
    figure, grid = axes(6, 2.3, 1, 3)
    tiles = ((image, None), (slope, slope.abs().max().item()), (slope.sign(), 1.0))
    titles = ("image", "gradient of the loss", "its sign")
    for ax, (shown, largest), title in zip(grid[0], tiles, titles, strict=True):
        tile(ax, shown[0], largest)
        ax.set_title(title)
    upwards, flat = (sign.float().mean().item() for sign in (slope > 0, slope == 0))
    return figure, (
        f"A digit {label}; the gradient of its loss, large at few pixels near the strokes; and the gradient's sign,"
        f" full strength but where it is zero ({100 * flat:.0f} % of the pixels), upwards in {100 * upwards:.0f} %."
    )


@picture
def margins(values: Mapping[str, Tensor]):
    """Draw the distribution of margins ``(N,)``, the label's logit minus the best other, one row per name."""
    everything = torch.cat(list(values.values()))
    width = (everything.max() - everything.min()).item() / 40 or 1
    first, last = (int(end.item() // width) for end in (everything.min(), everything.max()))
    edges = [width * i for i in range(first, last + 2)]  # one of them is zero
    figure, grid = axes(6, 0.95 * len(values) + 0.5, len(values), 1, sharex=True)
    words = []
    for ax, (name, margin) in zip(grid[:, 0], values.items(), strict=True):
        for part, shade in (
            (margin[margin > 0], names.NEUTRAL),
            (margin[margin <= 0], WRONG),
        ):
            ax.hist(part.tolist(), bins=edges, color=shade)
        ax.axvline(0, color=TEXT, linewidth=1)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        words.append(f"{name}: {100 * (margin <= 0).float().mean():.0f} % at or below zero")
    grid[-1, 0].set_xlabel("margin of the right class (logits)")
    return figure, f"Histograms of the margin; right of zero the answer is right. {'; '.join(words)}."
