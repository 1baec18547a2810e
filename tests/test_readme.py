"""The code in README.md, and in that of the data, runs as it stands there."""

import re

import pytest
import torch
from torch import nn

from qlayer_core.files import ROOT
from qlayer_core.study import measured

BLOCKS, OF_DATA = (
    re.findall(r"```python\n(.*?)```", (ROOT / folder / "README.md").read_text(), re.DOTALL)
    for folder in ("", "data")
)


@pytest.fixture(scope="module")
def names():
    """Run README's examples on one small batch of colour images; what they define."""
    torch.manual_seed(0)
    names = {"images": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 3])}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_its_loss_trains_every_part(names):
    net: nn.Module = names["net"]
    names["loss"].backward()
    assert not [name for name, weights in net.named_parameters() if weights.grad is None]


def test_its_network_answers(names):
    assert names["net"](names["images"]).shape == (4, 10)


def test_its_attack_stays_within_eps(names):
    change = (names["adversarial"] - names["images"]).abs().max().item()
    assert 0 < change <= 0.1 + 1e-6


def test_what_reads_the_records_gives_what_it_says_beside_it():
    names = {}
    (block,) = OF_DATA
    exec(compile(block, "data/README.md", "exec"), names)
    record, right, left = (names[name] for name in ("record", "right", "left"))
    assert (record["model"], record["seed"]) == ("q-base", 1)
    assert right.dtype == left.dtype == bool
    assert (len(right), right.sum()) == tuple(record["cells"][0][field] for field in ("n", "correct"))
    assert 0 < left.sum() < len(left) == names["ladder"]["n"]
    assert len(names["cells"]) and tuple(names["numbers"].columns) == measured.COLUMNS


def test_the_citation_is_of_the_version_that_installs():
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert f'version = "{cited}"' in (ROOT / "pyproject.toml").read_text()
