"""The PixelCNN: it never looks at what it predicts, its probabilities sum to one, and its samples follow them."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qlayer_core import data, pixelcnn
from qlayer_core.layer import QLayer
from qlayer_core.pixelcnn import PixelCNN, Settings

SMALL = Settings(layers=3, filters=6, batch_size=40, epochs=3, patience=3, learning_rate=0.01)


def random_model(table: Tensor, settings: Settings = SMALL, seed: int = 0, gain: float = 2.0) -> PixelCNN:
    """A model whose probabilities are far from uniform."""
    torch.manual_seed(seed)
    model = PixelCNN(table, settings)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, gain=gain)
            nn.init.normal_(module.bias, std=0.3)
    return model


def over(values: int, heads: int = 1, **options) -> PixelCNN:
    return random_model(torch.linspace(-1, 1, values).view(1, -1, 1).repeat(heads, 1, 1), **options)


def influence(maps: Tensor, inputs: Tensor, row: int, column: int) -> np.ndarray:
    """Which input positions ``(H, W)`` the features at one position depend on."""
    (gradient,) = torch.autograd.grad(maps[:, :, row, column].abs().sum(), inputs, retain_graph=True)
    return (gradient.abs().sum((0, 1)) > 0).numpy()


# ---- What it sees ----


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_position_of_either_stack_depends_on_itself_or_on_a_later_one(seed):
    model = over(4, seed=seed, settings=Settings(layers=7, filters=4)).double()
    inputs = torch.randn(2, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    vertical, horizontal = model.stacks(inputs)
    number = np.arange(9 * 8).reshape(9, 8)  # in reading order
    for row, column in itertools.product((0, 1, 4, 8), (0, 1, 4, 7)):
        assert not influence(vertical, inputs, row, column)[row:].any()
        assert not influence(horizontal, inputs, row, column)[number >= number[row, column]].any()


def test_there_is_no_blind_spot():
    # Plain masked convolutions never see the positions above and to the right that lie behind the mask's edge.
    model = over(4, settings=Settings(layers=7, filters=4)).double()
    inputs = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    _, horizontal = model.stacks(inputs)
    number = np.arange(64).reshape(8, 8)
    for row, column in ((7, 4), (5, 0), (4, 7), (0, 5)):
        seen = influence(horizontal, inputs, row, column)
        reachable = (number < number[row, column]) & (abs(np.arange(8) - column) <= 8)
        assert np.array_equal(seen, reachable)


def test_it_sees_as_many_rows_above_as_it_says():
    model = over(4).double()
    assert model.reach == 2 + 1 + 1
    inputs = torch.randn(2, 1, 9, 5, dtype=torch.float64, requires_grad=True)
    seen = influence(model.stacks(inputs)[1], inputs, 8, 2).any(1)
    assert seen.tolist() == [row >= 8 - model.reach for row in range(9)]


def reference(model: PixelCNN, inputs: np.ndarray) -> np.ndarray:
    """The same network as full square windows under a mask, position by position: (N, H, W, heads * values)."""

    def numbers(conv: nn.Conv2d) -> tuple[np.ndarray, np.ndarray]:
        return conv.weight.detach().numpy(), conv.bias.detach().numpy()

    def masked(maps: np.ndarray, conv: nn.Conv2d, size: int, offsets: list[tuple[int, int]]) -> np.ndarray:
        weight, bias = numbers(conv)
        assert weight.shape[2] * weight.shape[3] == len(offsets)
        full = np.zeros((*weight.shape[:2], size, size))
        for tap, (down, right) in zip(
            weight.reshape(*weight.shape[:2], -1).transpose(2, 0, 1), offsets, strict=True
        ):
            full[:, :, size // 2 + down, size // 2 + right] = tap
        n, _, height, width = maps.shape
        padded = np.pad(maps, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
        out = np.zeros((n, len(bias), height, width))
        for row, column in itertools.product(range(height), range(width)):
            window = padded[:, :, row : row + size, column : column + size]
            out[:, :, row, column] = np.einsum("nchw,fchw->nf", window, full) + bias
        return out

    def pointwise(maps: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
        weight, bias = numbers(conv)
        return np.einsum("nchw,fc->nfhw", maps, weight[:, :, 0, 0]) + bias[:, None, None]

    def gate(maps: np.ndarray) -> np.ndarray:
        a, b = np.split(maps, 2, axis=1)
        return np.tanh(a) / (1 + np.exp(-b))

    v = h = inputs
    for number, layer in enumerate(model.layers):
        size = model.settings.kernel if number else model.settings.first
        half, own = size // 2, [0] if number else []
        across = range(-half, half + 1)
        above = masked(v, layer.vertical, size, [(r, c) for r in [*range(-half, 0), *own] for c in across])
        beside = masked(h, layer.horizontal, size, [(0, c) for c in [*range(-half, 0), *own]])
        new = pointwise(gate(beside + pointwise(above, layer.across)), layer.out)
        v, h = gate(above), h + new if number else new
    first, second = (module for module in model.head if isinstance(module, nn.Conv2d))
    logits = pointwise(np.maximum(pointwise(np.maximum(h, 0), first), 0), second)
    return logits.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("heads", [1, 3])
def test_logits_are_those_of_masked_square_convolutions(heads):
    torch.manual_seed(1)
    model = random_model(torch.randn(heads, 5, 2)).double()
    symbols = torch.randint(0, 5, (2, heads, 7, 6))
    inputs = model.inputs(symbols)
    expected = reference(model, inputs.numpy())
    assert np.allclose(model(inputs).detach().flatten(3).numpy(), expected, atol=1e-12)


# ---- What it says ----


@pytest.mark.parametrize(("values", "heads"), [(3, 1), (2, 2)])
def test_the_probabilities_of_all_images_sum_to_one(values, heads):
    model = over(values, heads)
    every = torch.tensor(list(itertools.product(range(values), repeat=4 * heads))).view(-1, heads, 2, 2)
    likelihoods = pixelcnn.log_likelihood(model, every)
    assert likelihoods.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert likelihoods.std() > 0.5  # of a model that prefers some to others


def test_surprise_adds_up_to_minus_the_log_likelihood():
    model = over(4, heads=2)
    symbols = torch.randint(0, 4, (3, 2, 5, 5))
    nats = pixelcnn.surprise(model, symbols)
    assert nats.shape == (3, 2, 5, 5)
    assert torch.allclose(-nats.double().sum((1, 2, 3)), pixelcnn.log_likelihood(model, symbols))


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_number_of_values():
    model = over(16)
    for parameter in model.head[-1].parameters():
        nn.init.zeros_(parameter)
    likelihoods = pixelcnn.log_likelihood(model, torch.randint(0, 16, (4, 1, 6, 5)))
    assert torch.allclose(pixelcnn.bits_per_dimension(likelihoods, 6 * 5), torch.full((4,), 4.0).double())


def test_with_another_context_only_the_predictions_change():
    model = over(4)
    symbols, others = torch.randint(0, 4, (2, 5, 1, 4, 4))
    own = pixelcnn.surprise(model, symbols, model.inputs(symbols))
    assert torch.equal(own, pixelcnn.surprise(model, symbols))
    crossed = pixelcnn.surprise(model, symbols, model.inputs(others))
    assert torch.equal(crossed[:, :, 0, 0], own[:, :, 0, 0])  # nothing comes before the first position
    shares = model(model.inputs(others)).softmax(-1)[:, :, :, 0].gather(-1, symbols[:, 0, :, :, None])
    assert torch.allclose(crossed[:, 0], -shares[..., 0].log(), atol=1e-5)


def test_samples_follow_the_model():
    model = over(3)
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 1, 2, 2)
    expected = pixelcnn.log_likelihood(model, every).exp().numpy()
    drawn = pixelcnn.sample(model, 20_000, (2, 2), torch.Generator().manual_seed(7))
    places = (drawn.long().flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    counts = np.bincount(places.numpy(), minlength=81)
    common = expected > 2e-4  # the rule of thumb: at least four expected
    squares = (counts - 20_000 * expected)[common] ** 2 / (20_000 * expected[common])
    degrees = common.sum()
    assert squares.sum() < degrees + 4 * math.sqrt(2 * degrees)  # chi-squared: mean and standard deviation
    assert len(set(places.tolist())) > 40


def test_samples_of_larger_images_draw_from_the_probabilities_of_the_whole_image():
    # Sampling looks only as far up and aside as the model can see: the last position must not notice.
    model = over(3, heads=2)
    drawn = pixelcnn.sample(model, 2, (12, 14), torch.Generator().manual_seed(1))
    assert drawn.shape == (2, 2, 12, 14)
    shares = model(model.inputs(drawn)).softmax(-1)
    again, generator = torch.zeros_like(drawn), torch.Generator().manual_seed(1)
    for row, column in itertools.product(range(12), range(14)):
        draws = torch.multinomial(shares[:, row, column].flatten(0, 1).detach(), 1, generator=generator)
        again[:, :, row, column] = draws.view(2, 2)
    assert torch.equal(drawn, again)


# ---- Symbols ----


def test_pixels_become_the_nearest_of_256_values():
    images = torch.tensor([0, 0.4 / 255, 0.6 / 255, 128 / 255, 1]).view(1, 1, 1, 5)
    assert pixelcnn.as_symbols(images).flatten().tolist() == [0, 0, 1, 128, 255]
    digits = data.load("mnist", "test", limit=3).images
    symbols = pixelcnn.as_symbols(digits)
    assert torch.equal(symbols.float() / 255, digits)  # the files hold whole numbers
    inputs = pixelcnn.over_pixels().inputs(symbols)
    assert torch.allclose(inputs[:, :1], 2 * digits - 1, atol=1e-6)


def test_a_model_of_pixels_sees_values_and_waves_of_them():
    values = torch.tensor([0.0, 0.25, 253, 254])
    found = pixelcnn.seen(values).numpy()
    assert found.shape == (4, 17)
    for value, features in zip(values.tolist(), found, strict=True):
        waves = [2 * math.pi * value / period for period in (2, 4, 8, 16, 32, 64, 128, 256)]
        expected = [2 * value / 255 - 1, *map(math.sin, waves), *map(math.cos, waves)]
        assert features == pytest.approx(expected, abs=1e-4)
    assert abs(found[2] - found[3]).max() > 1 > 100 * abs(found[2] - found[3])[0]  # neighbours look different


def test_codes_are_seen_as_the_layers_own_to_a_common_scale():
    layer = QLayer(8, codebook_size=5, heads=2)
    out = layer(torch.randn(3, 8, 4, 4))
    model = pixelcnn.over_codes(layer, SMALL)
    seen = model.inputs(out.indices.transpose(0, 1))
    scale = out.quantized.detach() / seen
    assert seen.shape == (3, 16, 4, 4)
    assert torch.allclose(scale, scale.mean().expand_as(scale), rtol=1e-4)
    assert model.table.square().mean().item() == pytest.approx(1)


def test_symbols_that_the_model_does_not_have_are_refused():
    model = over(4)
    with pytest.raises(ValueError, match="0 to 3"):
        pixelcnn.surprise(model, torch.full((1, 1, 3, 3), 4))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        pixelcnn.surprise(model, torch.zeros(1, 2, 3, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="must be odd"):
        PixelCNN(torch.zeros(1, 4, 1), Settings(kernel=4))


# ---- Training ----


def stripes(n: int) -> Tensor:
    """Images of 4 values whose rows are all one value, the next row's being one more: 2 bits an image."""
    starts = torch.randint(0, 4, (n, 1, 1, 1))
    return ((starts + torch.arange(5).view(1, 1, 5, 1)) % 4).expand(-1, -1, -1, 5).to(torch.uint8)


