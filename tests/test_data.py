"""The two data sets: what is read, how it is split, and that damaged files are never used."""

import gzip
import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from qlayer_core import data, datasets
from qlayer_core.files import DATA

SIZES = {"train": 50_000, "validation": 10_000, "test": 10_000}
EACH = pytest.mark.parametrize("dataset", datasets.DATASETS)


def raw_bytes(dataset: str, name: str) -> bytes:
    return gzip.decompress((DATA / dataset / f"{name}.gz").read_bytes())


@EACH
@pytest.mark.parametrize("split", data.SPLITS)
def test_shapes_types_and_ranges(dataset, split):
    images, labels = data.load(dataset, split)
    assert images.shape == (SIZES[split], 1, 28, 28) and images.dtype == torch.float32
    assert labels.shape == (SIZES[split],) and labels.dtype == torch.int64
    assert images.min() == 0 and images.max() == 1
    counts = torch.bincount(labels)
    assert len(counts) == len(datasets.find(dataset).class_names) == 10
    assert counts.min() > 0.08 * SIZES[split]  # nearly balanced


@EACH
def test_the_test_split_is_the_published_file_in_its_order(dataset):
    images, labels = data.load(dataset, "test")
    pixels = np.frombuffer(raw_bytes(dataset, "t10k-images-idx3-ubyte")[16:], np.uint8)
    classes = np.frombuffer(raw_bytes(dataset, "t10k-labels-idx1-ubyte")[8:], np.uint8)
    assert torch.equal((images * 255).round().flatten(), torch.tensor(pixels).float())
    assert torch.equal(labels, torch.tensor(classes).long())


def test_the_first_test_digits_are_the_well_known_ones():
    assert data.load("mnist", "test").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    first = [
        datasets.find("fashion-mnist").class_names[i] for i in data.load("fashion-mnist", "test").labels[:4]
    ]
    assert first == ["Ankle boot", "Pullover", "Trouser", "Trouser"]


@EACH
def test_train_and_validation_share_out_the_training_file_image_by_image(dataset):
    pixels = np.frombuffer(raw_bytes(dataset, "train-images-idx3-ubyte")[16:], np.uint8).reshape(60_000, 784)
    classes = np.frombuffer(raw_bytes(dataset, "train-labels-idx1-ubyte")[8:], np.uint8)
    wanted = np.concatenate([pixels, classes[:, None]], 1)

    def rows(split: str) -> np.ndarray:
        images, labels = data.load(dataset, split)
        return np.concatenate(
            [(images * 255).round().flatten(1).byte().numpy(), labels.byte().numpy()[:, None]], 1
        )

    found = np.concatenate([rows("train"), rows("validation")])
    as_items = [np.sort(np.ascontiguousarray(array).view("V785").ravel()) for array in (wanted, found)]
    assert (as_items[0] == as_items[1]).all()  # every image once: nothing lost, nothing in both


def test_the_validation_images_are_drawn_at_random_and_always_the_same():
    first, again = (data.load("mnist", "validation") for _ in range(2))
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    file_order = np.frombuffer(raw_bytes("mnist", "train-labels-idx1-ubyte")[8:], np.uint8)
    for end in (file_order[:10_000], file_order[-10_000:]):
        assert not np.array_equal(first.labels.numpy(), end)


def test_a_split_loads_in_a_few_seconds():
    started = time.process_time()  # of this process alone: others may keep the cores busy
    data.load("mnist", "train")
    assert time.process_time() - started < 3  # one on a usual core


def test_a_limit_takes_the_first_images():
    few, all_of_them = data.load("mnist", "validation", limit=7), data.load("mnist", "validation")
    with pytest.raises(ValueError, match="count is -1; it must be at least 0"):
        all_of_them.first(-1)
    for part, whole, first in zip(few, all_of_them, all_of_them.first(7), strict=True):
        assert torch.equal(part, whole[:7]) and torch.equal(first, part)
    with pytest.raises(ValueError, match="limit is 0; give a number of images, at least 1, or None for all"):
        data.load("mnist", "test", limit=0)


def test_the_checksums_are_those_of_the_readme_and_of_the_files():
    text = (DATA / "README.md").read_text(encoding="utf-8")
    documented = re.findall(r"`([a-z-]+)/([a-z0-9-]+)\.gz`.*`([0-9a-f]{64})`", text)
    known = [
        (one.name, name, digest)
        for one in datasets.DATASETS.values()
        for name, digest in one.checksums.items()
    ]
    assert documented == known and len(known) == 8
    for dataset, name, digest in known:
        assert hashlib.sha256(raw_bytes(dataset, name)).hexdigest() == digest


# ---- damaged files ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of MNIST's test files."""
    (tmp_path / "mnist").mkdir()
    for path in (DATA / "mnist").glob("t10k-*.gz"):
        (tmp_path / "mnist" / path.name).write_bytes(path.read_bytes())
    return tmp_path


def with_other_pixel(packed: bytes) -> bytes:
    content = bytearray(gzip.decompress(packed))
    content[1000] ^= 1
    return gzip.compress(bytes(content), 1)


def with_flipped_byte(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]


DAMAGE = {
    "truncated": (lambda packed: packed[: len(packed) // 2], "is not a readable gzip file"),
    "empty": (lambda packed: b"", ""),
    "a byte flipped": (with_flipped_byte, ""),  # gzip notices, or the sha256 does
    "overwritten": (lambda packed: packed[:10] + b"\xff" * 90 + packed[100:], "is not a readable gzip file"),
    "not gzip": (lambda packed: b"<html>404</html>", "is not a readable gzip file"),
    "another pixel": (
        with_other_pixel,
        "holds other bytes than the published file: .*expected 0fa7898d5092",
    ),
    "another file": (lambda packed: gzip.compress(b"\0\0\x08\x01\0\0\0\0"), "holds other bytes"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_the_remedy(damage, folder):
    change, message = DAMAGE[damage]
    path = folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message + r".*git checkout -- data") as caught:
        data.load("mnist", "test", folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_missing_file_is_named_with_the_remedy(name, folder):
    (folder / "mnist" / f"{name}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}.gz is missing\. .*git checkout -- data"):
        data.load("mnist", "test", folder)


def test_files_that_were_compressed_again_still_pass(folder):
    path = folder / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    assert len(data.load("mnist", "test", folder).labels) == 10_000


@pytest.mark.parametrize(
    "dataset, split, message",
    [
        ("cifar", "test", "unknown data set 'cifar'; choose one of mnist, fashion-mnist"),
        ("mnist", "dev", "unknown split 'dev'; choose one of train, validation, test"),
    ],
)
def test_unknown_names_are_refused(dataset, split, message):
    with pytest.raises(ValueError, match=message):
        data.load(dataset, split)
