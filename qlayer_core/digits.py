"""A third data set: the 1,797 digits of 8 x 8 pixels that come with scikit-learn. Its entry, and the reader for it.

It stands apart from `data`, whose code every recorded number is traced to, and from the grid.
"""

import numpy as np
import torch

from qlayer_core.data import SPLIT_SEED, Split
from qlayer_core.datasets import Dataset

DIGITS = Dataset("digits", (1, 8, 8), tuple("0123456789"), (0.1, 0.2), 0.1, {})
WHITE = 16  # level of a white pixel
SIZES = {"train": 1000, "validation": 297, "test": 500}


def load(split: str) -> Split:
    """Return images ``(N, 1, 8, 8)`` float32 in [0, 1] and labels ``(N,)`` int64 of one split.

    The file has no split of its own: one draw, always the same, shares its images out as `SIZES` says.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SIZES:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SIZES)}")
    from sklearn.datasets import load_digits  # needed by nothing else, so not needed to import this

    file = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(file.target))
    ends = np.cumsum(list(SIZES.values()))
    chosen = np.split(order, ends[:-1])[list(SIZES).index(split)]
    images = torch.from_numpy(file.images[chosen].astype(np.float32)).div_(WHITE)
    return Split(images.unsqueeze(1), torch.from_numpy(file.target[chosen].astype(np.int64)))