def test_training_finds_the_rule_of_the_images():
    torch.manual_seed(0)
    train_set, validation_set = stripes(400), stripes(50)
    settings = dataclasses.replace(SMALL, filters=8, batch_size=10, learning_rate=0.03, final=0.5, epochs=8)
    model = over(4, gain=1.0, settings=settings)
    state = pixelcnn.train(model, train_set, validation_set, seed=0)
    bits = [row["bits"]["validation"] for row in state.history]
    assert bits[0] > 1 and 2 / 25 - 0.01 < min(bits) < 2 / 25 + 0.02  # an image is one choice of four
    assert state.best["score"] == -min(bits)
    exact = pixelcnn.bits_per_dimension(pixelcnn.log_likelihood(model, validation_set), 25).mean().item()
    assert exact == pytest.approx(min(bits), rel=1e-5)


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path):
    torch.manual_seed(0)
    train_set, validation_set = stripes(80), stripes(20)
    whole = over(4)
    state = pixelcnn.train(whole, train_set, validation_set, seed=5)
    checkpoint = tmp_path / "checkpoint.pt"
    for until in (1, 2):
        pixelcnn.train(over(4), train_set, validation_set, seed=5, checkpoint=checkpoint, until=until)
    rows = []
    continued = over(4, seed=9)  # all that it starts from is in the checkpoint
    again = pixelcnn.train(
        continued, train_set, validation_set, seed=5, checkpoint=checkpoint, report=rows.append
    )
    assert [row["epoch"] for row in rows] == [3]
    assert again.history == state.history
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), continued.parameters(), strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_autograd_mode_changes_nothing(mode):
    symbols, model = stripes(40), over(4)
    expected = pixelcnn.train(over(4), symbols, symbols[:5], seed=5, until=1)
    with mode():
        here = symbols.clone()
        state = pixelcnn.train(model, here, here[:5], seed=5, until=1)
    assert state.history == expected.history


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train_set = stripes(40)
    checkpoint = tmp_path / "checkpoint.pt"
    pixelcnn.train(over(4), train_set, train_set[:5], seed=0, checkpoint=checkpoint, until=1)
    other = over(4, settings=dataclasses.replace(SMALL, filters=5))
    with pytest.raises(ValueError, match="other settings"):
        pixelcnn.train(other, train_set, train_set[:5], seed=0, checkpoint=checkpoint)


