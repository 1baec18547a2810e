"""The data sets as records: a third one is an entry here and files of the same format. Imports no torch.

Of the same format means IDX files with images of 28 x 28 pixels in ten classes, more than the 10,000 training images
that go to validation, and, for `make reproduce` to know when it is done, 10,000 test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """One data set: what its images show, how far they are attacked, and the files that hold them."""

    name: str
    shape: tuple[int, int, int]  # channels, height, width
    class_names: tuple[str, ...]
    epsilons: tuple[float, float]  # of the attacks in the tables, section 4.1.1
    adversarial_eps: float  # of adversarial training
    checksums: Mapping[str, str]  # file to the sha256 of its decompressed bytes


_ALL = (
    Dataset(
        "mnist",
        (1, 28, 28),
        tuple("0123456789"),
        (0.2, 0.3),
        0.2,
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    Dataset(
        "fashion-mnist",
        (1, 28, 28),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        (0.1, 0.2),
        0.1,
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
)
DATASETS = {one.name: one for one in _ALL}


def find(name: str) -> Dataset:
    """Return the data set of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}")
    return DATASETS[name]
