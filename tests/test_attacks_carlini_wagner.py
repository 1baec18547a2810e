"""Carlini-Wagner L-infinity: the rules one by one, one image at a time, and what they must come to."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from attacking import accuracy, margin_of
from conftest import small_q_net
from torch import Tensor

from qlayer_core import attacks

S = 0.999999


def one_by_one(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: int,
    *,
    eps: float,
    confidence: float = 0.0,
    learning_rate: float = 0.01,
    iterations: int = 10,
    halvings: int = 5,
    doublings: int = 5,
) -> Tensor:
    """Attack one image ``(1, 28, 28)`` by the rules of the toolbox of 2019, taken literally."""
    lo, hi = torch.clip(x - eps, 0, 1), torch.clip(x + eps, 0, 1)

    def decode(w: Tensor) -> Tensor:
        return lo + (hi - lo) * (torch.tanh(w) / S + 1) / 2

    def loss(w: Tensor) -> Tensor:
        z = model(decode(w).unsqueeze(0))[0]
        others = [z[j] for j in range(len(z)) if j != y]
        return torch.clip(z[y] - torch.stack(others).max() + confidence, min=0)

    def value(w: Tensor) -> float:
        with torch.no_grad():
            return loss(w).item()

    w = torch.atanh(S * (2 * (x - lo) / (hi - lo) - 1))
    lr, current = learning_rate, value(w)
    for _ in range(iterations):
        if current <= 0:
            break
        leaf = w.clone().requires_grad_()
        p = -torch.autograd.grad(loss(leaf), leaf)[0]
        prev = best = now = current
        best_lr, h = 0.0, 0
        for _ in range(halvings):
            if now >= prev:
                now = value(w + lr * p)
                if now < best:
                    best, best_lr = now, lr
                lr /= 2
                h += 1
        lr *= 2
        for _ in range(doublings):
            if h == 1 and now <= best:
                lr *= 2
                now = value(w + lr * p)
                if now < best:
                    best, best_lr = now, lr
        if h == 1:
            lr /= 2
        if best_lr > 0:
            w = w + best_lr * p
            current = value(w)
    return decode(w) if current <= 0 else x


def image_by_image(model: Callable[[Tensor], Tensor], x: Tensor, **options) -> Tensor:
    return torch.stack(
        [one_by_one(model, image, model(image[None]).argmax().item(), **options) for image in x]
    )


def changed(found: Tensor, x: Tensor) -> Tensor:
    return ((found - x).abs() > 1e-6).flatten(1).any(1)


CW_OPTIONS = {
    "defaults": {"eps": 0.3},
    "small eps": {"eps": 0.1},
    "long first step": {"eps": 0.3, "learning_rate": 1000.0},  # many halvings
    "short first step": {"eps": 0.3, "learning_rate": 2.0**-12},  # many doublings
    "few trials": {"eps": 0.3, "learning_rate": 8.0, "halvings": 2, "doublings": 1, "iterations": 4},
    "one halving": {"eps": 0.3, "learning_rate": 8.0, "halvings": 1, "doublings": 3},
    "no doublings": {"eps": 0.3, "learning_rate": 128.0, "doublings": 0},
    "confidence": {"eps": 0.3, "learning_rate": 32.0, "confidence": 1.0, "iterations": 20},
}


@pytest.mark.parametrize("options", CW_OPTIONS.values(), ids=CW_OPTIONS)
def test_cw_follows_the_rules_image_by_image(options, precise_cnn, few):
    x = few[0][:16]
    found = attacks.cw_linf(precise_cnn, x, **options)
    expected = image_by_image(precise_cnn, x, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert 0 < changed(found, x).sum() < 16  # both outcomes are compared


RUGGED_OPTIONS = {
    "long first step": {"learning_rate": 16.0},
    "short first step": {"learning_rate": 2.0**-12},
    "few trials": {"learning_rate": 1.0, "halvings": 2, "doublings": 2, "iterations": 20},
    "one halving": {"learning_rate": 1.0, "halvings": 1, "doublings": 3},
    "no doublings": {"learning_rate": 1.0, "doublings": 0},
    "confidence": {"learning_rate": 1.0, "confidence": 0.5, "iterations": 20},
}


@pytest.mark.parametrize("options", RUGGED_OPTIONS.values(), ids=RUGGED_OPTIONS)
def test_cw_follows_the_rules_where_long_steps_overshoot(options):
    """Waves in place of a network: any of the trials may be the first to help."""
    torch.manual_seed(0)
    waves, phases = (
        torch.randn(12, 40, dtype=torch.float64) * 12**0.5,
        torch.rand(40, dtype=torch.float64) * 6.28,
    )
    weights, x = torch.randn(40, 4, dtype=torch.float64), torch.rand(24, 12, dtype=torch.float64)

    def model(images: Tensor) -> Tensor:
        return (images @ waves + phases).sin() @ weights

    found = attacks.cw_linf(model, x, eps=0.3, **options)
    torch.testing.assert_close(found, image_by_image(model, x, eps=0.3, **options), rtol=0, atol=1e-6)
    assert changed(found, x).sum() > 12


def test_cw_in_float32_follows_the_rules_up_to_rounding(trained_cnn, digits):
    x = digits.images[:40]
    found = attacks.cw_linf(trained_cnn, x, eps=0.3)
    expected = image_by_image(trained_cnn, x, eps=0.3)
    assert torch.equal(changed(found, x), changed(expected, x))
    far = (found - expected).abs().flatten(1).amax(1) > 1e-3
    assert far.sum() <= 1  # where two trials are as good, rounding decides


def test_cw_on_probabilities_follows_the_rules_too(precise_cnn, few):
    x = few[0][:16]

    def probabilities(images: Tensor) -> Tensor:
        return precise_cnn(images).softmax(1)

    found = attacks.cw_linf(probabilities, x, eps=0.3)
    torch.testing.assert_close(found, image_by_image(probabilities, x, eps=0.3), rtol=0, atol=1e-6)
    assert changed(found, x).any()


@pytest.mark.parametrize("confidence", [0.0, 1.0, 2.0])
def test_cw_succeeds_by_the_confidence_or_leaves_the_image_unchanged(confidence, precise_cnn, few):
    x, _ = few
    y = precise_cnn(x).argmax(1)
    found = attacks.cw_linf(precise_cnn, x, eps=0.2, confidence=confidence)
    unchanged = (found == x).flatten(1).all(1)
    assert 0 < unchanged.sum() < len(x)
    assert (margin_of(precise_cnn, found, y)[~unchanged] >= confidence - 1e-9).all()


def test_cw_keeps_an_image_that_is_already_misclassified(precise_cnn, few):
    x, _ = few
    others = (precise_cnn(x).argmax(1) + 1) % 10
    torch.testing.assert_close(attacks.cw_linf(precise_cnn, x, others, eps=0.3), x, rtol=0, atol=1e-6)


def test_a_learning_rate_may_be_an_integer(precise_cnn, few):
    found = [attacks.cw_linf(precise_cnn, *few, eps=0.2, learning_rate=rate) for rate in (1, 1.0)]
    assert torch.equal(*found) and not torch.equal(found[0], few[0])


def test_towards_a_class_cw_arrives_there_or_leaves_the_image_unchanged(precise_cnn, few):
    x, truth = few
    wanted = (truth + 1) % 10
    found = attacks.cw_linf(precise_cnn, x, wanted, eps=0.3, targeted=True, learning_rate=1.0)
    arrived = precise_cnn(found).argmax(1) == wanted
    assert 0 < arrived.sum() < len(x)
    assert torch.equal(found[~arrived], x[~arrived])


# The algorithm's 0.999999, its first step of 0.01 and the losses that it compares are beyond these formats.
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_cw_is_as_strong_as_in_float32(dtype, trained_cnn, digits):
    x, y = digits.first(200)
    narrow = copy.deepcopy(trained_cnn).to(dtype)
    full = accuracy(trained_cnn, attacks.cw_linf(trained_cnn, x, eps=0.3), y)
    assert full < accuracy(trained_cnn, x, y) - 20
    for model in (narrow, lambda images: trained_cnn(images.float())):
        found = attacks.cw_linf(model, x.to(dtype), eps=0.3)
        assert found.dtype == dtype
        assert accuracy(model, found, y) == pytest.approx(full, abs=4)
    assert all(weights.dtype == dtype for weights in narrow.parameters())


def test_in_half_precision_cw_attacks_a_path_as_well(few):
    net, x = small_q_net().eval(), few[0].half()
    expected = attacks.cw_linf(partial(net.half().float(), path="e"), x.float(), eps=0.3, learning_rate=1.0)
    found = attacks.cw_linf(partial(net.half(), path="e"), x, eps=0.3, learning_rate=1.0)
    assert torch.equal(found, expected.half()) and not torch.equal(found, x)


@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
def test_cw_refuses_a_network_in_half_precision_that_it_cannot_see(
    number_format, trained_cnn, digits, monkeypatch
):
    monkeypatch.setenv("QLAYER_PRECISION", number_format)
    narrow = copy.deepcopy(trained_cnn).half()
    with pytest.raises(ValueError, match=r"only takes images in half precision.*\.float\(\)"):
        attacks.cw_linf(lambda images: narrow(images), digits.images[:2].half(), eps=0.3)


def test_autocast_leaves_the_line_search_in_full_precision(trained_cnn, digits, monkeypatch):
    expected = attacks.cw_linf(trained_cnn, digits.images[:40], eps=0.3)
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    assert torch.equal(attacks.cw_linf(trained_cnn, digits.images[:40], eps=0.3), expected)
