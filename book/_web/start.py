"""What the mini-lab of the start page shows before a reader asks for more: FGSM images, and what networks answer.

``python book/_web/start.py FOLDER`` writes ``start.json``, for the page's script, and ``still.html``, what stands in
the page without it, both computed from released weights; and ``found.html``, what was found in six findings, which
`show.found` writes from recorded results. The images are made on the attacker's own network,
so for the networks that answer it is a black-box attack. A network whose weights are not released is left out, with
a message in the terminal and on the page.

Which digits: of each class the first test image that all networks read correctly, the attacker's included. The page
opens with the earliest of them on which a network falls by the larger epsilon of the paper's tables, since elsewhere
there is little to see. One digit shows little anyway, so the first `COUNTED` test images are counted beside it.
"""

import argparse
import base64
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from qlayer_core import attacks, data, datasets, files, models
from qlayer_core.show import found as sentences
from qlayer_core.study import measured, records

SOURCE = "source-a"  # the attacker's own
NETWORKS = ("cnn", "q-base")
TITLES = {"cnn": "the plain CNN", "q-base": "Q-base"}
EPSILONS = tuple(i / 100 for i in range(41))  # every position of the slider
COUNTED = 500  # test images
BATCH = 100

Networks = dict[str, nn.Module]


def read_right(networks: Networks, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images every network classifies correctly, ``(N,)`` bool."""
    rights = [logits(network, images).argmax(1) == labels for network in networks.values()]
    return torch.stack(rights).all(0)


@torch.no_grad()
def logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return what a network answers with, ``(N, 10)``: with a Q-Layer, the Q-path."""
    return torch.cat([network(part) for part in images.split(BATCH)])


def directions(source: nn.Module, images: Tensor) -> Tensor:
    """Return the signs of the loss's gradient, ``(N, 1, 28, 28)`` of -1, 0, 1: where FGSM moves each pixel.

    As in `attacks.fgsm` the labels are the network's own answers, but always in float32, so that every machine
    writes the same file.
    """
    parts = [attacks.Problem(source, part, None, 0.0).gradient(part, "ce") for part in images.split(BATCH)]
    return torch.cat(parts).sign()


def moved(images: Tensor, signs: Tensor, eps: float) -> Tensor:
    """Return the images as FGSM makes them at ``eps``."""
    return (images + eps * signs).clamp(0, 1)


def first_wrong(wrong: Tensor) -> Tensor:
    """Return the position on the slider of the first wrong answer, ``(N,)``; the slider's length where there is none.

    Args:
        wrong: ``(positions, N)`` bool.
    """
    return torch.where(wrong.any(0), wrong.byte().argmax(0), len(wrong))


def outcome(falls: dict[str, int]) -> str:
    """Return whose answer is wrong first, by each network's first wrong position: a name, "together" or "neither"."""
    first = min(falls.values())
    if first >= len(EPSILONS):
        return "neither"
    names = [name for name, at in falls.items() if at == first]
    return names[0] if len(names) == 1 else "together"


def count(networks: Networks, source: nn.Module, images: Tensor, labels: Tensor) -> dict[str, int]:
    """Return how many images end in which `outcome`, of those that all networks read correctly, and their number."""
    right = read_right(networks | {SOURCE: source}, images, labels)
    images, labels = images[right], labels[right]
    signs = directions(source, images)
    counts = dict.fromkeys([*networks, "together", "neither"], 0) | {"images": len(images)}
    for eps in EPSILONS:  # an image is done once one network has fallen: this saves half of the work
        at_eps = moved(images, signs, eps)
        wrong = {name: logits(network, at_eps).argmax(1) != labels for name, network in networks.items()}
        wrongs = torch.stack(list(wrong.values()))
        for name, own in wrong.items():
            counts[name] += int((own & (wrongs.sum(0) == 1)).sum())
        counts["together"] += int((wrongs.sum(0) > 1).sum())
        still = ~wrongs.any(0)
        images, labels, signs = images[still], labels[still], signs[still]
        if not len(images):
            break
    counts["neither"] = len(images)
    return counts


def content(networks: Networks, source: nn.Module, images: Tensor, labels: Tensor) -> dict:
    """Return what ``start.json`` holds, chosen from test images ``(N, 1, 28, 28)`` and labels ``(N,)``.

    Args:
        networks: that answer, by name, in the order in which they are shown.
        source: the attacker's own network.

    Raises:
        ValueError: a network is in training mode, or there is a class of which they all read no image correctly.
    """
    everyone = networks | {SOURCE: source}
    for name, network in everyone.items():
        if network.training:
            raise ValueError(f"{name} is in training mode: call .eval() before its answers are shown")
    right = read_right(everyone, images, labels)
    chosen = []
    for digit in range(models.CLASSES):
        found = ((labels == digit) & right).nonzero()
        if not len(found):
            raise ValueError(f"of these {len(images)} images no {digit} is read correctly by all: give more")
        chosen.append(int(found[0]))
    signs = directions(source, images[chosen])
    digits = [
        _digit(networks, int(labels[at]), at, images[at : at + 1], signs[i : i + 1])
        for i, at in enumerate(chosen)
    ]
    visible = EPSILONS.index(max(datasets.find("mnist").epsilons))
    falling = [one["index"] for one in digits if min(falls(one).values()) <= visible]
    return {
        "epsilons": EPSILONS,
        "networks": list(networks),
        "missing": [name for name in NETWORKS if name not in networks],
        "opening": chosen.index(min(falling or chosen)),
        "digits": digits,
        "counts": count(networks, source, images[:COUNTED], labels[:COUNTED]),
    }


def _digit(networks: Networks, label: int, index: int, image: Tensor, signs: Tensor) -> dict:
    """Return one digit: its pixels, where each goes, and by network answer and probabilities at each epsilon."""
    film = torch.cat([moved(image, signs, eps) for eps in EPSILONS])
    answers = {}
    for name, network in networks.items():
        probabilities = logits(network, film).softmax(1)
        answers[name] = {
            "class": "".join(str(answer) for answer in probabilities.argmax(1).tolist()),
            "probabilities": _text((255 * probabilities).round().byte()),  # positions times classes
        }
    return {
        "label": label,
        "index": index,
        "pixels": _text((255 * image).round().byte()),
        "signs": _text((signs + 1).byte()),  # 0, 1, 2: darker, as it is, lighter
        "answers": answers,
    }


def _text(values: Tensor) -> str:
    return base64.b64encode(values.numpy().tobytes()).decode()


def falls(digit: dict) -> dict[str, int]:
    """Return the position of each network's first wrong answer; the slider's length where it has none."""
    wrong = {
        name: torch.tensor([[answer != str(digit["label"])] for answer in found["class"]])
        for name, found in digit["answers"].items()
    }
    return {name: int(first_wrong(one)[0]) for name, one in wrong.items()}


# ---- Without JavaScript


def still(found: dict) -> str:
    """Return the page's picture and sentence for those without JavaScript, as HTML.

    The opening digit, and what becomes of it at the smallest epsilon at which a network falls.
    """
    if not found["digits"]:
        return (
            '<div id="start-still" class="start-none">\n'
            "<p>The networks that are attacked here are not released yet.</p>\n</div>\n"
        )
    digit = found["digits"][found["opening"]]
    at = min(min(falls(digit).values()), len(EPSILONS) - 1)
    eps = f"{EPSILONS[at]:.2f}"
    pixels, signs = (
        np.frombuffer(base64.b64decode(digit[key]), np.uint8).reshape(28, 28).astype(float)
        for key in ("pixels", "signs")
    )
    changed = np.clip(pixels / 255 + EPSILONS[at] * (signs - 1), 0, 1) * 255
    answers = [f"{TITLES[name]} answers {answer['class'][at]}" for name, answer in digit["answers"].items()]
    said = " and ".join(answers)
    said = said[0].upper() + said[1:]
    left = f"A handwritten {digit['label']}, light on black."
    right = f"The same {digit['label']} with a grey pattern over it. {said}."
    return f"""<div id="start-still">
<p class="start-pictures">{_picture(pixels, left)} {_picture(changed, right)}</p>
<p>The same {digit["label"]} twice. On the right, every pixel has been moved by up to {eps}, where black is 0 and
white is 1. {said}. With JavaScript, on a page that comes over http, you can move the pixels yourself here.</p>
</div>
"""


def _picture(levels: np.ndarray, text: str) -> str:
    file = io.BytesIO()
    Image.fromarray(levels.round().astype(np.uint8)).save(file, "png", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img class="dark-light" src="data:image/png;base64,{source}" width="140" height="140" alt="{text}">'
    )


# ---- Files


def released() -> Networks:
    """Return the networks to show whose weights are released, by name; say which are not."""
    found = {}
    for name in NETWORKS:
        if records.unit("mnist", name).released.exists():
            found[name], _ = records.load("mnist", name)
        else:
            print(f"start page: {name} is left out, its weights are not released")
    return found


def write(folder: Path) -> dict:
    """Write ``start.json``, ``still.html`` and ``found.html``, and return what the first holds."""
    networks, source = released(), records.unit("mnist", SOURCE).released.exists()
    if networks and source:
        images, labels = data.load("mnist", "test")
        found = content(networks, records.load("mnist", SOURCE)[0], images[:COUNTED], labels[:COUNTED])
    else:
        print("start page: there is nothing to attack yet, so it shows a sentence instead")
        found = {"networks": [], "missing": list(NETWORKS), "digits": []}
    texts = {"start.json": json.dumps(found, separators=(",", ":")), "still.html": still(found)}
    texts["found.html"] = sentences.start_page(measured.frame())
    for name, text in texts.items():
        files.write_atomically(folder / name, lambda path, text=text: path.write_text(text))
        print(f"start page: {name}, {len(text) / 1e3:.1f} kB")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)  # sums in one order: the same bytes at every build
    write(parser.parse_args().folder)
