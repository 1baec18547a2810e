"""Attacks on the released networks leave as many images right in the machine's own number format as in float32."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from qlayer_core import attacks, evaluation, intervals, machine
from qlayer_core.study import records


@pytest.fixture
def own_format(monkeypatch) -> None:
    """The number format that the machine chooses by itself."""
    monkeypatch.delenv("QLAYER_PRECISION")
    if machine.number_format() == "float32":
        pytest.skip("this machine has no number format that is faster than float32")


def right(
    model: torch.nn.Module, adversarial: torch.Tensor, labels: torch.Tensor
) -> dict[str | None, torch.Tensor]:
    """Which images each path still classifies correctly, scored as it is recorded."""
    return evaluation.correct_by_path(model, adversarial, labels, full_precision=True)


ATTACKS = {
    "fgsm 0.2": partial(attacks.fgsm, eps=0.2),
    "fgsm 0.3": partial(attacks.fgsm, eps=0.3),
    "bim 0.2": partial(attacks.bim, eps=0.2, step=0.07, iterations=5),
    "cw 0.2": partial(attacks.cw_linf, eps=0.2, iterations=2),
}


@pytest.mark.parametrize("name", ["cnn", "q-base"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_more_than_half_a_point_lies_between_them_but_for_chance(
    attack: Callable, name, own_format, digits, monkeypatch
):
    """On 1,000 images, with fewer iterations; `benchmarks/agreement.py` compares the full attacks.

    A step that turns out otherwise sends an image another way, so many are right in one format alone: about as many
    in either.
    """
    model, _ = records.load("mnist", name)
    images, labels = digits
    quick = right(model, attack(attacks.surrogate(model), images), labels)
    monkeypatch.setenv("QLAYER_PRECISION", "float32")
    full = right(model, attack(attacks.surrogate(model), images), labels)
    for path, hits in quick.items():
        alone = int((hits & ~full[path]).sum()), int((full[path] & ~hits).sum())
        _, low, high = intervals.paired(*alone, len(labels))
        assert low <= 0.5 and high >= -0.5, (path, alone)
        assert sum(alone) < 0.1 * len(labels), (path, alone)
