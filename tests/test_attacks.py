"""The attacks against closed forms, the Adversarial Robustness Toolbox, and the C&W rules taken literally."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import small_cnn, small_q_net
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qlayer_core import attacks

ATTACKS = {
    "fgsm": attacks.fgsm,
    "bim": partial(attacks.bim, step=0.05, iterations=5),
    "pgd": partial(attacks.pgd, step=0.05, iterations=5, restarts=2),
    "pgd on the margin": partial(attacks.pgd, step=0.05, iterations=5, loss="margin"),
    "cw": partial(attacks.cw_linf, learning_rate=0.5, iterations=3),
}
EACH = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@pytest.fixture(scope="module")
def precise_cnn(trained_cnn: nn.Sequential) -> nn.Sequential:
    """`trained_cnn` in float64; don't change it."""
    model = small_cnn().double()
    model.load_state_dict(trained_cnn.state_dict())
    return model.eval()


@pytest.fixture(scope="module")
def few(digits) -> tuple[Tensor, Tensor]:
    """40 digits in float64 and their classes."""
    return digits.images[:40].double(), digits.labels[:40]


def make_linear(classes: int, seed: int = 0) -> nn.Linear:
    """A linear model of 12 pixels in float64."""
    torch.manual_seed(seed)
    return nn.Linear(12, classes).double().eval()


def make_pixels(n: int = 20) -> Tensor:
    """Pixels in [0, 1], with both ends among them."""
    return (torch.rand(n, 12, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)


def margin_of(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> np.ndarray:
    """The best other logit minus the label's, one image at a time."""
    logits = model(x).detach().numpy()
    return np.array([np.delete(row, label).max() - row[label] for row, label in zip(logits, y, strict=True)])


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
    towards = (model.weight[1 - y] - model.weight[y]).detach()
    best = torch.where(towards > 0, (x + 0.2).clamp(max=1), (x - 0.2).clamp(min=0))
    torch.testing.assert_close(attack(model, x, y, eps=0.2), best, rtol=0, atol=1e-12)


def test_bim_goes_as_far_as_its_steps():
    model, x = make_linear(2), make_pixels()
    y = torch.zeros(20, dtype=torch.int64)
    direction = (model.weight[1] - model.weight[0]).detach().sign()
    found = attacks.bim(model, x, y, eps=0.2, step=0.01, iterations=7)
    torch.testing.assert_close(found, (x + 0.07 * direction).clamp(0, 1), rtol=0, atol=1e-12)


def test_the_losses_in_closed_form():
    logits = torch.tensor([[2.0, 5.0, 3.0], [1.0, 0.0, 1.0]])
    labels = torch.tensor([0, 2])
    assert attacks.margin(logits, labels).tolist() == [3.0, 0.0]
    expected = torch.logsumexp(logits, 1) - logits[[0, 1], labels]
    torch.testing.assert_close(attacks.cross_entropy(logits, labels), expected)


# ---- the contract ----


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    eps=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-6, 0.3, 1.0])),
    name=st.sampled_from(list(ATTACKS)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    contrast=st.sampled_from([1.0, 1.5, 100.0]),  # the larger, the more pixels are exactly 0 or 1
)
def test_images_stay_within_eps_and_in_range_on_random_networks(seed, eps, name, dtype, contrast):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 4)).to(dtype).eval()
    with torch.no_grad():
        model[3].weight *= 10 ** torch.empty(1).uniform_(-3, 3).item()  # flat and steep alike
    x = ((torch.rand(5, 1, 6, 6, dtype=dtype) - 0.5) * contrast + 0.5).clamp(0, 1)
    found = ATTACKS[name](model, x, eps=eps)
    assert found.shape == x.shape and found.dtype == dtype
    assert found.min() >= 0 and found.max() <= 1
    assert (found - x).abs().max() <= eps + 1e-6
    if eps == 0:
        assert torch.equal(found, x)


@EACH
def test_it_fools_the_network_and_without_labels_attacks_its_own_predictions(attack, precise_cnn, few):
    x, truth = few
    own = precise_cnn(x).argmax(1)
    found = attack(precise_cnn, x, eps=0.3)
    assert (precise_cnn(found).argmax(1) != own).float().mean() > 0.3
    assert torch.equal(found, attack(precise_cnn, x, own, eps=0.3))
    others = (truth + 1) % 10
    assert not torch.equal(found, attack(precise_cnn, x, others, eps=0.3))


