"""The networks: Table 4, the paths of a network with a Q-Layer, and the layer in a network from elsewhere."""

from functools import partial

import pytest
import torch
import torchvision
from conftest import small_q_net
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import experiments, models, training
from qlayer_core.layer import QLayer
from qlayer_core.models import Dropout, Flatten, PatchConv2d, QNet
from qlayer_core.optimizer import RAdam


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def q_net(heads: int = 2) -> QNet:
    """A small float64 network in evaluation mode."""
    torch.manual_seed(0)
    return small_q_net(heads).double().eval()


# ---- the parts ----


@pytest.mark.parametrize(
    "channels, out_channels, size, padding, height, width",
    [(1, 64, 5, 2, 28, 28), (1, 128, 3, 1, 28, 28), (3, 4, 3, 0, 7, 9), (2, 3, 5, 2, 6, 4)],
)
def test_patch_conv_equals_conv(channels, out_channels, size, padding, height, width):
    torch.manual_seed(0)
    ours = PatchConv2d(channels, out_channels, size, padding=padding).double()
    theirs = nn.Conv2d(channels, out_channels, size, padding=padding).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    weight = torch.randn_like(theirs(x))
    gradients = [
        torch.autograd.grad((conv(x) * weight).sum(), [x, conv.weight, conv.bias]) for conv in (ours, theirs)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)
    without = torch.autograd.grad((ours(x.detach()) * weight).sum(), [ours.weight, ours.bias])
    assert torch.equal(without[0], gradients[0][1]) and torch.equal(without[1], gradients[0][2])


def test_patch_conv_takes_no_stride_dilation_or_groups():
    for option in ("stride", "dilation", "groups"):
        with pytest.raises(TypeError, match=option):
            PatchConv2d(2, 4, 3, **{option: 2})


@pytest.mark.parametrize("name", ["cnn", "source-b", "q-base", "q-inner"])
@pytest.mark.parametrize(
    "images, error, message",
    [
        (
            torch.rand(2, 28, 28),
            ValueError,
            r"shape \(2, 28, 28\); this network takes \(N, 1, height, width\)",
        ),
        (torch.rand(28, 28), ValueError, r"shape \(28, 28\); this network takes \(N, 1, height, width\)"),
        (torch.rand(2, 3, 28, 28), ValueError, r"shape \(2, 3, 28, 28\); this network takes \(N, 1, "),
        (torch.rand(2, 1, 32, 32), ValueError, "give images of the size that the network is for"),
        (
            torch.zeros(2, 1, 28, 28, dtype=torch.uint8),
            TypeError,
            "dtype torch.uint8; convert them to floats",
        ),
    ],
    ids=["no channel", "one image", "three channels", "32 x 32", "bytes"],
)
def test_images_that_a_network_is_not_for_are_refused(name, images, error, message):
    with pytest.raises(error, match=message):
        models.build(name).eval()(images)


def test_flatten_puts_the_channels_of_a_position_side_by_side():
    maps = torch.randn(2, 3, 4, 5)
    rows = [torch.cat([m[:, i, j] for i in range(4) for j in range(5)]) for m in maps]
    assert torch.equal(Flatten(60)(maps), torch.stack(rows))


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropout_has_the_right_rate_scale_and_expectation(p):
    torch.manual_seed(0)
    n = 1_000_003  # no multiple of the bytes in one draw
    out = Dropout(p)(torch.full((n,), 3.0))
    kept = out != 0
    assert torch.equal(out[kept], torch.full_like(out[kept], 3 / (1 - p)))
    five_sigma = 5 * (p * (1 - p) / n) ** 0.5
    assert abs(kept.double().mean().item() - (1 - p)) < five_sigma
    assert abs(out.double().mean().item() - 3) < 3 / (1 - p) * five_sigma
    # Neighbours and the eight numbers of one draw fall independently.
    for lag in range(1, 9):
        both = (kept[lag:] & kept[:-lag]).double().mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=0.004)


LAYOUTS = {
    "channels last": torch.full((20, 33, 7, 5), 3.0).to(memory_format=torch.channels_last),
    "every other column": torch.full((99, 401), 3.0)[:, ::2],
    "repeated rows": torch.full((1, 200), 3.0).expand(100, 200),
    "bfloat16": torch.full((99, 201), 3.0, dtype=torch.bfloat16),
    "float64": torch.full((99, 201), 3.0, dtype=torch.float64),
}


@pytest.mark.parametrize("x", LAYOUTS.values(), ids=LAYOUTS)
def test_dropout_takes_any_layout_and_number_format(x):
    torch.manual_seed(0)
    before = x.clone()
    out = Dropout(0.25)(x)
    kept = out != 0
    assert out.shape == x.shape and out.dtype == x.dtype and torch.equal(x, before)
    assert torch.equal(out[kept], torch.full_like(out[kept], 4.0))
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.015)
    assert len(kept.flatten(1).unique(dim=0)) == len(x)  # each row falls out in its own way


