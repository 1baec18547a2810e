"""What attacks raise: values in closed form, float64's sign in float32, and the gradient of the toolbox of 2019."""

import copy

import numpy as np
import pytest
import torch
from attacking import accuracy, make_linear, margin_of, scaled
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks
from qlayer_core.attacks import losses


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


# ---- values ----


def test_the_losses_in_closed_form():
    logits = torch.tensor([[2.0, 5.0, 3.0], [1.0, 0.0, 1.0]])
    labels = torch.tensor([0, 2])
    assert losses.margin(logits, labels).tolist() == [3.0, 0.0]
    expected = [np.log(np.exp(5) + np.exp(3)) - 2, np.log(np.exp(1) + np.exp(0)) - 1]
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), expected, rtol=1e-6)
    assert losses.dlr(torch.tensor([[2.0, 5.0, 3.0, 1.0]]), torch.tensor([0])).tolist() == [3 / (5 - 2)]


def test_the_exact_loss_is_the_cross_entropy_before_its_softplus():
    torch.manual_seed(0)
    logits, labels = 5 * torch.randn(200, 10, dtype=torch.float64), torch.arange(200) % 10
    expected = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(nn.functional.softplus(losses.cross_entropy(logits, labels)), expected)


def test_the_clipped_loss_is_that_of_float32_probabilities_between_their_bounds():
    torch.manual_seed(0)
    logits, labels = 8 * torch.randn(2000, 10), torch.arange(2000) % 10
    p = np.exp(log_probabilities(logits.double().numpy())).astype(np.float32)
    own = np.clip(p[np.arange(2000), labels], np.float32(1e-7), np.float32(1 - 1e-7))
    assert (own == np.float32(1e-7)).any() and (own == np.float32(1 - 1e-7)).any()
    np.testing.assert_allclose(losses.clipped(logits, labels), -np.log(own), rtol=1e-5, atol=2e-7)


def test_the_ratio_of_logit_differences_does_not_change_with_their_scale():
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 10, dtype=torch.float64), torch.arange(50) % 10
    torch.testing.assert_close(losses.dlr(1e6 * logits + 7, labels), losses.dlr(logits, labels))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("labels", [[0], [0, 1], [[0], [1], [2]]])
def test_each_row_has_a_label_of_its_own(name, labels):
    message = r"labels have shape \(.*\); give one per row of the logits: \(3,\)"
    with pytest.raises(ValueError, match=message):
        losses.LOSSES[name](torch.rand(3, 4), torch.tensor(labels))


def test_the_ratio_needs_a_third_class():
    with pytest.raises(ValueError, match=r"the model has 2 classes.*use loss='margin'"):
        attacks.fgsm(make_linear(2), torch.rand(2, 12).double(), eps=0.1, loss="dlr")


def test_a_loss_may_be_a_callable(precise_cnn, few):
    def minus_own(logits: Tensor, labels: Tensor) -> Tensor:
        return -logits.gather(1, labels.unsqueeze(1)).squeeze(1)

    x, y = few
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(precise_cnn(leaf).gather(1, y.unsqueeze(1)).sum(), leaf)
    found = attacks.fgsm(precise_cnn, x, y, eps=0.1, loss=minus_own)
    torch.testing.assert_close(found, (x - 0.1 * gradient.sign()).clamp(0, 1))


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.bim, attacks.pgd, attacks.apgd])
@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (
            lambda logits, labels: logits,
            ValueError,
            r"shape \(4, 4\) for 4 images; it must give one number per",
        ),
        (lambda logits, labels: (logits.sum(1), labels), TypeError, "the loss gives a tuple"),
    ],
)
def test_a_loss_that_is_not_one_of_each_image_is_refused(attack, loss, error, message):
    with pytest.raises(error, match=message):
        attack(make_linear(4), torch.rand(4, 12).double(), eps=0.1, loss=loss)


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd])
def test_a_mean_over_the_batch_can_not_tell_its_images_apart(attack):
    with pytest.raises(
        ValueError, match=r"neither summed nor averaged, such as cross_entropy\(..., reduction='none'"
    ):
        attack(make_linear(4), torch.rand(4, 12).double(), eps=0.1, loss=F.cross_entropy)


