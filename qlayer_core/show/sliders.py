"""Pages that live: explorers whose sliders work in JupyterLab and on the published page, without a kernel.

Each function computes every picture beforehand and returns one widget. Its controls are linked with the slides in
the browser alone (`ipywidgets.jslink`), so it stays live where there is no Python.
"""

from collections.abc import Mapping, Sequence

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor, nn

from qlayer_core import attacks, checks, codes, datasets, evaluation, intervals, models
from qlayer_core.machine import autocast
from qlayer_core.models import QNet
from qlayer_core.show import names, slides
from qlayer_core.show.controls import choice, explorer, slider

EPSILONS = tuple(i / 50 for i in range(21))  # 0 to 0.4
DIGITS = datasets.find("mnist").class_names
Band = int | tuple[Sequence[float], Sequence[float]]


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
    """Return sliders over image, attack and epsilon: what is added, what each network answers, and when it falls.

    Attacks follow the attacked network's own predictions and have the settings of appendix B.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        labels: ``(N,)`` int64, the true classes.
        networks: in evaluation mode, by model name (see `names`); of a `QNet` both paths answer.
        attack: one or several of `attacks.REGISTRY`.
        source: black box: all networks answer to the images made on this one. Left out, white box: each answers to
            images made on itself, through its E-path if it has one.
        epsilons: L-infinity bounds, ascending, in [0, 1].
        class_names: one per class.

    Raises:
        ValueError: an argument that doesn't fit, with what to do.
    """
    attack_names = [attack] if isinstance(attack, str) else list(attack)
    checks.labelled(images, labels, class_names)
    checks.epsilons(epsilons)
    evaluation.check_names(attack_names)
    if not networks:
        raise ValueError('networks is empty; give at least one, for example {"cnn": network}')
    for network in (*networks.values(), *([] if source is None else [source])):
        checks.mode(network)
    texts = _epsilon_texts(epsilons)
    computed = [_attacked(name, images, networks, source, epsilons) for name in attack_names]

    def page(image: int, which: int, step: int) -> str:
        made, probabilities = computed[which]
        true = int(labels[image])
        after = {names.label(network): adversarial[step, image] for network, adversarial in made.items()}
        how = f"{names.attack(attack_names[which])}, epsilon {texts[step]}"
        parts = slides.before_and_after(
            images[image, 0].numpy(), after, class_names[true], how, max(epsilons)
        )
        answers = [
            slides.Answer(
                names.label(network),
                names.PATHS.get(path, ""),
                names.colour(network),
                path != "e",
                values[:, image],
            )
            for (network, path), values in probabilities.items()
        ]
        table = slides.bars(answers, class_names, step, true)
        return parts + table + slides.strips(answers, true, step, texts)

    controls = [
        choice("image", _image_names(labels, class_names)),
        choice("attack", [names.attack(name) for name in attack_names]),
        slider("epsilon", texts, _first_fall(computed[0][1], int(labels[0]))),
    ]
    return explorer(controls, page)


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
    codes look alike; a dot marks a position whose code has changed. Below: the share of such positions over epsilon,
    beside the relative change of the continuous features that the quantizer is given, ``|p(x') - p(x)| / |p(x)|``,
    and that of what it makes of them, ``|q(x') - q(x)| / |q(x)|``, both in L2 over all heads.

    Args:
        network: in evaluation mode.
        images: ``(N, 1, H, W)`` in [0, 1], a handful.
        labels: ``(N,)`` int64, the true classes.
        name: the model's name, for its colour.
        attack: one of `attacks.REGISTRY`.
        source: the network that the images are made on; left out, ``network`` through its E-path.
        epsilons: L-infinity bounds, ascending, in [0, 1].
        class_names: one per class.

    Raises:
        ValueError: an argument that doesn't fit, with what to do.
    """
    _q_net(network)
    checks.labelled(images, labels, class_names)
    checks.epsilons(epsilons)
    evaluation.check_names([attack])
    made = _attacked(attack, images, {}, network if source is None else source, epsilons)[0][""]
    before = codes.layer_output(network, images)
    after = [codes.layer_output(network, torch.from_numpy(pixels).unsqueeze(1)) for pixels in made]
    levels = codes.along_main_direction(network.layer.codebook)
    changed = torch.stack([out.indices != before.indices for out in after]).numpy()  # (steps, heads, N, H, W)
    share = 100 * changed.mean((1, 3, 4))  # (steps, N)
    moved = _moved(before.projected, [out.projected for out in after])
    answered = _moved(before.quantized, [out.quantized for out in after])
    top = 40 * float(np.ceil(max(50, moved.max(), answered.max()) / 40))  # cut into quarters
    texts = _epsilon_texts(epsilons)
    colour = names.colour(name)
    title = "Change in % against epsilon"
    note = "<p>Similar codes have similar colours; a dot marks a position whose code has changed.</p>"

    def page(image: int, step: int) -> str:
        true = class_names[labels[image]]
        text = f"{true} after {names.attack(attack)}, epsilon {texts[step]}."
        cells = [
            slides.figure(slides.grey(images[image, 0].numpy(), f"The clean image: {true}."), "clean"),
            slides.figure(slides.grey(made[step, image], text), "adversarial"),
        ]
        for head, level in enumerate(levels):
            flips = changed[step, head, image]
            text = f"The codes that head {head + 1} chooses for the clean image."
            drawn = level[before.indices[head, image].numpy()]
            cells.append(
                slides.figure(slides.code_map(drawn, np.zeros_like(flips), text), f"head {head + 1}, clean")
            )
            text = f"Head {head + 1}, adversarial image: {flips.sum()} of {flips.size} codes changed."
            drawn = level[after[step].indices[head, image].numpy()]
            cells.append(
                slides.figure(slides.code_map(drawn, flips, text), f"{100 * flips.mean():.0f} % changed")
            )
        curves = [
            slides.Curve(label, {"color": shade, "linestyle": line}, epsilons, values[:, image])
            for label, shade, line, values in (
                ("codes that changed", colour, "-", share),
                ("vectors before quantization", colour, "--", moved),
                ("vectors after quantization", names.NEUTRAL, ":", answered),
            )
        ]
        return slides.pairs(cells) + note + slides.chart(title, curves, epsilons[step], texts[step], top=top)

    controls = [
        choice("image", _image_names(labels, class_names)),
        slider("epsilon", texts, len(texts) // 2),
    ]
    return explorer(controls, page)


def codebook_explorer(network: QNet, images: Tensor, *, name: str = "", patches: int = 12) -> w.VBox:
    """Return a slider over the codes of each head, the most used first, to see what each stands for.

    Shows the patches of the images, as large as one position's field of view, that choose the code most decidedly: by
    the largest margin in squared distance to the second nearest code, at most one patch per image. Below them others
    that choose it, drawn at random. With it the histogram of the codes' use, the number of inactive codes, and the
    perplexity of the use.

    Args:
        network: in evaluation mode; its encoder shrinks the image by convolutions alone.
        images: ``(N, 1, H, W)`` in [0, 1], some hundreds.
        name: the model's name, for its colour.
        patches: how many to show of each kind.

    Raises:
        ValueError: an argument that doesn't fit, with what to do.
    """
    _q_net(network)
    checks.pixels(images)
    found = codes.choices(network, images)
    size = network.layer.codebook_size
    view = codes.field_of_view(network.encoder, images.shape[-1], found.codes.shape[-1])
    usage = codes.usage(found.codes, size)
    order = np.argsort(-usage, axis=1, kind="stable")
    pixels = images.squeeze(1).numpy()

    def page(head: int, rank: int) -> str:
        counts, code = usage[head], int(order[head, rank])
        samples = {
            "that choose it most decidedly": codes.strongest(found, head, code, patches),
            "drawn at random among those that choose it": codes.some(found, head, code, patches),
        }
        shown = ""
        for how, places in samples.items():
            if places:
                text = f"{len(places)} patches {how}: code {code} of head {head + 1}."
                cut = [codes.patch(pixels[image], view, row, column) for image, row, column in places]
                shown += f"<p>Patches {how}:</p>{slides.montage(cut, text)}"
        if not shown:
            shown = "<p>Inactive: no position of these images chooses it.</p>"
        drawn = slides.histogram(counts[order[head]], rank, names.colour(name))
        return (
            f"<p><b>Head {head + 1}, code {code}</b>: chosen at {100 * counts[code] / counts.sum():.2g} % of the"
            f" positions, {counts[code]:,} times.</p>{shown}{drawn}<p>How often each of the {size} codes is chosen,"
            f" from {counts.max():,} times at the left, on a logarithmic scale. {(counts == 0).sum()} are inactive on"
            f" these {len(images):,} images; perplexity {codes.perplexity(counts):.1f}.</p>"
        )

    heads = choice("head", [str(head + 1) for head in range(network.layer.heads)])
    return explorer([heads, slider("use rank", [str(rank + 1) for rank in range(size)])], page)


def accuracy_explorer(
    curves: Mapping[str | tuple[str, str], tuple[Sequence[float], Sequence[float], Band]],
    *,
    title: str = "Accuracy in % against epsilon; bands are 95 % Wilson intervals",
) -> w.VBox:
    """Return accuracy against epsilon with a line that a slider moves, and the values there in a table.

    Args:
        curves: by model name, or (model name, path): epsilons, accuracies in percent, and the band around them: a
            number of images, for the Wilson interval, or the lowest and the highest values, as over seeds. A curve
            without a value at an epsilon has a dash in the table.
        title: what to write above.

    Raises:
        ValueError: an argument that doesn't fit, with what to do.
    """
    if not curves:
        raise ValueError('curves is empty; give for example {"cnn": ([0.0, 0.1], [98.0, 60.5], 10000)}')
    drawn = []
    for who, (epsilons, accuracies, band) in curves.items():
        name, path = (who, None) if isinstance(who, str) else who
        checks.epsilons(epsilons)
        if len(epsilons) != len(accuracies):
            raise ValueError(
                f"{who} has {len(epsilons)} epsilons and {len(accuracies)} accuracies; give as many"
            )
        if isinstance(band, int):
            bounds = [intervals.wilson(round(value * band / 100), band) for value in accuracies]
            band = tuple(zip(*bounds, strict=True))
        label, style = names.label(name, path), names.style(name, path)
        drawn.append(slides.Curve(label, style, epsilons, accuracies, *band))
    everywhere = sorted({eps for curve in drawn for eps in curve.xs})
    texts = _epsilon_texts(everywhere)
    return explorer(
        [slider("epsilon", texts, len(texts) // 2)],
        lambda step: slides.chart(title, drawn, everywhere[step], texts[step]),
    )


def _attacked(
    attack: str,
    images: Tensor,
    networks: Mapping[str, nn.Module],
    source: nn.Module | None,
    epsilons: Sequence[float],
) -> tuple[dict[str, np.ndarray], dict[tuple[str, str | None], np.ndarray]]:
    """Return adversarial images by attacked network, "" for the source, and probabilities by network and path.

    Shapes: images ``(epsilons, N, H, W)``, probabilities ``(epsilons, N, classes)``.
    """
    victims = networks if source is None else {"": source}
    made_by = attacks.REGISTRY[attack].attack
    made = {
        name: [made_by(attacks.surrogate(victim), images, eps=eps) for eps in epsilons]
        for name, victim in victims.items()
    }
    probabilities: dict = {}
    for name, network in networks.items():
        for pictured in made[name if source is None else ""]:
            for path, values in _probabilities(network, pictured).items():
                probabilities.setdefault((name, path), []).append(values)
    pixels = {name: torch.stack(parts).squeeze(2).numpy() for name, parts in made.items()}
    return pixels, {column: np.stack(rows) for column, rows in probabilities.items()}


def _probabilities(network: nn.Module, images: Tensor) -> dict[str | None, np.ndarray]:
    with autocast(images.device):
        logits = models.answers(network, images)
    return {path: values.float().softmax(1).numpy() for path, values in logits.items()}


def _first_fall(probabilities: Mapping[tuple, np.ndarray], label: int) -> int:
    """Return the first epsilon's place at which an answer to the first image is wrong, or the last one's."""
    wrong = np.any([values[:, 0].argmax(1) != label for values in probabilities.values()], axis=0)
    return int(wrong.argmax()) if wrong.any() else len(wrong) - 1


def _q_net(network: nn.Module) -> None:
    """Refuse a network without a layer, or in training mode."""
    if not isinstance(network, QNet):
        raise ValueError(f"network is a {type(network).__name__}; this view shows codes, so it needs a QNet")
    checks.mode(network)


def _moved(before: Tensor, after: Sequence[Tensor]) -> np.ndarray:
    """Return the relative change of each image's map at each step, ``(steps, N)`` in percent."""
    return torch.stack([codes.relative_change(before, now) for now in after]).detach().numpy()


def _image_names(labels: Tensor, class_names: Sequence[str]) -> list[str]:
    """Return one name per image: its class, numbered where a class comes more than once."""
    all_of = [class_names[label] for label in labels.tolist()]
    return [f"{n} ({all_of[: i + 1].count(n)})" if all_of.count(n) > 1 else n for i, n in enumerate(all_of)]


def _epsilon_texts(epsilons: Sequence[float]) -> list[str]:
    digits = next(digits for digits in (2, 3, 9) if all(abs(round(e, digits) - e) < 1e-9 for e in epsilons))
    return [f"{eps:.{digits}f}" for eps in epsilons]
