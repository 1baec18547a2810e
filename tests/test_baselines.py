"""Input quantizers: what each does to a value, what an adaptive attack sees of it, and networks behind it."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks, baselines, data, evaluation, models
from qlayer_core.attacks import UnmovedWarning
from qlayer_core.baselines import Defended
from qlayer_core.quantizers import (
    BitDepth,
    Encoding,
    MedianFilter,
    RandomDiscretization,
    Squeezing,
)
from qlayer_core.specs import Attack
from qlayer_core.study import crafting


@pytest.fixture
def images() -> Tensor:
    """Three digits."""
    return data.load("mnist", "test", limit=3).images


def linear(channels: int, seed: int = 0, side: int = 2) -> nn.Sequential:
    """A linear network of two classes on small images."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 2))


# ---- Values ----


def test_bit_depth_rounds_to_the_nearest_of_evenly_spaced_values(images):
    values = torch.tensor([0, 0.1, 0.2, 0.49, 0.51, 0.8, 1])
    assert BitDepth(1)(values).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert torch.allclose(BitDepth(2)(values) * 3, torch.tensor([0.0, 0, 1, 1, 2, 2, 3]))
    for bits in range(1, 9):
        squeezed = BitDepth(bits)(images)
        assert (squeezed - images).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
        assert torch.allclose(BitDepth(bits)(squeezed), squeezed)
        assert len(squeezed.unique()) <= 2**bits
    assert torch.allclose(BitDepth(8)(images), images)  # the files have no more


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_median_filter_is_scipys(images, size):
    expected = ndimage.median_filter(images.numpy(), size=(1, 1, size, size), mode="nearest")
    assert np.array_equal(MedianFilter(size)(images).numpy(), expected)


def test_the_median_filter_removes_single_pixels_and_keeps_edges():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4:] = 1
    dotted = image.clone()
    dotted[..., 2, 1] = 1
    assert torch.equal(MedianFilter(3)(dotted), image)


def test_squeezing_is_one_behind_the_other(images):
    assert torch.equal(Squeezing(2, 3)(images), MedianFilter(3)(BitDepth(2)(images)))


def test_encodings_are_those_of_their_definition():
    values = torch.tensor([0, 0.24, 0.25, 0.6, 1]).view(1, 1, 1, 5)
    one_hot, thermometer = (Encoding(4, thermometer=kind)(values)[0, :, 0].T for kind in (False, True))
    assert one_hot.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert thermometer.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_thermometer_keeps_distances_and_one_hot_forgets_them():
    values = torch.tensor([0.05, 0.15, 0.95]).view(3, 1, 1, 1)
    for thermometer, expected in ((False, [2.0, 2.0]), (True, [1.0, 9.0])):
        first, second, last = Encoding(10, thermometer=thermometer)(values).flatten(1)
        assert [(first - second).square().sum().item(), (first - last).square().sum().item()] == expected


def test_encodings_of_several_channels_stay_apart():
    colours = torch.rand(2, 3, 4, 4)
    found = Encoding(5)(colours).view(2, 3, 5, 4, 4)
    for channel in range(3):
        assert torch.equal(found[:, channel], Encoding(5)(colours[:, channel : channel + 1]))


def test_discretisation_takes_the_nearest_colour_of_the_noisy_value(images):
    quantizer = RandomDiscretization(3, sigma=0.3, seed=5).eval()
    quantizer.colours.copy_(torch.tensor([0.1, 0.3, 0.9]))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    noisy = (images + 0.3 * noise).numpy()
    colours = np.array([0.1, 0.3, 0.9], np.float32)
    expected = colours[abs(noisy[..., None] - colours).argmin(-1)]
    assert np.array_equal(quantizer(images).numpy(), expected)
    assert not torch.equal(quantizer(images), quantizer(images))  # every call draws anew
    first = quantizer(images)
    quantizer.reseed(5)
    assert np.array_equal(quantizer(images).numpy(), expected) and not torch.equal(first, quantizer(images))


def test_training_draws_as_dropout_does_and_evaluation_begins_with_the_same_draws(images):
    quantizer = RandomDiscretization(sigma=0.5)
    torch.manual_seed(3)
    first = quantizer.train()(images)
    torch.manual_seed(3)
    assert torch.equal(quantizer(images), first)  # so a continued training goes on as it would have
    answer = quantizer.eval()(images)
    assert not torch.equal(quantizer(images), answer)
    assert torch.equal(quantizer.eval()(images), answer)


def test_colours_are_the_centres_of_what_the_pixels_cluster_around():
    torch.manual_seed(0)
    centres = torch.tensor([0.0, 0.2, 0.5, 1.0])
    pixels = (centres[torch.randint(0, 4, (20, 1, 10, 10))] + 0.02 * torch.randn(20, 1, 10, 10)).clamp(0, 1)
    quantizer = RandomDiscretization(4)
    quantizer.learn(pixels)
    assert torch.allclose(quantizer.colours, centres, atol=0.02)
    nearest = quantizer.nearest(pixels)
    for colour in quantizer.colours:  # Lloyd's fixed point: each is the mean of its own pixels
        assert pixels[nearest == colour].mean().item() == pytest.approx(colour.item(), abs=1e-5)


