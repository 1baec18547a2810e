"""What attacks differentiate in place of a quantizer: values, gradients by hand, and that each breaks a layer."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from attacking import accuracy
from conftest import small_q_net
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.attacks import surrogates
from qlayer_core.layer import QLayer
from qlayer_core.models import QNet

THROUGH = {
    "straight-through": surrogates.straight_through,
    "soft": surrogates.soft(0.05),
    "soft, hard answers": surrogates.soft(0.05, hard=True),
    "latent": surrogates.latent,
    "latent, two runners-up": partial(surrogates.latent, runners_up=2),
}
ROUND = {"e": surrogates.e, "shortcut": surrogates.shortcut, "ensemble": surrogates.ensemble}
ALL = THROUGH | ROUND
JUDGED = {f"{name}, judged": lambda net, of=of: surrogates.judged(net, of(net)) for name, of in ROUND.items()}
ALL |= JUDGED
WITH_THE_Q_PATHS_ANSWER = (
    "straight-through",
    "soft, hard answers",
    "latent",
    "latent, two runners-up",
    *JUDGED,
)
EVERY = pytest.mark.parametrize("name", ALL)


@pytest.fixture(scope="module")
def tiny() -> QNet:
    """One panel of two numbers per image, three codes, no gate, linear tails, in float64."""
    torch.manual_seed(0)
    net = QNet(nn.Identity(), QLayer(2, codebook_size=3, gate=False), *(_linear_tail() for _ in range(2)))
    net.layer.codebook.data = torch.tensor([[[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]]])
    return net.double().eval()


def _linear_tail() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 4))


def panels_of(n: int = 50) -> Tensor:
    return torch.rand(n, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_that_differences_agree(model, x: Tensor, expected: Tensor, h: float = 1e-6) -> None:
    """Central differences of the first logit."""
    for i in range(2):
        step = torch.zeros_like(x)
        step[:, i] = h
        slope = (model(x + step)[:, 0] - model(x - step)[:, 0]) / (2 * h)
        torch.testing.assert_close(expected[:, i, 0, 0], slope, rtol=1e-5, atol=1e-7)


def gradient(model, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]


# ---- values ----


@pytest.mark.parametrize("name", WITH_THE_Q_PATHS_ANSWER)
@pytest.mark.parametrize("number_format", [torch.float64, torch.float32, torch.bfloat16])
def test_its_answer_is_exactly_that_of_the_quantized_path(number_format, name, few):
    torch.manual_seed(0)
    net, x = small_q_net().to(number_format).eval(), few[0].to(number_format)
    assert torch.equal(ALL[name](net)(x), net(x))


def test_the_paths_and_their_ensemble(few):
    torch.manual_seed(0)
    net, x = small_q_net().double().eval(), few[0]
    assert torch.equal(surrogates.e(net)(x), net(x, path="e"))
    assert torch.equal(surrogates.shortcut(net)(x), net(x, path="shortcut"))
    torch.testing.assert_close(surrogates.ensemble(net)(x), (net(x) + net(x, path="e")) / 2)


def test_a_network_of_one_tail_has_an_ensemble_as_well(tiny):
    shared = QNet(tiny.encoder, tiny.layer, tiny.tail_q)
    x = panels_of()
    torch.testing.assert_close(surrogates.ensemble(shared)(x), (shared(x) + shared(x, path="e")) / 2)


def test_soft_assignment_in_numpy(tiny):
    x = panels_of()
    codes = tiny.layer.codebook[0].detach().numpy()
    squared = ((x.numpy()[:, None, :, 0, 0] - codes) ** 2).sum(-1)
    for temperature in (0.01, 0.3, 10.0):
        weights = np.exp(-squared / temperature)
        mixture = weights / weights.sum(1, keepdims=True) @ codes
        expected = tiny.tail_q(torch.from_numpy(mixture)[..., None, None])
        torch.testing.assert_close(surrogates.soft(temperature)(tiny)(x), expected)


def test_soft_assignment_goes_to_the_quantized_path_and_to_the_mean_code(few):
    torch.manual_seed(0)
    net, x = small_q_net(heads=3).double().eval(), few[0]
    away = [(surrogates.soft(temperature)(net)(x) - net(x)).abs().max() for temperature in (1e-2, 1e-5, 1e-9)]
    assert away[0] > away[1] >= away[2] and away[2] < 1e-6
    even = net.layer.codebook.mean(1).flatten().view(1, -1, 1, 1).expand(len(x), -1, 8, 8)
    torch.testing.assert_close(surrogates.soft(1e9)(net)(x), net.tail_q(even), rtol=0, atol=1e-6)


# ---- gradients ----


def test_soft_assignments_gradient_is_its_slope(tiny):
    x, model = panels_of(), surrogates.soft(0.2)(tiny)
    assert_that_differences_agree(model, x, gradient(model, x))
    torch.testing.assert_close(gradient(surrogates.soft(0.2, hard=True)(tiny), x), gradient(model, x))


def test_the_straight_gradient_is_that_of_the_tail_at_the_chosen_code(tiny):
    """The tail is linear: the gradient is its first row, whatever the code."""
    x = panels_of()
    row = tiny.tail_q[1].weight[0].detach()
    torch.testing.assert_close(gradient(surrogates.straight_through(tiny), x).flatten(1), row.expand(50, 2))


def test_the_latent_gradient_exchanges_the_chosen_code_for_the_runner_up(tiny):
    """d logit / d x = - (row . (runner-up - chosen)) * d log(gap + a little) / d x, by hand."""
    x = panels_of()
    codes, points = tiny.layer.codebook[0].detach().numpy(), x.numpy()[:, :, 0, 0]
    row = tiny.tail_q[1].weight[0].detach().numpy()
    squared = ((points[:, None] - codes) ** 2).sum(-1)
    order = squared.argsort(1)
    chosen, runner_up = codes[order[:, 0]], codes[order[:, 1]]
    gap = np.take_along_axis(squared, order, 1)[:, 1] - squared.min(1)
    slope_of_gap = 2 * (chosen - runner_up)  # of |x - r|^2 - |x - c|^2
    worth = (runner_up - chosen) @ row
    expected = -worth[:, None] * slope_of_gap / (gap + surrogates.NEAR * gap.mean())[:, None]
    found = gradient(surrogates.latent(tiny), x).flatten(1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_several_runners_up_pull_together(tiny):
    """With all three codes the gradient is the sum of what either of the two others would pull alone."""
    x = panels_of()
    codes, points = tiny.layer.codebook[0].detach().numpy(), x.numpy()[:, :, 0, 0]
    row = tiny.tail_q[1].weight[0].detach().numpy()
    squared = ((points[:, None] - codes) ** 2).sum(-1)
    order = squared.argsort(1)
    sorted_codes, sorted_squares = codes[order], np.take_along_axis(squared, order, 1)
    little = surrogates.NEAR * (sorted_squares[:, 1] - sorted_squares[:, 0]).mean()
    expected = np.zeros_like(points)
    for i in (1, 2):
        exchange, gap = sorted_codes[:, i] - sorted_codes[:, 0], sorted_squares[:, i] - sorted_squares[:, 0]
        expected += 2 * (exchange @ row / (gap + little))[:, None] * exchange
    for count in (2, 9):  # there are no more than two
        found = gradient(surrogates.latent(tiny, count), x).flatten(1)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="runners_up is 0; it must be at least 1"):
        surrogates.latent(tiny, 0)
    alone = QNet(nn.Identity(), QLayer(2, codebook_size=1), nn.Flatten())
    with pytest.raises(ValueError, match="one code per head, so no panel has a runner-up"):
        surrogates.latent(alone)


@pytest.mark.parametrize("name", JUDGED)
def test_who_is_judged_keeps_its_own_gradient(tiny, name):
    x, alone = panels_of(), name.removesuffix(", judged")
    assert torch.equal(gradient(ALL[name](tiny), x), gradient(ALL[alone](tiny), x))


def test_only_images_get_a_gradient_from_the_mixture(tiny):
    for name in THROUGH:
        logits = ALL[name](tiny)(panels_of().requires_grad_())
        found = torch.autograd.grad(logits.sum(), tiny.layer.codebook, allow_unused=True)[0]
        assert found is None, name


def test_the_typical_gap_is_a_median(tiny):
    x = panels_of(51)
    squared = ((x.numpy()[:, None, :, 0, 0] - tiny.layer.codebook[0].detach().numpy()) ** 2).sum(-1)
    squared.sort(1)
    assert surrogates.typical_gap(tiny, x) == pytest.approx(np.median(squared[:, 1] - squared[:, 0]))


# ---- refusals ----


def test_one_code_leaves_no_gap():
    alone = QNet(nn.Identity(), QLayer(2, codebook_size=1), nn.Flatten()).eval()
    with pytest.raises(ValueError, match="one code per head, so no panel has a runner-up, nor a gap"):
        surrogates.typical_gap(alone, torch.rand(3, 2, 1, 1))


@EVERY
def test_a_plain_network_needs_none(name, trained_cnn):
    with pytest.raises(TypeError, match="a Sequential without a Q-Layer: attack it as it is"):
        ALL[name](trained_cnn)


def test_a_temperature_is_positive():
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"temperature is .*; it must be greater than 0"):
            surrogates.soft(temperature)


# ---- a layer put into a trained network, untrained for it ----


def put_in(net: nn.Sequential, images: Tensor, seed: int) -> QNet:
    """``net`` with 64 codes in front of its last layer, k-means on its features; both tails are its own."""
    encoder, tail = net[:4], net[4:]
    layer = QLayer(16, codebook_size=64, gate=False, start="k-means")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        layer.train()(encoder(images))
    return QNet(encoder, copy.deepcopy(layer), tail, tail).eval()


@pytest.fixture(scope="module")
def with_layer(trained_cnn: nn.Sequential, train_digits) -> QNet:
    """`trained_cnn` with a layer."""
    return put_in(trained_cnn, train_digits.images[:1000], seed=0)


@pytest.fixture(scope="module")
def with_another(trained_cnn: nn.Sequential, train_digits) -> QNet:
    """`trained_cnn` with a layer of other codes: k-means starts elsewhere."""
    return put_in(trained_cnn, train_digits.images[:1000], seed=1)


def test_the_layer_put_in_afterwards_hides_the_gradient_and_costs_little(with_layer, trained_cnn, digits):
    x, y = digits.first(200)
    assert accuracy(with_layer, x, y) > accuracy(trained_cnn, x, y) - 15
    with pytest.raises(ValueError, match="no gradient in the images"):
        attacks.fgsm(with_layer, x, eps=0.3)


def assert_broken(net: QNet, found: Tensor, x: Tensor, y: Tensor) -> None:
    """Of the images found within 0.3 few are right, and of such with random noise of the same size most."""
    assert (found - x).abs().max() <= 0.3 + 1e-6
    noise = (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    assert accuracy(net, found, y) < 15
    assert accuracy(net, noise, y) > 40


@EVERY
def test_every_surrogate_breaks_it(name, with_layer, digits):
    x, y = digits.first(100)
    surrogate = ALL[name](with_layer)
    found = attacks.pgd(surrogate, x, y, eps=0.3, step=0.05, iterations=20, loss="margin", keep_best=True)
    assert_broken(with_layer, found, x, y)


BREAKS = {
    "fgsm": attacks.fgsm,
    "bim": partial(attacks.bim, step=0.05, iterations=20),
    **{f"apgd, {loss}": partial(attacks.apgd, iterations=15, loss=loss) for loss in ("ce", "dlr", "margin")},
    "apgd towards each class": partial(attacks.apgd_targeted, iterations=5),
}


@pytest.mark.parametrize("attack", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("name", ["e", "shortcut, judged"])
def test_every_attack_along_a_gradient_breaks_it_on_a_road_round_the_codes(name, attack, with_layer, digits):
    x, y = digits.first(100)
    assert_broken(with_layer, attack(ALL[name](with_layer), x, y, eps=0.3), x, y)


@pytest.mark.parametrize("attack", [name for name in BREAKS if name.startswith("apgd")])
@pytest.mark.parametrize("runners_up", [1, 2])
def test_auto_pgd_breaks_it_through_the_runner_up_codes(runners_up, attack, with_layer, digits):
    x, y = digits.first(100)
    surrogate = surrogates.latent(with_layer, runners_up)
    assert_broken(with_layer, BREAKS[attack](surrogate, x, y, eps=0.3), x, y)
    mean = attacks.averaged(surrogate, 0.05, draws=2)
    assert_broken(with_layer, BREAKS[attack](mean, x, y, eps=0.3), x, y)


def test_a_search_without_gradients_breaks_it(with_layer, digits):
    x, y = digits.first(100)
    assert_broken(with_layer, attacks.square(with_layer, x, y, eps=0.3, queries=500), x, y)


@pytest.mark.parametrize("name", ["straight-through", "latent", "latent, two runners-up"])
def test_images_made_on_other_codes_break_it(name, with_layer, with_another, digits):
    x, y = digits.first(100)
    codes = (net.layer.codebook[0] for net in (with_layer, with_another))
    assert torch.cdist(*codes).min() > 0.1  # none is the same
    found = attacks.apgd(ALL[name](with_another), x, y, eps=0.3, iterations=15, loss="margin")
    assert_broken(with_layer, found, x, y)


def test_another_networks_images_are_weaker_but_no_noise(with_layer, digits):
    """The plain network before the layer was put in is the attacker's; transfer needs no surrogate function."""
    x, y = digits.first(100)
    twin = nn.Sequential(with_layer.encoder, with_layer.tail_q).eval()
    found = attacks.apgd(twin, x, y, eps=0.3, iterations=15, loss="margin")
    assert accuracy(with_layer, found, y) < 40


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "apgd", "cw_linf", "square"])
@EVERY
def test_any_attack_takes_any_surrogate(name, attack, with_layer, digits):
    given = {"fgsm": {}, "square": {"queries": 20}, "cw_linf": {"learning_rate": 64.0}}
    options = given.get(attack, {"iterations": 2})
    x = digits.images[:8]
    found = getattr(attacks, attack)(ALL[name](with_layer), x, eps=0.3, **options)
    assert (found - x).abs().max() <= 0.3 + 1e-6
    assert (found != x).flatten(1).any(1).sum() >= (1 if attack == "cw_linf" else 8)


