"""The fast paths compute what the plain versions compute, and bfloat16 changes no accuracy that is claimed."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import small_q_net
from torch.nn import functional as F

from qlayer_core import attacks, evaluation, experiments, layer, machine, models, results, training
from qlayer_core.layer import QLayer

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import plain

MODELS = ("cnn", "source-b", "q-base", "q-large", "q-inner")


@pytest.fixture
def fast(monkeypatch) -> None:
    """The number format that the machine chooses by itself."""
    monkeypatch.delenv("QLAYER_PRECISION")
    if machine.number_format() == "float32":
        pytest.skip("this machine has no number format that is faster than float32")


# ---- the plain versions, in float64 ----


@pytest.mark.parametrize("name", MODELS)
def test_answers_and_gradients_are_those_of_the_plain_network(name):
    ours = models.build(name).double().eval()
    theirs = plain.fill(plain.build(name), ours).double()
    images = torch.rand(3, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    for path in ("q", "e") if name.startswith("q") else (None,):
        options = {"path": path} if path else {}
        logits = [net(images, **options) for net in (ours, theirs)]
        torch.testing.assert_close(*logits)
        if path != "q":
            by_images = [torch.autograd.grad(out.logsumexp(1).sum(), images)[0] for out in logits]
            torch.testing.assert_close(*by_images)


@pytest.mark.parametrize("name", ["cnn", "q-large"])
def test_a_training_step_moves_the_weights_as_the_plain_one_does(name):
    ours = models.build(name).double()
    for module in ours.modules():
        if isinstance(module, models.Dropout):
            module.p = 0.0
    theirs = plain.fill(plain.build(name), ours).double()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images, labels = torch.rand(4, 1, 28, 28, dtype=torch.float64), torch.arange(4)
    for net in (ours.train(), theirs.train()):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        if net is ours:
            training.step(experiments.run(name), net, optimizer, images, labels)
        else:
            plain.step(net, optimizer, images, labels)
    expected = plain.fill(plain.build(name).double(), ours)
    for (where, found), wanted in zip(theirs.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, msg=lambda text, where=where: f"{where}: {text}")


def test_codes_are_found_piece_by_piece(monkeypatch):
    """With pieces of 7 panels as with one piece, in every layout of the map."""
    torch.manual_seed(0)
    q_layer, maps = QLayer(6, 5, heads=3).double(), torch.randn(4, 18, 3, 5, dtype=torch.float64)
    panels = maps.permute(0, 2, 3, 1).reshape(-1, 3, 6)  # 60 panels
    expected = torch.stack([torch.cdist(panels[:, h], q_layer.codebook[h]).argmin(1) for h in range(3)])
    for chunk in (7, 60, 10_000):
        monkeypatch.setattr(layer, "CHUNK", chunk)
        for laid_out in (maps, maps.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(q_layer.nearest(laid_out).flatten(1), expected)


# ---- bfloat16 against float32 ----


def left(model: torch.nn.Module, adversarial: torch.Tensor, labels: torch.Tensor) -> dict[str | None, float]:
    """Percent that each path still classifies rightly, scored as it is recorded."""
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
def test_adversarial_accuracy_is_within_half_a_point(attack: Callable, name, fast, digits, monkeypatch):
    """On 1,000 images, with fewer iterations; `benchmarks/agreement.py` compares the full attacks."""
    model, _ = results.load("mnist", name)
    images, labels = digits
    quick = left(model, attack(evaluation.attacked(model), images), labels)
    monkeypatch.setenv("QLAYER_PRECISION", "float32")
    full = left(model, attack(evaluation.attacked(model), images), labels)
    for path, accuracy in quick.items():
        assert accuracy == pytest.approx(full[path], abs=0.5), path


def test_training_reaches_the_same_validation_accuracy(fast, train_digits, digits, monkeypatch):
    """Three short runs each way: the means differ by less than the spread over seeds explains."""
    spec = replace(experiments.run("q-base"), epochs=2, selection="clean", batch_size=32, learning_rate=0.003)
    validation = {"clean": digits}

    def accuracies() -> list[float]:
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            state = training.train(spec, small_q_net(), train_digits, validation, seed=seed)
            found.append(state.best["score"])
        return found

    quick = accuracies()
    monkeypatch.setenv("QLAYER_PRECISION", "float32")
    full = accuracies()
    noise = ((statistics.variance(quick) + statistics.variance(full)) / 3) ** 0.5
    assert min(quick + full) > 60
    assert abs(statistics.mean(quick) - statistics.mean(full)) <= max(3 * noise, 1.0)


@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
def test_records_name_the_number_format(number_format, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", number_format)
    record = results.new_record("mnist", experiments.run("cnn"), seed=0)
    assert record["number_format"] == number_format


@pytest.mark.parametrize("heads", [1, 4])
def test_losses_in_bfloat16_are_those_of_float32(heads):
    """The losses, and what they pull on, agree to the three digits that bfloat16 has."""
    torch.manual_seed(0)
    q_layer, z = QLayer(64, 64, heads), torch.rand(8, 64, 6, 6)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = q_layer(z)
            codebook_loss, commitment_loss = q_layer.losses(out)
        gradients = torch.autograd.grad(
            codebook_loss + commitment_loss, [q_layer.codebook, q_layer.gate.weight]
        )
        assert codebook_loss.dtype == torch.float32 and codebook_loss == commitment_loss
        found.append((codebook_loss.detach(), *gradients))
    for quick, full in zip(*found, strict=True):
        assert F.cosine_similarity(quick.flatten(), full.flatten(), dim=0) > 0.98
        assert quick.norm() == pytest.approx(full.norm().item(), rel=0.03)