@pytest.mark.parametrize("name", ["epochs", "patience", "batch_size", "until"])
def test_a_training_of_no_epoch_or_no_image_is_refused(name):
    settings = SMALL if name == "until" else dataclasses.replace(SMALL, **{name: 0})
    symbols, until = stripes(40), 0 if name == "until" else None
    with pytest.raises(ValueError, match=f"{name} is 0; it must be a whole number, at least 1"):
        pixelcnn.train(over(4, settings=settings), symbols, symbols[:5], seed=0, until=until)


def test_a_few_steps_on_digits_beat_what_each_pixel_does_alone():
    images = pixelcnn.as_symbols(data.load("mnist", "train", limit=700).images[:, :, 7:21, 7:21])
    settings = Settings(layers=3, filters=16, batch_size=10, epochs=4, learning_rate=0.02)
    torch.manual_seed(0)
    model = pixelcnn.over_pixels(settings)
    state = pixelcnn.train(model, images[:600], images[600:], seed=0)
    # The best that a model of single pixels could do without seeing these images: add-one counts of the other 600.
    counts = torch.stack([torch.bincount(p, minlength=256) for p in images[:600].flatten(1).T.long()])
    shares = (counts + 1) / (counts + 1).sum(1, keepdim=True)
    alone = -shares[torch.arange(196), images[600:].flatten(1).long()].log2().mean().item()
    assert -state.best["score"] < alone - 0.5


def test_more_symbols_than_a_byte_tells_apart_are_refused():
    """Those that are kept would begin anew at 256."""
    with pytest.raises(
        ValueError, match="a head has 300 symbols; each is kept in a byte, so give at most 256"
    ):
        PixelCNN(torch.rand(1, 300, 2))