# ---- a mean gradient ----


def _wavy(images: Tensor) -> Tensor:
    """It rises by 3, with waves on top: at pi / 200 its own slope is -17."""
    return (3 * images + 0.1 * (200 * images).sin()).repeat(1, 2)


def test_the_mean_gradient_leads_where_the_model_goes_beyond_its_waves():
    x = torch.full((1, 1), torch.pi / 200, dtype=torch.float64, requires_grad=True)
    answers, slopes = {}, {}
    for name, model in {"own": _wavy, "mean": attacks.averaged(_wavy, 0.1, draws=400)}.items():
        answers[name] = model(x)
        (slopes[name],) = torch.autograd.grad(answers[name][:, 0].sum(), x)
    torch.testing.assert_close(answers["mean"], answers["own"], rtol=0, atol=1e-12)
    assert slopes["own"] == pytest.approx(-17) and slopes["mean"] == pytest.approx(3, abs=2)


def test_the_mean_gradient_asks_once_where_none_is_wanted_and_draws_the_same_each_time():
    asked = []

    def model(images: Tensor) -> Tensor:
        asked.append(images.detach())
        return _wavy(images)

    x = torch.full((2, 1), 0.4, dtype=torch.float64)
    with torch.no_grad():
        attacks.averaged(model, 0.1)(x)
    assert len(asked) == 1
    asked.clear()
    for _ in range(2):
        attacks.averaged(model, 0.1, draws=3)(x.requires_grad_())
    assert len(asked) == 6 and torch.equal(asked[1], asked[4]) and not torch.equal(asked[1], asked[2])


@pytest.mark.parametrize(
    "wrong, value", [("spread", 0), ("spread", float("inf")), ("draws", 0), ("draws", 2.5)]
)
def test_a_neighbourhood_has_a_size(wrong, value):
    with pytest.raises(ValueError, match=f"{wrong} is {value}; it must be"):
        attacks.averaged(_wavy, **({"spread": 0.1} | {wrong: value}))
