"""Attacks on the released networks leave as many images right in the machine's own number format as in float32."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from qlayer_core import attacks, evaluation, machine
from qlayer_core.study import records


@pytest.fixture
def own_format(monkeypatch) -> None:
    """The number format that the machine chooses by itself."""
    monkeypatch.delenv("QLAYER_PRECISION")
    if machine.number_format() == "float32":
        pytest.skip("this machine has no number format that is faster than float32")


def left(model: torch.nn.Module, adversarial: torch.Tensor, labels: torch.Tensor) -> dict[str | None, float]:
    """Percent that each path still classifies correctly, scored as it is recorded."""
    correct = evaluation.correct_by_path(model, adversarial, labels, full_precision=True)
    return {path: 100 * right.double().mean().item() for path, right in correct.items()}


ATTACKS = {
    "fgsm 0.2": partial(attacks.fgsm, eps=0.2),
    "fgsm 0.3": partial(attacks.fgsm, eps=0.3),
    "bim 0.2": partial(attacks.bim, eps=0.2, step=0.04, iterations=10),
    "cw 0.2": partial(attacks.cw_linf, eps=0.2, iterations=3),
}


@pytest.mark.parametrize("name", ["cnn", "q-base"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_adversarial_accuracy_is_within_half_a_point(attack: Callable, name, own_format, digits, monkeypatch):
    """On 1,000 images, with fewer iterations; `benchmarks/agreement.py` compares the full attacks."""
    model, _ = records.load("mnist", name)
    images, labels = digits
    quick = left(model, attack(attacks.surrogate(model), images), labels)
    monkeypatch.setenv("QLAYER_PRECISION", "float32")
    full = left(model, attack(attacks.surrogate(model), images), labels)
    for path, accuracy in quick.items():
        assert accuracy == pytest.approx(full[path], abs=0.5), path
