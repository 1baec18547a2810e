"""Pages that live: explorers whose sliders work in JupyterLab and on the published page, without a kernel.

Each function computes every picture beforehand and returns one widget. Its controls are linked with the pictures in
the browser alone (`ipywidgets.jslink`), so it stays live where there is no Python.
"""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor, nn

from qlayer_core import evaluation, palette, pictures
from qlayer_core.layer import QLayer
from qlayer_core.machine import autocast
from qlayer_core.models import QNet

EPSILONS = tuple(i / 50 for i in range(21))  # 0 to 0.4
ATTACK_NAMES = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "cw": "Carlini-Wagner",
    "cw-softmax": "Carlini-Wagner on softmax",
}
DIGITS = tuple("0123456789")


def epsilon_explorer(
    images: Tensor,
    labels: Tensor,
    networks: Mapping[str, nn.Module],
    *,
    attack: str | Sequence[str] = "fgsm",
    source: nn.Module | None = None,
    epsilons: Sequence[float] = EPSILONS,
    class_names: Sequence[str] = DIGITS,
) -> w.VBox:
    """Return sliders over image, attack and epsilon: what the attack does, what each network answers, when it falls.

    Attacks follow the model's own predictions and have the settings of appendix B.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        labels: ``(N,)`` int64, the true classes.
        networks: in evaluation mode, by model name (see `palette`); of a `QNet` both paths answer.
        attack: one or several of `evaluation.ATTACKS`.
        source: black box: every network is judged on the images made on this one. Left out, white box: each network
            on the images made on itself, through its E-path if it has one.
        epsilons: L-infinity bounds, ascending, in [0, 1].
        class_names: one a class.

    Raises:
        ValueError: an argument that doesn't fit the others, with what to do.
    """
    attack_names = [attack] if isinstance(attack, str) else list(attack)
    _check_images(images, labels, class_names)
    _check_epsilons(epsilons)
    _check_attacks(attack_names)
    if not networks:
        raise ValueError('networks is empty; give at least one, for example {"cnn": network}')
    attacked = networks if source is None else {"": source}
    clean = images.squeeze(1).numpy()

    def made_by(name: str) -> tuple[dict, dict]:
        """Return adversarial images by attacked network and epsilon, and each path's probabilities on them."""
        made, answers = {}, {}
        for step, eps in enumerate(epsilons):
            for network, model in attacked.items():
                made[network, step] = evaluation.ATTACKS[name](evaluation.attacked(model), images, eps=eps)
            for network, model in networks.items():
                seen = made["" if source is not None else network, step]
                for path, probabilities in _probabilities(model, seen).items():
                    answers.setdefault((network, path), []).append(probabilities)
        pixels = {where: picture.squeeze(1).numpy() for where, picture in made.items()}
        return pixels, {column: np.stack(rows) for column, rows in answers.items()}  # (steps, N, classes)

    computed = [made_by(name) for name in attack_names]

    def page(image: int, which: int, step: int) -> str:
        made, answers = computed[which]
        true = int(labels[image])
        eps = _epsilon_texts(epsilons)[step]
        shown = [pictures.figure(pictures.grey(clean[image], f"The clean {class_names[true]}."), "clean")]
        changes = [
            "<p class='ql-note'>below: what was added. Grey: nothing, white: brighter, black: darker</p>"
        ]
        for network in attacked:
            picture = made[network, step][image]
            whose = f" for {palette.label(network)}" if network else ""
            text = f"The {class_names[true]} after {ATTACK_NAMES[attack_names[which]]}{whose}, epsilon {eps}."
            shown.append(pictures.figure(pictures.grey(picture, text), f"adversarial{whose}"))
            text = f"The perturbation{whose}, at most {eps} a pixel."
            drawn = pictures.change(clean[image], picture, max(epsilons), text)
            changes.append(pictures.figure(drawn, f"perturbation{whose}"))
        wide = len(attacked) > 1
        cells = [*shown, *changes] if wide else [shown[0], changes[1], shown[1]]
        columns = len(attacked) + 1 if wide else 3
        heads, rows = [], []
        for (network, path), values in answers.items():
            right = values[:, image].argmax(1) == true
            answer = class_names[values[step, image].argmax()]
            sign = "✓" if right[step] else "✗"
            name = palette.label(network, path)
            heads.append((f"{name}: {answer} {sign}", palette.colour(network), path != "e"))
            rows.append((name, palette.colour(network), right, _fall(right, epsilons)))
        table = pictures.bars(heads, class_names, np.stack([v[step, image] for v in answers.values()]), true)
        ends = (_epsilon_texts(epsilons)[0], _epsilon_texts(epsilons)[-1])
        return f"{pictures.grid(cells, columns, 8)}{table}{pictures.strips(rows, step, ends)}"

    controls = [
        _choice("image", _image_names(labels, class_names)),
        _choice("attack", [ATTACK_NAMES[name] for name in attack_names]),
        _slider("epsilon", _epsilon_texts(epsilons)),
    ]
    return _explorer(controls, page)