def test_dropout_differs_from_call_to_call_and_is_repeated_by_the_seed():
    dropout, x = Dropout(0.5), torch.ones(4, 3, 5)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_dropout_passes_gradient_to_what_it_kept_and_is_off_in_evaluation():
    dropout, x = Dropout(0.25), torch.rand(100, 7, requires_grad=True)
    out = dropout(x)
    out.sum().backward()
    assert torch.equal(x.grad, (out != 0) / 0.75)
    assert dropout.eval()(x) is x


# ---- Table 4 ----


@pytest.mark.parametrize(
    "architecture, first, final, side",
    # Weights and biases by hand: inputs x filters x kernel + biases.
    [
        ("a", 1 * 64 * 25 + 64, 64 * 64 * 25 + 64, 12),
        ("b", 1 * 128 * 9 + 128, 128 * 64 * 9 + 64, 13),
    ],
)
def test_cnn_a_and_b_are_table_4(architecture, first, final, side):
    model = models.cnn(architecture).double().eval()
    head = 64 * side * side * 128 + 128 + 128 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == first + final + head
    assert model[0](images()).shape == (4, first // (26 if architecture == "a" else 10), 28, 28)
    assert model[:2](images()).shape == (4, 64, side, side)
    assert model(images()).shape == (4, 10)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.5]
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 3


def test_cnn_a_is_the_convolutional_network_that_it_says():
    model = models.cnn("a").double().eval()
    w = [p for p in model.parameters()]
    z = F.relu(F.conv2d(images(), w[0], w[1], padding=2))
    z = F.relu(F.conv2d(z, w[2], w[3], stride=2))
    z = F.relu(F.linear(z.permute(0, 2, 3, 1).reshape(4, -1), w[4], w[5]))
    torch.testing.assert_close(model(images()), F.linear(z, w[6], w[7]))


# ---- a network with a Q-Layer ----


def test_the_paths_are_what_they_say():
    model, x = q_net(), images()
    projected = model.layer.project(model.encoder(x))
    codes = model.layer.lookup(model.layer.nearest(projected))
    assert torch.equal(model(x), model.tail_q(codes))
    assert torch.equal(model(x, path="q"), model.tail_q(codes))
    assert torch.equal(model(x, path="e"), model.tail_e(projected))
    assert torch.equal(model(x, path="shortcut"), model.tail_q(projected))
    both = model(x, path="both")
    assert torch.equal(both.q, model(x, path="q")) and torch.equal(both.e, model(x, path="e"))
    assert torch.equal(both.layer.projected, projected) and torch.equal(both.layer.quantized, codes)


@pytest.mark.parametrize("training", [False, True])
def test_straight_through_has_the_true_value_and_the_identity_as_gradient(training):
    model, x = q_net().train(training), images().requires_grad_()
    model.encoder[-1].p = 0.0  # no dropout: two passes must agree
    out = model.layer(model.encoder(x))
    codes = out.quantized.detach().requires_grad_()
    (by_codes,) = torch.autograd.grad(model.tail_q(codes).square().sum(), codes)
    (expected,) = torch.autograd.grad(out.projected, x, grad_outputs=by_codes)
    logits = model(x, path="straight-through")
    torch.testing.assert_close(logits, model.tail_q(out.quantized), rtol=0, atol=1e-12)
    (found,) = torch.autograd.grad(logits.square().sum(), x)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


def test_the_quantized_path_gives_the_image_no_gradient():
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(q_net()(x).sum(), x, allow_unused=True)
    assert gradient is None


def test_a_shared_tail_is_one_tail():
    torch.manual_seed(0)
    shared = models.q_net(shared_tail=True).double().eval()
    separate = models.q_net().double().eval()
    assert torch.equal(shared(images(), path="e"), shared(images(), path="shortcut"))
    assert not torch.equal(separate(images(), path="e"), separate(images(), path="shortcut"))
    size_of_tail = sum(p.numel() for p in shared.tail_q.parameters())
    sizes = [sum(p.numel() for p in model.parameters()) for model in (separate, shared)]
    assert sizes[0] - sizes[1] == size_of_tail
    with torch.no_grad():
        shared.tail_q[-1][-1].bias += 1
        separate.tail_q[-1][-1].bias += 1
    moved = [model(images(), path="e")[0, 0].item() for model in (shared, separate)]
    assert moved[0] == pytest.approx(shared(images(), path="shortcut")[0, 0].item())
    assert moved[1] != pytest.approx(separate(images(), path="shortcut")[0, 0].item())


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="path is 'p'; choose one of q, e, shortcut, straight-through, both"):
        q_net()(images(), path="p")