@EACH
def test_the_models_gradients_and_mode_and_the_input_stay_untouched(attack, few):
    x = few[0][:4].clone().requires_grad_()
    x.grad = torch.full_like(x, 7)
    before = x.detach().clone()
    torch.manual_seed(0)
    model = small_q_net().double().eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    usage = model.layer.usage.clone()
    first, *others = model.parameters()
    first.grad = torch.ones_like(first)
    random_state = torch.get_rng_state()

    found = attack(partial(model, path="e"), x, eps=0.1)

    assert torch.equal(x.detach(), before) and x.requires_grad and (x.grad == 7).all()
    assert not found.requires_grad and found.data_ptr() != x.data_ptr()
    assert (first.grad == 1).all() and all(tensor.grad is None for tensor in others)
    assert all(tensor.requires_grad for tensor in model.parameters())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(model.layer.usage, usage)
    assert not any(module.training for module in model.modules())
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("name", ["fgsm", "bim", "cw"])
def test_the_batch_size_changes_nothing(name, precise_cnn, few):
    together = ATTACKS[name](precise_cnn, few[0], eps=0.2)
    in_batches = ATTACKS[name](precise_cnn, few[0], eps=0.2, batch_size=7)
    torch.testing.assert_close(in_batches, together)
    assert ATTACKS[name](precise_cnn, few[0][:0], eps=0.2).shape == (0, 1, 28, 28)