def test_a_copy_of_a_random_network_draws_on_its_own(images):
    net = baselines.build("randomised").eval()
    twin = copy.deepcopy(net)
    assert torch.equal(net(images), twin(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BitDepth(0), "bits is 0"),
        (lambda: MedianFilter(0), "size is 0"),
        (lambda: Encoding(1), "levels is 1"),
        (lambda: RandomDiscretization(1), "colours is 1"),
        (lambda: baselines.build("blur"), "choose one of bit-depth"),
        (lambda: baselines.expectation(baselines.build("randomised"), 0), "draws is 0"),
        (lambda: baselines.soft(baselines.build("thermometer"), 0), "temperature is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- What an adaptive attack differentiates ----


@pytest.mark.parametrize("name", list(baselines.QUANTIZERS))
def test_the_straight_through_surrogate_answers_as_the_network_does(name, images):
    net = baselines.build(name).eval()
    answers = net(images)
    if name == "randomised":
        net.quantizer.reseed(0)
    assert torch.allclose(baselines.straight_through(net)(images), answers, atol=1e-5)


@pytest.mark.parametrize("quantizer", [BitDepth(1), RandomDiscretization(3, sigma=0.2)])
def test_straight_through_a_linear_network_the_gradient_is_its_weights(quantizer):
    net = Defended(quantizer, linear(1)).eval()
    weight = net.network[1].weight.detach()
    problem = attacks.Problem(
        baselines.straight_through(net), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), 0.1
    )
    gradient = problem.gradient(problem.x, "margin").flatten(1)
    assert torch.allclose(gradient, torch.stack([weight[1] - weight[0], weight[0] - weight[1]]))


def test_without_a_surrogate_an_attack_finds_nothing(images):
    net = baselines.build("bit-depth").eval()
    with pytest.warns(UnmovedWarning, match="3 of 3"):
        assert torch.equal(attacks.fgsm(net, images, eps=0.3), images)
    with pytest.raises(ValueError, match="no gradient in the images"):
        attacks.fgsm(baselines.build("thermometer").eval(), images, eps=0.3)
    for name in baselines.QUANTIZERS:
        net = baselines.build(name).eval()
        assert not torch.equal(attacks.fgsm(baselines.adaptive(net), images, eps=0.3), images)


@pytest.mark.parametrize("thermometer", [False, True])
def test_cold_soft_levels_are_hard_and_warm_ones_have_a_gradient(thermometer):
    encoding = Encoding(4, thermometer=thermometer)
    values = torch.tensor([0.05, 0.3, 0.7, 0.9]).view(1, 1, 2, 2).double()
    assert torch.allclose(encoding.soft(values, 1e-5), encoding(values), atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: encoding.soft(x, 0.05), values.requires_grad_())


def test_a_warm_thermometer_rises_with_the_value():
    encoding = Encoding(8)
    values = torch.linspace(0, 1, 50).view(50, 1, 1, 1)
    soft = encoding.soft(values, 0.02).flatten(1)
    assert (soft.diff(dim=0) > -1e-6).all() and (soft.sum(1).diff() > 0).all()


def test_the_expectation_is_the_mean_over_draws():
    net = Defended(RandomDiscretization(2, sigma=0.5), linear(1)).eval()
    images = torch.rand(4, 1, 2, 2)
    found = baselines.expectation(net, draws=8)(images)
    net.quantizer.reseed(0)
    assert torch.allclose(found, torch.stack([net(images) for _ in range(8)]).mean(0), atol=1e-6)
    # A value x of colours 0 and 1 is 1 with probability Phi((x - 0.5) / sigma): the mean answer is known exactly.
    shares = torch.special.ndtr((images - 0.5) / 0.5)
    many = baselines.expectation(net, draws=3000)(images)
    assert torch.allclose(many, net.network(shares), atol=0.05)


@pytest.mark.parametrize("quantizer", [Encoding(5, thermometer=False), Encoding(5), BitDepth(2)], ids=repr)
def test_ls_pga_finds_the_best_levels_of_a_linear_network(quantizer):
    channels = quantizer.levels if isinstance(quantizer, Encoding) else 1
    net = Defended(quantizer, linear(channels)).eval()
    images, labels, eps = (
        torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(1)),
        torch.arange(6) % 2,
        0.25,
    )
    found = baselines.ls_pga(net, images, labels, eps=eps, loss="margin")
    assert (found - images).abs().max() <= eps + 1e-6
    # Pixels count one by one: of each, all values within eps on a fine grid, the highest margin.
    weight = net.network[1].weight.detach().view(2, channels, 2, 2)
    for n, row, column in itertools.product(range(6), range(2), range(2)):
        towards = (weight[1] - weight[0])[:, row, column] * (1 if labels[n] == 0 else -1)
        low, high = ((images[n, 0, row, column] + side * eps).clamp(0, 1) for side in (-1, 1))
        values = torch.linspace(float(low), float(high), 400).view(-1, 1, 1, 1)
        gains = quantizer(values).flatten(1) @ towards
        gain = quantizer(found[n : n + 1, :, row : row + 1, column : column + 1]).flatten() @ towards
        assert gain == pytest.approx(gains.max().item(), abs=1e-5)