@pytest.mark.parametrize(
    "position, dropout, channels, side, order",
    [
        ("after", "before", 64, 12, "drop encoder"),
        ("after", "behind", 64, 12, "drop tail"),
        ("between", "before", 64, 28, "drop tail"),
    ],
)
def test_where_the_layer_and_the_dropout_sit(position, dropout, channels, side, order):
    model = models.q_net(heads=2, codebook_size=16, position=position, dropout=dropout).double().eval()
    assert model.encoder(images(1)).shape == (1, channels, side, side)
    out = model(images(1), path="both")
    assert out.layer.indices.shape == (2, 1, side, side) and out.q.shape == out.e.shape == (1, 10)

    def rates(part: nn.Module) -> list[float]:
        return [m.p for m in part.modules() if isinstance(m, nn.Dropout)]

    in_encoder = order == "drop encoder"
    assert rates(model.encoder) == ([0.25] if in_encoder else [])
    assert rates(model.tail_q) == rates(model.tail_e) == ([0.5] if in_encoder else [0.25, 0.5])


@pytest.mark.parametrize("argument", ["position", "dropout", "start"])
def test_unknown_choices_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} is 'nowhere'; choose"):
        models.q_net(**{argument: "nowhere"})


# ---- any model of the paper by name ----


@pytest.mark.parametrize("name", experiments.RUNS)
def test_every_model_of_the_paper_is_built(name):
    spec = experiments.run(name)
    model = models.build(name).double().eval()
    x = images(1)
    assert model(x).shape == (1, 10)
    if spec.layer is not None:
        assert model.layer.codebook.shape == (spec.layer.heads, spec.layer.codebook_size, 64)
        assert (model.tail_e is None) == spec.layer.shared_tail
        side = 12 if spec.layer.position == "after" else 28
        assert model(x, path="both").layer.indices.shape == (spec.layer.heads, 1, side, side)


def test_weights_depend_on_name_and_seed_alone():
    def first_weights(name: str, seed: int = 0) -> Tensor:
        return next(models.build(name, seed).parameters())

    torch.manual_seed(1)
    before = torch.get_rng_state()
    once = first_weights("cnn")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(once, first_weights("cnn"))
    assert not torch.equal(once, first_weights("cnn", seed=1))
    assert not torch.equal(once, first_weights("source-a"))  # a black-box source is independent of its target


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown model 'q-huge'; choose one of .*q-large"):
        models.build("q-huge")
    with pytest.raises(ValueError, match="architecture is 'c'; the paper has 'a' and 'b'"):
        models.cnn("c")


# ---- all of eq. 7 in one step, also in a network from elsewhere ----


def resnet_with_layer(stage: int, heads: int) -> QNet:
    """A torchvision ResNet-18 with a Q-Layer behind a stage (1 to 4); tails widen the next stage's input."""
    resnet = partial(torchvision.models.resnet18, weights=None, num_classes=10)
    children = list(resnet().named_children())
    cut = [name for name, _ in children].index(f"layer{stage}") + 1
    encoder = nn.Sequential(*(child for _, child in children[:cut]))
    dim = 64 * 2 ** (stage - 1)

    def tail() -> nn.Sequential:
        *rest, classifier = (child for _, child in list(resnet().named_children())[cut:])
        narrow = nn.Conv2d(heads * dim, dim, 1)
        return nn.Sequential(narrow, *rest, nn.Flatten(), classifier)

    return QNet(encoder, QLayer(dim, codebook_size=8, heads=heads), tail(), tail())


def one_step(model: QNet, x: Tensor) -> dict[str, Tensor]:
    """The four losses of one training step; the gradients of all of eq. 7 stay in the model."""
    spec = experiments.RunSpec("any", layer=experiments.LayerSpec())
    optimizer = RAdam(model.parameters(), lr=spec.learning_rate)
    return training.step(spec, model.train(), optimizer, x, torch.arange(len(x)) % 10)


def not_reached(model: QNet) -> list[str]:
    """Tensors without a gradient, but for a bias that the normalisation right behind it takes out again."""
    gradients = {name: tensor.grad for name, tensor in model.named_parameters() if name != "layer.gate.bias"}
    return [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("heads", [1, 4])
def test_the_layer_goes_into_a_resnet_and_trains(stage, heads):
    torch.manual_seed(0)
    model = resnet_with_layer(stage, heads)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = one_step(model, torch.rand(4, 3, 64, 64))
    assert set(losses) == {"q", "e", "codebook", "commitment"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not_reached(model) == []
    after = model.state_dict()
    for name in (
        "encoder.0.weight",
        "layer.codebook",
        "layer.gate.weight",
        "tail_q.0.weight",
        "tail_e.0.weight",
    ):
        assert not torch.equal(before[name], after[name]), name
    assert len(model.layer.update_inactive()) == heads
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("name", ["q-base", "q-large", "q-inner", "q-large-shared"])
def test_one_step_reaches_every_tensor_of_the_papers_models(name):
    model = models.build(name)
    one_step(model, images(2).float())
    assert not_reached(model) == []