def quantizer_view(
    network: QNet,
    images: Tensor,
    labels: Tensor,
    *,
    name: str = "",
    attack: str = "fgsm",
    source: nn.Module | None = None,
    epsilons: Sequence[float] = EPSILONS,
    class_names: Sequence[str] = DIGITS,
) -> w.VBox:
    """Return sliders over image and epsilon: the codes that each head chooses, clean beside adversarial.

    A position's colour is its code's place along the main direction in which the head's codes differ, so that similar
    codes look alike. A dot marks a position whose code has changed. Below: the share of such positions over epsilon,
    and beside it by how much the layer's input to the quantizer changed, ``|p(x') - p(x)| / |p(x)|`` in L2.

    Args:
        network: in evaluation mode.
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        labels: ``(N,)`` int64, the true classes.
        name: the model's name, for its colour.
        attack: one of `evaluation.ATTACKS`.
        source: the network that the images are made on; left out, ``network`` through its E-path.
        epsilons: L-infinity bounds, ascending, in [0, 1].
        class_names: one a class.

    Raises:
        ValueError: an argument that doesn't fit the others, with what to do.
    """
    _check_images(images, labels, class_names)
    _check_epsilons(epsilons)
    _check_attacks([attack])
    layer = _layer_of(network)
    attacked = evaluation.attacked(network if source is None else source)
    made = [evaluation.ATTACKS[attack](attacked, images, eps=eps) for eps in epsilons]
    before = _layer_output(network, images)
    after = [_layer_output(network, picture) for picture in made]
    levels = _code_levels(layer, [before, *after])
    changed = np.stack([(out.indices != before.indices).numpy() for out in after])  # (steps, heads, N, H, W)
    share = 100 * changed.mean((1, 3, 4))  # (steps, N)
    norm = before.projected.flatten(1).norm(dim=1)
    moved = [100 * (out.projected - before.projected).flatten(1).norm(dim=1) / norm for out in after]
    moved = torch.stack(moved).numpy()  # (steps, N)
    top = max(100, float(np.ceil(moved.max() / 50) * 50))
    texts = _epsilon_texts(epsilons)

    def page(image: int, step: int) -> str:
        true = class_names[labels[image]]
        cells = [
            pictures.figure(pictures.grey(images[image, 0].numpy(), f"The clean {true}."), "clean"),
            pictures.figure(
                pictures.grey(
                    made[step][image, 0].numpy(), f"The {true} after the attack, epsilon {texts[step]}."
                ),
                "adversarial",
            ),
        ]
        for head in range(layer.heads):
            flips = changed[step, head, image]
            said = f"head {head + 1}: {100 * flips.mean():.0f} % changed"
            clean_map = levels[head][before.indices[head, image].numpy()]
            new_map = levels[head][after[step].indices[head, image].numpy()]
            nothing = np.zeros_like(flips)
            text = f"Map of the codes that head {head + 1} chooses, clean."
            cells.append(
                pictures.figure(pictures.code_map(clean_map, nothing, text), f"head {head + 1}: clean")
            )
            text = (
                f"The same, epsilon {texts[step]}: {flips.sum()} of {flips.size} positions marked as changed."
            )
            cells.append(pictures.figure(pictures.code_map(new_map, flips, text), said))
        colour = palette.colour(name)
        curves = [
            pictures.Curve("positions whose code changed", colour, "-", epsilons, share[:, image]),
            pictures.Curve(
                "relative change of the continuous features", colour, "--", epsilons, moved[:, image]
            ),
        ]
        drawing = pictures.chart(curves, epsilons[step], max(epsilons), top=top)
        return f"{pictures.grid(cells, 4, 8)}{drawing}{_values(curves, epsilons[step], texts[step])}"

    return _explorer([_choice("image", _image_names(labels, class_names)), _slider("epsilon", texts)], page)


