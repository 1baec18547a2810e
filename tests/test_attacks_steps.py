"""FGSM, BIM and PGD against closed forms on linear models, and against the Adversarial Robustness Toolbox."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from attacking import accuracy, best_corner, make_linear, make_pixels, margin_of, toolbox
from conftest import small_q_net
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.attacks import losses

# ---- closed forms on linear models ----


def test_fgsm_of_a_linear_model():
    model, x = make_linear(10), make_pixels()
    y = torch.arange(20) % 10
    logits = model(x).detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = (p - np.eye(10)[y]) @ model.weight.detach().numpy()  # of the cross-entropy, in the image
    expected = np.clip(x.numpy() + 0.1 * np.sign(gradient), 0, 1)
    np.testing.assert_allclose(attacks.fgsm(model, x, y, eps=0.1), expected, atol=1e-15)


OPTIMAL = {
    "fgsm": attacks.fgsm,
    "bim": partial(attacks.bim, step=0.01, iterations=100),
    "bim in uneven steps": partial(attacks.bim, step=0.07, iterations=5),
    "pgd": partial(attacks.pgd, step=0.05, iterations=8),  # from a corner to the opposite one
    "pgd on the margin": partial(attacks.pgd, step=0.05, iterations=8, loss="margin"),
}


@pytest.mark.parametrize("attack", OPTIMAL.values(), ids=OPTIMAL)
def test_the_optimal_perturbation_of_a_linear_model_of_two_classes(attack):
    """The margin is linear in the image, so its maximum in the box is the corner that its weights point to."""
    model, x = make_linear(2), make_pixels()
    y = torch.arange(20) % 2
    best = best_corner(model, x, y, 0.2)
    torch.testing.assert_close(attack(model, x, y, eps=0.2), best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attack", OPTIMAL.values(), ids=OPTIMAL)
def test_towards_one_of_two_classes_is_away_from_the_other(attack):
    model, x = make_linear(2), make_pixels()
    wanted = torch.arange(20) % 2
    best = best_corner(model, x, 1 - wanted, 0.2)
    found = attack(model, x, wanted, eps=0.2, targeted=True)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


def test_targeted_fgsm_of_a_linear_model():
    model, x = make_linear(10), make_pixels()
    wanted = torch.arange(20) % 10
    logits = model(x).detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = (p - np.eye(10)[wanted]) @ model.weight.detach().numpy()
    expected = np.clip(x.numpy() - 0.1 * np.sign(gradient), 0, 1)
    found = attacks.fgsm(model, x, wanted, eps=0.1, targeted=True)
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_bim_goes_as_far_as_its_steps():
    model, x = make_linear(2), make_pixels()
    y = torch.zeros(20, dtype=torch.int64)
    direction = (model.weight[1] - model.weight[0]).detach().sign()
    found = attacks.bim(model, x, y, eps=0.2, step=0.01, iterations=7)
    torch.testing.assert_close(found, (x + 0.07 * direction).clamp(0, 1), rtol=0, atol=1e-12)


def test_a_sum_of_pixels_can_be_attacked():
    """Its gradient is one number per image, expanded to all pixels without memory of its own."""

    def brightness(images: Tensor) -> Tensor:
        total = images.flatten(1).sum(1)
        return torch.stack([total, -total], 1)

    x = torch.full((3, 1, 4, 4), 0.5)
    expected = x - 0.1
    for attack in (attacks.fgsm, attacks.bim, attacks.pgd):
        torch.testing.assert_close(attack(brightness, x, eps=0.1), expected)


# ---- PGD ----


def test_pgd_without_restarts_is_refused():
    with pytest.raises(ValueError, match="restarts is 0; it must be a whole number, at least 1"):
        attacks.pgd(make_linear(3), make_pixels(), eps=0.1, restarts=0)


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_more_restarts_never_lower_the_loss_of_an_image(loss, precise_cnn, few):
    x, y = few
    run = partial(attacks.pgd, precise_cnn, x, y, eps=0.1, step=0.05, iterations=3, loss=loss)
    value = {
        n: losses.named(loss)(precise_cnn(run(restarts=n)), y).detach() for n in (1, 4)
    }  # the first start is the same: both draw from a generator with seed 0
    assert (value[4] >= value[1]).all() and (value[4] > value[1]).any()


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_best_iterate_is_never_behind_the_last_one(restarts, precise_cnn, few):
    x, y = few
    run = partial(attacks.pgd, precise_cnn, x, y, eps=0.1, step=0.15, iterations=6, restarts=restarts)
    last, best = (margin_of(precise_cnn, run(keep_best=choice), y) for choice in (False, True))
    assert (best >= last).all() and (best > last).any()


def test_the_best_iterate_may_be_the_first():
    """Steps of 0.3 back and forth across a peak at 0.5: an odd number of them ends further away than the start."""

    def model(images: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(images), dtype=images.dtype), -(images[:, 0] - 0.5).abs()], 1)

    x, y = torch.full((1, 1), 0.4, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    run = partial(attacks.pgd, model, x, y, eps=0.35, step=0.3)
    start = run(iterations=0).item()
    assert 0.35 < start < 0.65
    assert run(iterations=7).item() == pytest.approx(start + (0.3 if start < 0.5 else -0.3))
    assert run(iterations=7, keep_best=True).item() == start


def test_pgd_starts_uniformly_in_the_box_from_its_generator():
    model, x = make_linear(3), torch.full((2000, 12), 0.5, dtype=torch.float64)
    start = attacks.pgd(model, x, eps=0.2, iterations=0, batch_size=300) - x
    assert start.abs().max() <= 0.2
    assert start.mean().abs() < 0.005 and start.std().item() == pytest.approx(0.4 / 12**0.5, rel=0.01)
    assert len(start.flatten().unique()) > 20_000  # no batch repeats another's draws
    same = attacks.pgd(model, x, eps=0.2, iterations=0, batch_size=300) - x
    other = attacks.pgd(model, x, eps=0.2, iterations=0, generator=torch.Generator().manual_seed(1)) - x
    assert torch.equal(start, same) and not torch.equal(start, other)


@pytest.mark.parametrize("loss, second_pixel", [("margin", 0.52), ("ce", 0.48)])
def test_the_margin_loss_follows_the_runner_up_alone(loss, second_pixel):
    """Class 1 is the runner-up throughout; class 2, close behind, pulls the second pixel the other way, harder."""
    model = nn.Linear(2, 3).double().eval()
    model.weight.data = torch.tensor([[0, 0], [1, 1], [3, -3]], dtype=torch.float64)
    model.bias.data = torch.tensor([3, 1, 1.8], dtype=torch.float64)
    x, y = torch.full((1, 2), 0.5, dtype=torch.float64), torch.tensor([0])
    assert model(x).argsort(descending=True).tolist() == [[0, 1, 2]]
    found = attacks.pgd(model, x, y, eps=0.02, step=0.01, loss=loss)
    assert found[0, 1].item() == pytest.approx(second_pixel)


# ---- the Adversarial Robustness Toolbox ----


@pytest.fixture(scope="module")
def unsure_cnn(trained_cnn: nn.Sequential) -> nn.Sequential:
    """`trained_cnn` with a fifth of its logits: never so sure that float32 loses the toolbox's gradient."""
    model = copy.deepcopy(trained_cnn)
    with torch.no_grad():
        model[-1].weight /= 5
        model[-1].bias /= 5
    return model


