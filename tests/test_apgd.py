"""Auto-PGD against the exact robustness of linear models, a peak that fixed steps miss, and the toolbox's."""

import pytest
import torch
from attacking import accuracy, best_corner, gap, make_linear, make_pixels, margin_of, toolbox
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.attacks.apgd import checkpoints

LOSSES = ("ce", "dlr", "margin")


def test_the_step_is_judged_where_the_paper_says():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_the_optimal_perturbation_of_a_linear_model_of_two_classes(loss):
    model, x = make_linear(2), make_pixels()
    y = torch.arange(20) % 2
    found = attacks.apgd(model, x, y, eps=0.2, iterations=10, loss=loss)
    torch.testing.assert_close(found, best_corner(model, x, y, 0.2), rtol=0, atol=1e-12)


def largest_margin(model: nn.Linear, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The exact worst case of a linear model of any number of classes: the best of one corner per other class."""
    margins = []
    for c in range(model.out_features):
        towards = (model.weight[c] - model.weight[y]).detach()
        corner = torch.where(towards > 0, (x + eps).clamp(max=1), (x - eps).clamp(min=0))
        gap = (towards * corner).sum(1) + (model.bias[c] - model.bias[y]).detach()
        margins.append(gap.masked_fill(y == c, -torch.inf))
    return torch.stack(margins).amax(0)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_exact_robustness_of_a_linear_model_of_ten_classes(loss):
    """The cross-entropy sees the likeliest classes alone; the two losses that follow one rival find nearly all."""
    model = make_linear(10)
    x = make_pixels(200)
    y = model(x).argmax(1)
    exact = largest_margin(model, x, y, 0.1)
    found = attacks.apgd(model, x, y, eps=0.1, iterations=30, restarts=3, loss=loss)
    reached = torch.from_numpy(margin_of(model, found, y))
    assert (reached <= exact + 1e-12).all()  # no attack can do better
    possible = (exact > 0).sum()
    assert 20 < possible < 180
    assert (reached > 0).sum() >= (0.8 if loss == "ce" else 0.95) * possible


def test_towards_each_class_the_exact_robustness_of_a_linear_model_is_found():
    """One corner of the box is best for each wrong class, and no other class draws the attack away from it."""
    model = make_linear(10)
    x = make_pixels(200)
    y = model(x).argmax(1)
    exact = largest_margin(model, x, y, 0.1)
    found = torch.from_numpy(margin_of(model, attacks.apgd_targeted(model, x, y, eps=0.1, iterations=10), y))
    assert ((found > 0) == (exact > 0)).all() and 20 < (exact > 0).sum() < 180


def test_towards_each_class_one_is_reached_that_the_nearest_rival_hides():
    """The second logit is ahead of the third everywhere but at the far end, and always falls short of the first."""

    def model(images: Tensor) -> Tensor:
        x = images[:, 0]
        return torch.stack([torch.ones_like(x), 0.9 - 0.1 * x, 20 * x - 15.9], 1)

    x, y = torch.full((8, 1), 0.45, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)
    assert (margin_of(model, attacks.apgd(model, x, y, eps=0.4, loss="margin"), y) < 0).all()
    found = attacks.apgd_targeted(model, x, y, eps=0.4, iterations=10)
    assert (margin_of(model, found, y) > 0).all()
    one = attacks.apgd_targeted(model, x, y, eps=0.4, iterations=10, targets=1)
    assert (margin_of(model, one, y) < 0).all()  # the likeliest wrong class is the second
    with pytest.raises(ValueError, match="targeted is True, but this attack chooses its targets"):
        attacks.apgd_targeted(model, x, y, eps=0.4, targeted=True)


def test_steps_shrink_where_the_loss_has_a_peak():
    """At 0.637 the second logit is largest. Fixed steps of 0.1 go back and forth across it."""

    def model(images: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(images), dtype=images.dtype), -(images[:, 0] - 0.637).abs()], 1)

    x = torch.linspace(0.4, 0.8, 9, dtype=torch.float64).unsqueeze(1)
    y = torch.zeros(9, dtype=torch.int64)
    found = attacks.apgd(model, x, y, eps=0.3)
    assert (found - 0.637).abs().max() < 0.002
    assert (attacks.bim(model, x, y, eps=0.3, step=0.1) - 0.637).abs().max() > 0.03


def visited(*values: float) -> list[float]:
    """Where 18 steps lead one pixel from 0.5 in a box of 0.25, if the loss at each has these values and slopes up."""
    script, points = iter(values), []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        points.append(logits[0, 1].item())
        return next(script, 0.0) + logits[:, 1] - logits[:, 1].detach()

    def model(images: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(images), images], 1)

    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    attacks.apgd(model, x, torch.tensor([0]), eps=0.25, iterations=18, loss=loss)
    assert checkpoints(18)[:3] == [4, 8, 11] and points[0] < 0.5
    return points


def test_without_a_better_point_it_goes_back_with_half_the_step_and_the_last_move():
    """Three of four steps raise the loss, but none to that of the start."""
    start, *points = visited(10, 1, 2, 3, 4)
    assert points[:4] == [0.75] * 4  # the first step is twice the bound
    assert points[4] == pytest.approx(start + 0.75 * 0.25 + 0.25 * (start - 0.75))


def test_after_it_went_back_a_step_must_raise_the_loss_of_the_best_point():
    start, *points = visited(10, 1, 2, 3, 4, 5, 6, 7, 6.5)
    assert points[7] == 0.75
    assert points[8] == pytest.approx(start + 0.75 * 0.125 + 0.25 * (start - 0.75))


def test_rises_are_counted_from_the_last_checkpoint():
    assert visited(10, 1, 2, 3, 4, 100, 50, 60, 70)[9] == 0.75  # three of four, six of eight


def test_restarts_help_and_spare_the_images_that_are_done(precise_cnn, few):
    x, y = few
    asked = []

    def model(images: Tensor) -> Tensor:
        asked.append(len(images))
        return precise_cnn(images)

    margins = {}
    for restarts in (1, 3):
        asked.clear()
        found = attacks.apgd(model, x, y, eps=0.08, iterations=5, restarts=restarts)
        margins[restarts] = margin_of(precise_cnn, found, y)
    assert (margins[3] >= margins[1]).all() and (margins[3] > margins[1]).any()
    left = (margins[1] <= 0).sum()
    assert 0 < left < 40 and asked.count(left) >= 6  # start and five steps of the second run


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_at_least_as_strong_as_bim(loss, trained_cnn, digits):
    x, y = digits.first(100)
    bim = accuracy(trained_cnn, attacks.bim(trained_cnn, x, y, eps=0.1, iterations=20), y)
    found = attacks.apgd(trained_cnn, x, y, eps=0.1, iterations=20, loss=loss)
    assert accuracy(trained_cnn, found, y) <= bim + 1 and bim < accuracy(trained_cnn, x, y) - 30


@pytest.mark.parametrize("loss, theirs", [("ce", "cross_entropy"), ("dlr", "difference_logits_ratio")])
def test_it_agrees_with_the_toolbox(loss, theirs, trained_cnn, digits):
    from art.attacks.evasion import AutoProjectedGradientDescent

    x, y = digits.first(500)
    attack = AutoProjectedGradientDescent(
        toolbox(trained_cnn),
        eps=0.1,
        eps_step=0.2,
        max_iter=25,
        nb_random_init=1,
        batch_size=500,
        loss_type=theirs,
        verbose=False,
    )
    made = torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
    ours = attacks.apgd(trained_cnn, x, y, eps=0.1, iterations=25, loss=loss)
    points, error = gap(trained_cnn, ours, made, y)
    assert abs(points) <= 2 and 3 * error < 2  # the same images fall but for a few