@pytest.mark.parametrize(
    "quantizer", [BitDepth(1), BitDepth(3), Squeezing(2), Encoding(16), Encoding(5)], ids=repr
)
def test_a_level_holds_what_lies_within_its_bounds_and_is_encoded_as_its_values_are(quantizer):
    level = torch.arange(quantizer.levels).view(-1, 1, 1, 1).expand(-1, 1, 3, 3)
    for values in quantizer.bounds(level):
        inside = values.clamp(0, 1)
        assert torch.equal(quantizer.level(inside), level)
        shares = F.one_hot(level, quantizer.levels).float()
        assert torch.allclose(quantizer.encode(shares), quantizer(inside))


class Together(nn.Module):
    """Class 1 if both of two pixels are white; from black, each alone leads away from it."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = images.flatten(1).T
        return torch.stack([torch.full_like(first, 0.5), 3 * first * second - first - second], 1)


def test_ls_pga_attacks_in_double_precision(images):
    net = Defended(BitDepth(1), linear(1)).double().eval()
    assert (
        baselines.ls_pga(net, torch.rand(2, 1, 2, 2).double(), eps=0.1, iterations=2).dtype == torch.float64
    )


def test_ls_pga_finds_levels_to_which_no_slope_leads():
    net = Defended(BitDepth(1), Together()).eval()
    images, label = torch.full((1, 1, 1, 2), 0.45), torch.tensor([0])
    along = attacks.bim(baselines.straight_through(net), images, label, eps=0.1)
    assert net(images).argmax(1) == net(along).argmax(1) == label
    assert net(baselines.ls_pga(net, images, label, eps=0.1)).argmax(1) != label


def test_ls_pga_wants_a_network_with_levels(images):
    for net in (baselines.build("randomised"), baselines.build("median")):
        with pytest.raises(TypeError, match="without a quantizer that has levels: use straight_through"):
            baselines.ls_pga(net.eval(), images, eps=0.1)


def test_a_cell_of_the_white_box_is_of_the_network_as_it_is_or_of_the_attack_that_fits(images):
    net = baselines.build("one-hot").eval()
    as_it_is = Attack("white-box", "bim", 0.2)
    assert torch.equal(crafting.white_box(net, images, as_it_is, False), images)
    made = crafting.white_box(net, images, replace(as_it_is, attacked_path="adaptive"), False)
    assert 0.1 < (made - images).abs().max() <= 0.2 + 1e-6


# ---- Networks ----


@pytest.mark.parametrize("name", list(baselines.QUANTIZERS))
def test_a_defended_network_is_used_like_a_plain_one(name, images):
    net = baselines.build(name, seed=1).eval()
    labels = torch.tensor([7, 2, 1])
    assert models.answers(net, images)[None].shape == (3, 10)
    assert evaluation.correct_by_path(net, images, labels)[None].shape == (3,)
    with pytest.raises(ValueError, match="this network takes"):
        net(images.repeat(1, 2, 1, 1))
    # The colours are among the weights, so that a saved network quantizes as the trained one did.
    assert ("quantizer.colours" in net.state_dict()) == (name == "randomised")


def test_weights_follow_from_name_and_seed():
    def first(name: str, seed: int) -> Tensor:
        return next(baselines.build(name, seed).network.parameters())

    assert torch.equal(first("median", 0), first("median", 0))
    assert not torch.equal(first("median", 0), first("median", 1))
    assert not torch.equal(first("median", 0), first("bit-depth", 0))


def test_a_thermometer_trained_on_digits_falls_to_its_own_attack_alone():
    train_set, test_set = data.load("mnist", "train", limit=1500), data.load("mnist", "test", limit=60)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))
    net = Defended(Encoding(8), network)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    for batch in torch.cat([torch.randperm(1500) for _ in range(3)]).split(50):
        loss = F.cross_entropy(net(train_set.images[batch]), train_set.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()

    def accuracy(images: Tensor) -> float:
        return evaluation.accuracy(net, images, test_set.labels)

    random = test_set.images + 0.2 * (2 * torch.rand(test_set.images.shape) - 1)
    soft = attacks.pgd(baselines.soft(net), test_set.images, eps=0.2, step=0.05, iterations=10)
    own = baselines.ls_pga(net, test_set.images, eps=0.2, iterations=15)
    assert accuracy(test_set.images) > 80 and accuracy(random.clamp(0, 1)) > 70
    assert accuracy(soft) < 40 and accuracy(own) < 40