def codebook_explorer(
    network: QNet, images: Tensor, *, name: str = "", patches: int = 12, batch_size: int = 256
) -> w.VBox:
    """Return a slider over the codes of each head, the most used first, to see what it stands for.

    Shows the patches of the images, as large as the field of view of one position, that choose the code most
    strongly: by the largest margin in squared distance to the second nearest code, at most one patch an image. With
    it the histogram of the codes' use, the number of inactive codes and the perplexity, ``exp(entropy)`` of the use.

    Args:
        network: in evaluation mode.
        images: ``(N, 1, H, W)`` in [0, 1], some hundreds.
        name: the model's name, for its colour.
        patches: shown a code.
        batch_size: images at a time.
    """
    layer = _layer_of(network)
    _check_range(images)
    chosen, margins = _choices(network, images, batch_size)  # (heads, N, H * W)
    usage = [np.bincount(c.flatten().numpy(), minlength=layer.codebook_size) for c in chosen]
    order = [np.argsort(-counts, kind="stable") for counts in usage]
    cut = _Patches(network.encoder, images, round(chosen.shape[-1] ** 0.5))
    colour = palette.colour(name)

    def page(head: int, rank: int) -> str:
        counts, code = usage[head], order[head][rank]
        shares = counts / counts.sum()
        used = shares[shares > 0]
        perplexity = np.exp(-(used * np.log(used)).sum())
        inactive = layer.codebook_size - len(used)
        if counts[code]:
            strength = torch.where(chosen[head] == code, margins[head], -1.0)
            best, where = strength.max(1)
            first = best.topk(min(patches, int((best >= 0).sum()))).indices
            text = f"{len(first)} patches that choose code {code} of head {head + 1} most strongly."
            shown = cut.montage(first, where[first], text)
        else:
            shown = "<p>Inactive: no position of these images chooses this code.</p>"
        return (
            f"<p><b>Head {head + 1}, code {code}</b>: chosen at {100 * shares[code]:.1f} % of all positions."
            f"</p>{shown}{pictures.histogram(shares[order[head]], rank, colour)}"
            f"<p>Use of the {layer.codebook_size} codes, the most used first; the highest bar is"
            f" {100 * shares.max():.1f} %. {inactive} inactive, perplexity {perplexity:.1f}"
            f" on {len(images):,} images.</p>"
        )

    heads = _choice("head", [str(head + 1) for head in range(layer.heads)])
    ranks = _slider("code, by use", [str(rank + 1) for rank in range(layer.codebook_size)])
    return _explorer([heads, ranks], page)


def accuracy_explorer(
    curves: Mapping[str | tuple[str, str], tuple[Sequence[float], Sequence[float], int]],
) -> w.VBox:
    """Return accuracy against epsilon with a line that a slider moves, and the values there in a table.

    Args:
        curves: by model name, or (model name, path): epsilons, accuracies in percent, and the number of images, which
            gives the band of the 95 % Wilson interval. A curve without a value at an epsilon shows a dash there.
    """
    if not curves:
        raise ValueError('curves is empty; give for example {"cnn": ([0.0, 0.1], [98.0, 60.5], 10000)}')
    drawn = []
    for who, (epsilons, accuracies, n) in curves.items():
        name, path = (who, None) if isinstance(who, str) else who
        if len(epsilons) != len(accuracies):
            raise ValueError(
                f"{who} has {len(epsilons)} epsilons and {len(accuracies)} accuracies; give one each"
            )
        _check_epsilons(epsilons)
        bounds = [evaluation.wilson(round(value * n / 100), n) for value in accuracies]
        low, high = zip(*bounds, strict=True)
        label, line = palette.label(name, path), palette.LINES[path]
        drawn.append(pictures.Curve(label, palette.colour(name), line, epsilons, accuracies, low, high))
    everywhere = sorted({eps for curve in drawn for eps in curve.xs})
    texts = _epsilon_texts(everywhere)

    def page(step: int) -> str:
        at = everywhere[step]
        return pictures.chart(drawn, at, everywhere[-1]) + _values(drawn, at, texts[step])

    return _explorer([_slider("epsilon", texts)], page)


