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

from qlayer_core.datasets import Dataset, find
from qlayer_core.files import DATA
from qlayer_core.prepare import prepare

__all__ = ["Split", "load", "prepare"]

SPLIT_SEED = 0  # of the one fixed draw of validation images
VALIDATION_IMAGES = 10_000
TEST_IMAGES = 10_000  # of both data sets; what a cell of a table is of
SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """Images ``(N, 1, 28, 28)`` float32 in [0, 1] and labels ``(N,)`` int64."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Split":
        """Return the same images and labels on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Split":
        """Return the first ``count`` images and their labels, or all for None."""
        if count is not None and count < 0:
            raise ValueError(f"count is {count}; it must be at least 0")
        return Split(self.images[:count], self.labels[:count])


def load(dataset: str, split: str, folder: Path = DATA, *, limit: int | None = None) -> Split:
    """Return one split: ``"train"`` (50,000 images), ``"validation"`` or ``"test"`` (10,000 each).

    Args:
        dataset: ``"mnist"`` or ``"fashion-mnist"``.
        split: one of `SPLITS`.
        folder: the folder that holds one folder per data set.
        limit: only the first so many images.

    Raises:
        ValueError: unknown name, or a file whose bytes are not the published ones.
        FileNotFoundError: a file is missing.
    """
    wanted = find(dataset)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give a number of images, at least 1, or None for all")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    prefix = "t10k" if split == "test" else "train"
    pixels = _read(wanted, f"{prefix}-images-idx3-ubyte", folder).reshape(-1, *wanted.shape)
    classes = _read(wanted, f"{prefix}-labels-idx1-ubyte", folder)
    if split != "test":
        order = np.random.default_rng(SPLIT_SEED).permutation(len(classes))
        chosen = order[:VALIDATION_IMAGES] if split == "validation" else order[VALIDATION_IMAGES:]
        pixels, classes = pixels[chosen], classes[chosen]
    pixels, classes = pixels[:limit], classes[:limit]
    images = torch.from_numpy(pixels.astype(np.float32)).div_(255)
    return Split(images, torch.from_numpy(classes.astype(np.int64)))


def _read(wanted: Dataset, name: str, folder: Path) -> np.ndarray:
    """Return the bytes of one IDX file without its header, checked against the published sha256."""
    path = Path(folder) / wanted.name / f"{name}.gz"
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
    if digest != wanted.checksums[name]:
        raise ValueError(
            f"{path} holds other bytes than the published file: sha256 {digest[:12]}...,"
            f" expected {wanted.checksums[name][:12]}.... {remedy}"
        )
    dimensions = content[3]  # IDX: two zero bytes, element type, number of dimensions, sizes as int32
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
