"""What all tests share: full precision, one thread, and small networks trained on real digits in seconds."""

import base64
import copy
import io
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from qlayer_core import data
from qlayer_core.fast import Dropout
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet


def pytest_configure() -> None:
    """Use one thread of the CPU: sums then run in one order, so that two runs can agree bit for bit."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give whole files to workers, since their tests share fixtures; of the longest, every other page is a share."""
    import website  # where pytest alone looks for it
    from xdist.scheduler import LoadFileScheduling

    pages = [f"[{page}" for page in website.pages()]

    class ByFileOrPage(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            if not file.endswith("test_site.py"):
                return file
            return f"{file} {next((i % 2 for i, page in enumerate(pages) if page in nodeid), 0)}"

    return ByFileOrPage(config, log)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 on every machine, unless a test asks for bfloat16."""
    monkeypatch.setenv("QLAYER_PRECISION", "float32")


@pytest.fixture(autouse=True)
def same_numbers_for_the_toolbox() -> None:
    """The toolbox draws from numpy's global generator: without a seed, a comparison with it passes or not by luck."""
    np.random.seed(0)


@pytest.fixture(scope="session")
def digits() -> data.Split:
    """The first 1,000 test images of MNIST."""
    return data.load("mnist", "test", limit=1000)


@pytest.fixture(scope="session")
def train_digits() -> data.Split:
    """The first 4,000 training images of MNIST."""
    return data.load("mnist", "train", limit=4000)


def small_cnn() -> nn.Sequential:
    """Return a network for MNIST that trains in seconds: images (N, 1, 28, 28) to logits (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def small_q_net(heads: int = 2, start: str = "random") -> QNet:
    """Return a network with a layer of `heads` heads for MNIST that trains in seconds."""
    encoder = nn.Sequential(nn.Conv2d(1, 8, 5, stride=3), nn.ReLU(), Dropout(0.25))  # (N, 8, 8, 8)

    def tail() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(heads * 8 * 8 * 8, 10))

    return QNet(encoder, QLayer(8, codebook_size=16, heads=heads, start=start), tail(), tail())


def drawings(html: str) -> list[np.ndarray]:
    """Return the pictures within a figure's or a slide's HTML, in order: (H, W, 3) uint8 each."""
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in found]


@pytest.fixture(scope="session")
def trained_cnn(train_digits: data.Split) -> nn.Sequential:
    """`small_cnn` after two epochs on 4,000 digits, in evaluation mode; don't change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.004)
        for batch in torch.cat([torch.randperm(4000) for _ in range(2)]).split(50):
            loss = nn.functional.cross_entropy(model(train_digits.images[batch]), train_digits.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def precise_cnn(trained_cnn: nn.Sequential) -> nn.Sequential:
    """`trained_cnn` in float64; don't change it."""
    return copy.deepcopy(trained_cnn).double()


@pytest.fixture(scope="session")
def few(digits: data.Split) -> tuple[torch.Tensor, torch.Tensor]:
    """40 digits in float64 and their classes."""
    return digits.images[:40].double(), digits.labels[:40]