@pytest.mark.parametrize("eps", [0.2, 0.3])
def test_fgsm_agrees_with_the_toolbox(eps, unsure_cnn, digits):
    from art.attacks.evasion import FastGradientMethod

    x, labels = digits
    ours = attacks.fgsm(unsure_cnn, x, eps=eps)
    made = FastGradientMethod(toolbox(unsure_cnn), eps=eps, batch_size=128).generate(x.numpy())
    theirs = torch.from_numpy(made)
    assert abs(accuracy(unsure_cnn, ours, labels) - accuracy(unsure_cnn, theirs, labels)) <= 0.3
    assert accuracy(unsure_cnn, ours, labels) < accuracy(unsure_cnn, x, labels) - 20
    # Where the images differ, the gradient is zero up to rounding and its sign means nothing.
    y = unsure_cnn(x).argmax(1)
    pixels = x.double().requires_grad_()
    precise = copy.deepcopy(unsure_cnn).double()
    loss = nn.functional.cross_entropy(precise(pixels), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, pixels)
    share_of_largest = gradient.abs() / gradient.abs().amax((1, 2, 3), keepdim=True)
    differ = (ours - theirs).abs() > 1e-6
    assert differ.double().mean() < 0.001
    assert not differ.any() or share_of_largest[differ].max() < 1e-4


def test_where_a_network_is_sure_ours_is_the_stronger(trained_cnn, digits):
    """The toolbox follows the cross-entropy as float32 rounds it: this is why agreement alone proves little."""
    from art.attacks.evasion import FastGradientMethod

    x, labels = digits.first(400)
    sure = copy.deepcopy(trained_cnn)
    with torch.no_grad():
        sure[-1].weight *= 20
        sure[-1].bias *= 20
    ours = attacks.fgsm(sure, x, eps=0.2)
    made = FastGradientMethod(toolbox(sure), eps=0.2, batch_size=128).generate(x.numpy())
    assert accuracy(sure, ours, labels) < accuracy(sure, torch.from_numpy(made), labels) - 10


def test_bim_agrees_with_the_toolbox(unsure_cnn, digits):
    from art.attacks.evasion import BasicIterativeMethod

    x, labels = digits.first(500)
    steps = {"eps": 0.2, "iterations": 25, "step": 0.01}
    ours = attacks.bim(unsure_cnn, x, **steps)
    attack = BasicIterativeMethod(
        toolbox(unsure_cnn), eps=0.2, eps_step=0.01, max_iter=25, batch_size=128, verbose=False
    )
    theirs = torch.from_numpy(attack.generate(x.numpy()))
    assert abs(accuracy(unsure_cnn, ours, labels) - accuracy(unsure_cnn, theirs, labels)) <= 0.4
    assert ((ours - theirs).abs() > 1e-6).double().mean() < 0.001
    after_one_step = accuracy(unsure_cnn, attacks.fgsm(unsure_cnn, x, eps=0.2), labels)
    assert accuracy(unsure_cnn, ours, labels) < after_one_step


def test_the_e_path_agrees_with_the_toolbox(digits):
    from art.attacks.evasion import FastGradientMethod

    torch.manual_seed(0)
    model = small_q_net().eval()

    class EPath(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return model(images, path="e")

    x = digits.images[:200]
    ours = attacks.fgsm(partial(model, path="e"), x, eps=0.1)
    theirs = FastGradientMethod(toolbox(EPath().eval()), eps=0.1, batch_size=128).generate(x.numpy())
    assert ((ours - torch.from_numpy(theirs)).abs() > 1e-6).double().mean() < 0.001