def test_a_mean_over_the_batch_has_the_signs_of_its_images(precise_cnn, few):
    of_each = attacks.bim(precise_cnn, *few, eps=0.1, iterations=3)
    assert torch.equal(attacks.bim(precise_cnn, *few, eps=0.1, iterations=3, loss=F.cross_entropy), of_each)


def test_an_unknown_loss_is_refused_with_those_that_there_are():
    with pytest.raises(
        ValueError, match="loss is 'cw'; choose one of ce, clipped, margin, dlr, or give a callable"
    ):
        attacks.pgd(make_linear(3), torch.rand(2, 12).double(), eps=0.1, loss="cw")


# ---- "ce": the sign that float64 gives ----


def test_the_smallest_image_whose_gradient_float32_loses():
    """Two logits, 20a + 60b and 10a - b: at [.5, .5] the gap is 35.5, so that p rounds to 1."""
    weight = torch.tensor([[20.0, 60.0], [10.0, -1.0]])
    found = attacks.fgsm(lambda images: images @ weight.T, torch.tensor([[0.5, 0.5]]), eps=0.1)
    torch.testing.assert_close(found, torch.tensor([[0.4, 0.4]]))


@pytest.mark.parametrize("scale", [1, 30, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_linear_model_is_attacked_in_float32_as_in_float64(classes, scale):
    model = make_linear(classes, seed=classes)
    with torch.no_grad():
        model.weight *= scale
    x = torch.rand(200, 12, generator=torch.Generator().manual_seed(0)).double() * 0.8 + 0.1
    gradient = gradient_in_float64(model, x)
    found = attacks.fgsm(copy.deepcopy(model).float(), x.float(), eps=0.1)
    decided = gradient.abs() > 1e-4 * gradient.abs().amax(
        1, keepdim=True
    )  # the rest is rounding in the weights
    assert decided.double().mean() > 0.99
    assert torch.equal((found - x.float()).sign()[decided], gradient.sign().float()[decided])


@pytest.mark.parametrize("factor", [1, 10, 1e3, 1e5])
def test_a_sure_network_is_attacked_in_float32_as_in_float64(factor, trained_cnn, precise_cnn, digits):
    x = digits.images[:200]
    gradient = gradient_in_float64(scaled(precise_cnn, factor), x.double())
    found = attacks.fgsm(scaled(trained_cnn, factor), x, eps=0.3)
    inside = (x > 0) & (x < 1)  # else the box may hide the step
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    decided = inside & (gradient.abs() > 1e-4 * largest)
    assert decided.sum() > 5000
    assert torch.equal((found - x).sign()[decided], gradient.sign().float()[decided])


def gradient_in_float64(model, x: Tensor) -> Tensor:
    """A positive multiple of the gradient of the cross-entropy ``log(1 + sum of exp(other - own))``, by hand."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    own = logits.argmax(1, keepdim=True)
    gaps = logits - logits.gather(1, own)
    others = gaps.masked_fill(torch.zeros_like(gaps, dtype=torch.bool).scatter(1, own, True), -torch.inf)
    weights = (others - others.amax(1, keepdim=True)).exp().detach()  # p of the others, up to a factor
    total = (weights / weights.sum(1, keepdim=True) * gaps).sum()
    return torch.autograd.grad(total, leaf)[0]


def test_a_thousandfold_sure_network_is_no_more_robust(trained_cnn, digits):
    x, y = digits.first(200)
    run = {"eps": 0.3, "iterations": 30}
    plain = accuracy(trained_cnn, attacks.bim(trained_cnn, x, **run), y)
    sure = accuracy(trained_cnn, attacks.bim(scaled(trained_cnn, 1000), x, **run), y)
    assert sure <= plain + 5 and sure < accuracy(trained_cnn, x, y) - 60


# ---- "clipped": images that can't be attacked ----

GAPS = (-120.0, -30.0, -17.0, -15.0, -3.0, 0.0, 3.0, 14.0, 15.5, 17.0, 30.0, 120.0)


def clipped_fgsm_in_numpy(weight: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, eps: float):
    """FGSM on the clipped float32 probabilities of a linear model, and which images have a gradient."""
    logits = x @ weight.T + bias
    unnormalised = np.exp(logits - logits.max(1, keepdims=True))
    p = unnormalised / unnormalised.sum(1, keepdims=True)
    own = p[np.arange(len(y)), y]
    alive = (own >= np.float32(1e-7)) & (own <= np.float32(1 - 1e-7))
    gradient = (p - np.eye(p.shape[1], dtype=np.float32)[y]) @ weight * alive[:, None]
    return np.clip(x + np.float32(eps) * np.sign(gradient), 0, 1), alive


def test_clipped_attacks_return_sure_images_unchanged_and_say_how_many():
    """The first pixel sets the gap between the two logits, from -120 to 120, of which both ends are clipped."""
    weight, bias = np.array([[300, 2, -3], [0, 4, 2]], np.float32), np.array([-150, 0], np.float32)
    x = np.tile(np.array([0.5, 0.5, 0.5], np.float32), (len(GAPS), 1))
    x[:, 0] += (np.array(GAPS) + 3.5) / 300
    y = np.zeros(len(GAPS), np.int64)
    expected, alive = clipped_fgsm_in_numpy(weight, bias, x, y, 0.1)
    assert list(alive) == [-16 < gap < 16 for gap in GAPS]

    def model(images: Tensor) -> Tensor:
        return images @ torch.from_numpy(weight).T + torch.from_numpy(bias)

    asked = (model, torch.from_numpy(x), torch.from_numpy(y))
    with pytest.warns(attacks.UnmovedWarning, match=f"^{(~alive).sum()} of {len(GAPS)} images were not"):
        found = attacks.fgsm(*asked, eps=0.1, loss="clipped")
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert ((found.numpy() == x).all(1) == ~alive).all()
    exact = attacks.fgsm(*asked, eps=0.1)
    assert (exact.numpy() != x).any(1).all()


def test_clipped_attacks_on_a_sure_network_are_those_of_float32_probabilities(trained_cnn, digits):
    """The digits' own logits, threefold: a part of the images has no gradient, and only these stay."""
    model, (x, _) = scaled(trained_cnn, 3), digits.first(200)
    with torch.no_grad():
        logits = model(x).numpy()
    unnormalised = np.exp(logits - logits.max(1, keepdims=True))
    p = (unnormalised / unnormalised.sum(1, keepdims=True)).max(1)
    near = np.isclose(p, 1 - 1e-7, rtol=0, atol=1.2e-7)  # rounding may decide either way
    sure = p > np.float32(1 - 1e-7)
    with pytest.warns(attacks.UnmovedWarning) as warned:
        found = attacks.bim(model, x, eps=0.1, iterations=3, loss="clipped")
    still = (found == x).flatten(1).all(1).numpy()
    assert (still == sure)[~near].all() and 20 < still.sum() < 180
    assert str(warned[0].message).startswith(f"{still.sum()} of 200 images")
    assert "loss='ce'" in str(warned[0].message)


def test_nothing_is_said_where_every_image_moves(precise_cnn, few, recwarn):
    attacks.bim(scaled(precise_cnn, 1000), few[0], eps=0.1, iterations=2)
    attacks.fgsm(precise_cnn, few[0], eps=0.0)  # without a budget an image stays, gradient or not
    assert not [warning for warning in recwarn if warning.category is attacks.UnmovedWarning]


def test_the_margin_is_what_numpy_gives_image_by_image(precise_cnn, few):
    x, y = few
    with torch.no_grad():
        found = losses.margin(precise_cnn(x), y)
    np.testing.assert_allclose(found, margin_of(precise_cnn, x, y))