def _explorer(controls: list[w.Widget], page: Callable[..., str]) -> w.VBox:
    """Return the controls above one page for each combination of their positions."""
    layout, style = w.Layout(width="100%", margin="0"), w.HTML().style

    def stack(left: list[w.Widget], at: tuple[int, ...]) -> w.Widget:
        if not left:
            return w.HTML(f'<div class="ql">{page(*at)}</div>', layout=layout, style=style)
        first, *rest = left
        pages = [stack(rest, (*at, i)) for i in range(len(first.options))]
        switch = w.Stack(pages, selected_index=0, layout=layout)
        w.jslink((first, "index"), (switch, "selected_index"))
        return switch

    visible = [control for control in controls if len(control.options) > 1]
    look = w.HTML(pictures.STYLE, layout=w.Layout(margin="0", height="0"), style=style)
    return w.VBox([look, *visible, stack(controls, ())])


def _choice(description: str, options: Sequence[str]) -> w.Dropdown:
    return w.Dropdown(options=options, index=0, description=description, layout=w.Layout(max_width="100%"))


def _slider(description: str, options: Sequence[str]) -> w.SelectionSlider:
    layout = w.Layout(width="100%", max_width="32rem")
    return w.SelectionSlider(options=options, index=0, description=description, layout=layout)


def _values(curves: Sequence[pictures.Curve], at: float, text: str) -> str:
    """Return a table with the value of each curve at one epsilon, which is also the chart's legend."""
    rows = []
    for curve in curves:
        value = interval = "-"
        if at in curve.xs:
            i = list(curve.xs).index(at)
            value = f"{curve.ys[i]:.1f} %"
            interval = f"{curve.low[i]:.1f} to {curve.high[i]:.1f}" if curve.low else ""
        line = pictures.key(curve.colour, curve.line)
        rows.append(f'<tr><th scope="row">{line} {curve.label}</th><td>{value}</td><td>{interval}</td></tr>')
    interval = "95 % interval" if any(curve.low for curve in curves) else ""
    head = f"<thead><tr><th>at epsilon {text}</th><th>value</th><th>{interval}</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _fall(right: np.ndarray, epsilons: Sequence[float]) -> str:
    if right.all():
        return "stands"
    first = int((~right).argmax())
    return f"falls at {_epsilon_texts(epsilons)[first]}" if first else "wrong when clean"


@torch.no_grad()
def _probabilities(network: nn.Module, images: Tensor) -> dict[str | None, np.ndarray]:
    with autocast(images.device):
        if isinstance(network, QNet):
            out = network(images, path="both")
            logits = {"q": out.q, "e": out.e}
        else:
            logits = {None: network(images)}
    return {path: values.float().softmax(1).numpy() for path, values in logits.items()}


@torch.no_grad()
def _layer_output(network: QNet, images: Tensor):
    with autocast(images.device):
        out = network(images, path="both").layer
    return out._replace(projected=out.projected.float())


def _code_levels(layer: QLayer, outputs: list) -> list[np.ndarray]:
    """Return each code's rank, scaled to [0, 1], among its head's codes in use along their main direction."""
    levels = []
    for head, codes in enumerate(layer.codebook.detach()):
        used = torch.cat([out.indices[head].flatten() for out in outputs]).unique()
        centred = codes[used] - codes[used].mean(0)
        direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        rank = (centred @ direction).argsort().argsort()
        level = np.zeros(layer.codebook_size)
        level[used.numpy()] = rank.numpy() / max(1, len(used) - 1)
        levels.append(level)
    return levels


