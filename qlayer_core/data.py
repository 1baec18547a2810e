"""MNIST and Fashion-MNIST, read in place from the gzipped IDX files in ``data/``, and their splits.

Section 4.1.1: of the 60,000 training images 10,000 are drawn at random for validation; the rest are for
training. The published test images are for testing only.
"""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayer_core.paths import DATA

SPLIT_SEED = 0  # of the one fixed draw of validation images
VALIDATION_IMAGES = 10_000

# sha256 of the decompressed bytes, by data set and file.
CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
DATASETS = tuple(CHECKSUMS)
SPLITS = ("train", "validation", "test")
CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


class Split(NamedTuple):
    """Images ``(N, 1, 28, 28)`` float32 in [0, 1] and labels ``(N,)`` int64."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Split":
        """Return the same images and labels on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


def load(dataset: str, split: str, folder: Path = DATA) -> Split:
    """Return one split: ``"train"`` (50,000 images), ``"validation"`` or ``"test"`` (10,000 each).

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        split: one of `SPLITS`.
        folder: the folder that holds one folder a data set.

    Raises:
        ValueError: unknown name, or a file whose bytes are not the published ones.
        FileNotFoundError: a file is missing.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    prefix = "t10k" if split == "test" else "train"
    pixels = _read(dataset, f"{prefix}-images-idx3-ubyte", folder).reshape(-1, 1, 28, 28)
    classes = _read(dataset, f"{prefix}-labels-idx1-ubyte", folder)
    if split != "test":
        order = np.random.default_rng(SPLIT_SEED).permutation(len(classes))
        chosen = order[:VALIDATION_IMAGES] if split == "validation" else order[VALIDATION_IMAGES:]
        pixels, classes = pixels[chosen], classes[chosen]
    images = torch.from_numpy(pixels.astype(np.float32)).div_(255)
    return Split(images, torch.from_numpy(classes.astype(np.int64)))


def _read(dataset: str, name: str, folder: Path) -> np.ndarray:
    """Return the bytes of one IDX file without its header, checked against the published sha256."""
    path = Path(folder) / dataset / f"{name}.gz"
    remedy = "Restore it from the repository (git checkout -- data)."
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing. {remedy}") from None
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a readable gzip file ({error}). {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != CHECKSUMS[dataset][name]:
        raise ValueError(
            f"{path} holds other bytes than the published file: sha256 {digest[:12]}...,"
            f" expected {CHECKSUMS[dataset][name][:12]}.... {remedy}"
        )
    dimensions = content[3]  # IDX: two zero bytes, element type, number of dimensions, sizes as int32
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
