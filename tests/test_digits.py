"""The third data set: its images as scikit-learn has them, each in one split."""

import pytest
import torch
from sklearn.datasets import load_digits

from qlayer_core import digits


def test_splits_share_out_the_file_image_by_image():
    file = load_digits()
    splits = [digits.load(split) for split in digits.SIZES]
    assert [len(split.labels) for split in splits] == list(digits.SIZES.values())
    images, labels = (torch.cat(parts) for parts in zip(*splits, strict=True))
    rows = torch.cat([(images * digits.WHITE).flatten(1), labels[:, None].float()], 1).tolist()
    wanted = [[*row.flatten().tolist(), label] for row, label in zip(file.images, file.target, strict=True)]
    assert sorted(rows) == sorted(wanted)


def test_shapes_types_and_ranges():
    for split in digits.SIZES:
        images, labels = digits.load(split)
        assert images.shape[1:] == digits.DIGITS.shape and images.dtype == torch.float32
        assert images.min() == 0 and images.max() == 1
        assert labels.dtype == torch.int64 and len(labels.unique()) == len(digits.DIGITS.class_names)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="choose one of train, validation, test"):
        digits.load("training")