@torch.no_grad()
def _choices(network: QNet, images: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return the chosen codes and their margins in squared distance, both ``(heads, N, H * W)``."""
    layer = network.layer
    chosen, margins = [], []
    for batch in images.split(batch_size):
        out = _layer_output(network, batch)
        panels = out.projected.permute(0, 2, 3, 1).unflatten(-1, (layer.heads, layer.dim))
        panels = panels.permute(3, 0, 1, 2, 4).flatten(1, 3)  # (heads, N * H * W, dim)
        nearest = torch.cdist(panels, layer.codebook).square().topk(2, largest=False)
        shape = (layer.heads, len(batch), -1)
        chosen.append(nearest.indices[..., 0].reshape(shape))
        margins.append((nearest.values[..., 1] - nearest.values[..., 0]).reshape(shape))
    return torch.cat(chosen, 1), torch.cat(margins, 1)


class _Patches:
    """The part of an image that one position of the feature map can see."""

    def __init__(self, encoder: nn.Module, images: Tensor, side: int):
        self.size, self.stride, self.before, self.side = 1, 1, 0, side
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                self.size += (module.kernel_size[0] - 1) * self.stride
                self.before += module.padding[0] * self.stride
                self.stride *= module.stride[0]
        self.images = nn.functional.pad(images, [self.size] * 4).squeeze(1)

    def montage(self, which: Tensor, where: Tensor, text: str, columns: int = 6) -> str:
        """Return ``<img>`` of the patches at positions ``where`` of the images ``which``, in rows."""
        cells = np.full(
            (-(-len(which) // columns), columns, self.size + 1, self.size + 1), 1 / 255, np.float32
        )
        for i, (image, position) in enumerate(zip(which.tolist(), where.tolist(), strict=True)):
            top, left = (self.size - self.before + self.stride * at for at in divmod(position, self.side))
            patch = self.images[image, top : top + self.size, left : left + self.size]
            # Level 1 is the gap's: too dark to tell from 0.
            cells[i // columns, i % columns, :-1, :-1] = torch.where(patch < 1.5 / 255, 0.0, patch).numpy()
        rows, columns, height, width = cells.shape
        joined = cells.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]
        return pictures.grid([pictures.grey(joined, text, gap=1)], 1, 24)


def _image_names(labels: Tensor, class_names: Sequence[str]) -> list[str]:
    """Return one name an image: its class, numbered where a class comes more than once."""
    names = [class_names[label] for label in labels.tolist()]
    return [f"{n} ({names[: i + 1].count(n)})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _epsilon_texts(epsilons: Sequence[float]) -> list[str]:
    digits = 2 if all(round(eps, 2) == round(eps, 6) for eps in epsilons) else 3
    return [f"{eps:.{digits}f}" for eps in epsilons]


def _check_range(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; give (N, 1, height, width), N at least 1")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images range from {images.min():g} to {images.max():g}; they must lie in [0, 1]")


def _check_images(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    _check_range(images)
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; give one a picture, ({len(images)},)")
    if not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, but there are {len(class_names)} class_names;"
            " give one name a class"
        )


def _check_epsilons(epsilons: Sequence[float]) -> None:
    if len(epsilons) < 2 or list(epsilons) != sorted(set(epsilons)) or epsilons[0] < 0 or epsilons[-1] > 1:
        raise ValueError(f"epsilons are {list(epsilons)}; give at least two, ascending, from 0 to at most 1")


def _check_attacks(names: Sequence[str]) -> None:
    for name in names:
        if name not in evaluation.ATTACKS:
            raise ValueError(f"attack is {name!r}; choose from {', '.join(evaluation.ATTACKS)}")


def _layer_of(network: nn.Module) -> QLayer:
    if not isinstance(network, QNet):
        raise ValueError(f"network is a {type(network).__name__}; this view needs a QNet, such as q-base")
    return network.layer