@pytest.mark.parametrize("path", ["e", "shortcut", "straight-through"])
def test_every_path_with_a_gradient_can_be_attacked(path, few):
    torch.manual_seed(0)
    model, x = partial(small_q_net().double().eval(), path=path), few[0]
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    assert leaf.grad.any()
    expected = (x + 0.1 * leaf.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(attacks.fgsm(model, x, eps=0.1), expected)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_quantized_path_without_gradient_is_no_silent_success(frozen, few):
    net = small_q_net().double().eval().requires_grad_(not frozen)
    for attack in ATTACKS.values():
        with pytest.raises(ValueError, match=r"no gradient in the images.*partial\(net, path='e'\)"):
            attack(net, few[0], eps=0.1)


def test_a_learning_rate_may_be_an_integer(precise_cnn, few):
    found = [attacks.cw_linf(precise_cnn, *few, eps=0.2, learning_rate=rate) for rate in (1, 1.0)]
    assert torch.equal(*found) and not torch.equal(found[0], few[0])


@pytest.mark.parametrize("attack", ATTACKS)
def test_bfloat16_attacks_keep_the_images_format_and_bounds(attack, trained_cnn, digits, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    x = digits.images[:40]
    found = ATTACKS[attack](trained_cnn, x, eps=0.3)
    assert found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 and (found - x).abs().max() <= 0.3 + 1e-6
    assert (trained_cnn(found).argmax(1) != trained_cnn(x).argmax(1)).float().mean() > 0.3


class BadInput(NamedTuple):
    """One way to break the contract, and what the error says."""

    error: type[Exception]
    message: str
    images: Tensor = torch.full((2, 12), 0.5, dtype=torch.float64)
    labels: Tensor | None = None
    eps: float = 0.1


def image_with(value: float) -> Tensor:
    images = BadInput._field_defaults["images"].clone()
    images[1, 3] = value
    return images


BAD_INPUT = {
    "NaN": BadInput(ValueError, r"must lie in \[0, 1\] and hold no NaN", image_with(float("nan"))),
    "below 0": BadInput(
        ValueError, r"images range from -0.01 to 0.5; they must lie in \[0, 1\]", image_with(-0.01)
    ),
    "above 1": BadInput(
        ValueError, r"images range from 0.5 to 1.01; they must lie in \[0, 1\]", image_with(1.01)
    ),
    "infinite": BadInput(ValueError, r"images range from 0.5 to inf", image_with(float("inf"))),
    "bytes": BadInput(
        TypeError, "dtype torch.uint8; convert them to floats", torch.zeros(2, 12, dtype=torch.uint8)
    ),
    "negative eps": BadInput(ValueError, r"eps is -0.1; it must lie in \[0, 1\]", eps=-0.1),
    "eps of bytes": BadInput(ValueError, r"eps is 51; .*in units of the pixel range", eps=51),
    "eps NaN": BadInput(ValueError, r"eps is nan; it must lie in \[0, 1\]", eps=float("nan")),
    "too few labels": BadInput(
        ValueError, r"labels have shape \(1,\).*shape \(2,\)", labels=torch.zeros(1).long()
    ),
    "labels in a column": BadInput(
        ValueError, r"labels have shape \(2, 1\)", labels=torch.zeros(2, 1).long()
    ),
    "a class too many": BadInput(
        ValueError, "labels run from 0 to 12; the model has classes 0 to 2", labels=torch.tensor([0, 12])
    ),
    "a negative class": BadInput(ValueError, "labels run from -1 to 1; ", labels=torch.tensor([-1, 1])),
    "float labels": BadInput(ValueError, "dtype torch.float32; give one int64 class", labels=torch.zeros(2)),
}


@EACH
@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_refused(case, attack):
    with pytest.raises(case.error, match=case.message):
        attack(make_linear(3), case.images, case.labels, eps=case.eps)


@EACH
def test_a_model_in_training_mode_is_refused_also_inside_partial(attack, few):
    x = few[0][:2]
    plain, with_layer = small_cnn().double(), small_q_net().double()
    for model in (plain, partial(with_layer, path="e"), partial(partial(with_layer), path="e")):
        with pytest.raises(ValueError, match=r"training mode.*call model\.eval\(\) first"):
            attack(model, x, eps=0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss": "cw"}, "loss is 'cw'; choose one of ce, margin"),
        ({"restarts": 0}, "restarts is 0; it must be at least 1"),
    ],
)
def test_impossible_pgd_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.pgd(make_linear(3), make_pixels(), eps=0.1, **options)


# ---- PGD ----


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_more_restarts_never_lower_the_loss_of_an_image(loss, precise_cnn, few):
    x, y = few
    run = partial(attacks.pgd, precise_cnn, x, y, eps=0.1, step=0.05, iterations=3, loss=loss)
    value = {
        n: attacks.LOSSES[loss](precise_cnn(run(restarts=n)), y).detach() for n in (1, 4)
    }  # the first start is the same: both draw from a generator with seed 0
    assert (value[4] >= value[1]).all() and (value[4] > value[1]).any()


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


def toolbox(model: nn.Module):
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu"
    )


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return 100 * (model(images).argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("eps", [0.2, 0.3])
def test_fgsm_agrees_with_the_toolbox(eps, trained_cnn, digits):
    from art.attacks.evasion import FastGradientMethod

    x, labels = digits
    ours = attacks.fgsm(trained_cnn, x, eps=eps)
    theirs = torch.from_numpy(
        FastGradientMethod(toolbox(trained_cnn), eps=eps, batch_size=128).generate(x.numpy())
    )
    assert abs(accuracy(trained_cnn, ours, labels) - accuracy(trained_cnn, theirs, labels)) <= 0.3
    assert accuracy(trained_cnn, ours, labels) < accuracy(trained_cnn, x, labels) - 20
    # Where the images differ, the gradient is zero up to rounding and its sign means nothing.
    y = trained_cnn(x).argmax(1)
    pixels = x.double().requires_grad_()
    precise = small_cnn().double()
    precise.load_state_dict(trained_cnn.state_dict())
    loss = nn.functional.cross_entropy(precise(pixels), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, pixels)
    share_of_largest = gradient.abs() / gradient.abs().amax((1, 2, 3), keepdim=True)
    differ = (ours - theirs).abs() > 1e-6
    assert differ.double().mean() < 0.001
    assert not differ.any() or share_of_largest[differ].max() < 1e-4


def test_bim_agrees_with_the_toolbox(trained_cnn, digits):
    from art.attacks.evasion import BasicIterativeMethod

    x, labels = digits
    steps = {"eps": 0.2, "iterations": 25, "step": 0.01}
    ours = attacks.bim(trained_cnn, x, **steps)
    attack = BasicIterativeMethod(
        toolbox(trained_cnn), eps=0.2, eps_step=0.01, max_iter=25, batch_size=128, verbose=False
    )
    theirs = torch.from_numpy(attack.generate(x.numpy()))
    assert abs(accuracy(trained_cnn, ours, labels) - accuracy(trained_cnn, theirs, labels)) <= 0.3
    assert ((ours - theirs).abs() > 1e-6).double().mean() < 0.001
    assert accuracy(trained_cnn, ours, labels) < accuracy(
        trained_cnn, attacks.fgsm(trained_cnn, x, eps=0.2), labels
    )


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


# ---- Carlini-Wagner: the rules one by one, one image at a time ----

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
