"""The networks: Table 4, the paths of a network with a Q-Layer, and the layer in a network from elsewhere."""

from functools import partial

import pytest
import torch
import torchvision
from conftest import small_q_net
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import models, training
from qlayer_core.fast import RAdam
from qlayer_core.layer import QLayer
from qlayer_core.models import Flatten, QNet
from qlayer_core.specs import LayerSpec, RunSpec
from qlayer_core.study import experiments


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(name: str, seed: int = 0) -> nn.Module:
    return models.build(experiments.spec(name), seed)


def q_net(heads: int = 2) -> QNet:
    """A small float64 network in evaluation mode."""
    torch.manual_seed(0)
    return small_q_net(heads).double().eval()


# ---- the parts ----


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
        build(name).eval()(images)


def test_flatten_puts_the_channels_of_a_position_side_by_side():
    maps = torch.randn(2, 3, 4, 5)
    rows = [torch.cat([m[:, i, j] for i in range(4) for j in range(5)]) for m in maps]
    assert torch.equal(Flatten(60)(maps), torch.stack(rows))


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
    shared = models.q_net(LayerSpec(shared_tail=True)).double().eval()
    separate = models.q_net(LayerSpec()).double().eval()
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
    "position, dropout, channels, side, in_encoder, in_tails",
    [
        ("after", "off", 64, 12, [], []),
        ("after", "front", 64, 12, [0.25], [0.5]),
        ("after", "behind", 64, 12, [], [0.25, 0.5]),
        ("between", "off", 64, 28, [], []),
        ("between", "front", 64, 28, [], [0.25, 0.5]),
    ],
)
def test_where_the_layer_and_the_dropout_sit(position, dropout, channels, side, in_encoder, in_tails):
    spec = LayerSpec(heads=2, codebook_size=16, position=position, dropout=dropout)
    model = models.q_net(spec).double().eval()
    assert model.encoder(images(1)).shape == (1, channels, side, side)
    out = model(images(1), path="both")
    assert out.layer.indices.shape == (2, 1, side, side) and out.q.shape == out.e.shape == (1, 10)

    def rates(part: nn.Module) -> list[float]:
        return [m.p for m in part.modules() if isinstance(m, nn.Dropout)]

    assert rates(model.encoder) == in_encoder
    assert rates(model.tail_q) == rates(model.tail_e) == in_tails


@pytest.mark.parametrize("argument", ["position", "dropout", "start"])
def test_unknown_choices_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} is 'nowhere'; choose"):
        models.q_net(LayerSpec(**{argument: "nowhere"}))


@pytest.mark.parametrize("name", ["source-a", "source-b", "q-large"])
def test_kernels_start_glorot_uniform_and_biases_at_zero(name):
    """Limit sqrt(6 / (fan_in + fan_out)), where a convolution's fans count its window."""
    model = build(name)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            window = module.weight[0, 0].numel()
            fans = (module.weight.shape[0] + module.weight.shape[1]) * window
            limit = (6 / fans) ** 0.5
            assert 0.97 * limit < module.weight.abs().max() <= limit
            assert not module.bias.any()
    framework = models.build(RunSpec("any", initialisation="framework"))
    assert all(bias.any() for name, bias in framework.named_parameters() if name.endswith("bias"))
    with pytest.raises(ValueError, match="initialisation is 'zeros'; choose one of glorot, framework"):
        models.build(RunSpec("any", initialisation="zeros"))


def test_answers_are_those_of_every_path_that_answers():
    model, x = q_net(), images()
    found = models.answers(model, x)
    assert set(found) == {"q", "e"} and not found["e"].requires_grad
    assert torch.equal(found["q"], model(x)) and torch.equal(found["e"], model(x, path="e"))
    plain = models.cnn().double().eval()
    assert list(models.answers(plain, x)) == [None]
    assert torch.equal(models.answers(plain, x)[None], plain(x))


@pytest.mark.parametrize("net", [nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()), small_q_net()])
def test_a_network_in_training_mode_is_not_asked(net):
    """Its running statistics would move, and so would the counts of its codes."""
    before = {name: tensor.clone() for name, tensor in net.train().state_dict().items()}
    with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
        models.answers(net, images().float())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not isinstance(net, QNet) or not net.layer.usage.any()


# ---- any model of the paper by name ----


@pytest.mark.parametrize("name", experiments.RUNS)
def test_every_model_of_the_paper_is_built(name):
    spec = experiments.spec(name)
    model = build(name).double().eval()
    x = images(1)
    assert model(x).shape == (1, 10)
    if spec.layer is not None:
        assert model.layer.codebook.shape == (spec.layer.heads, spec.layer.codebook_size, 64)
        assert (model.tail_e is None) == spec.layer.shared_tail
        behind = {"a": 12, "b": 13}[spec.architecture]
        side = behind if spec.layer.position == "after" else 28
        assert model(x, path="both").layer.indices.shape == (spec.layer.heads, 1, side, side)


@pytest.mark.parametrize("name", experiments.RUNS)
def test_a_network_stands_on_the_convolutions_that_its_spec_names(name):
    """With a layer or without; behind a layer between them, the second one reads a map per head."""
    spec = experiments.spec(name)
    kernels = [module.weight.shape for module in build(name).modules() if isinstance(module, nn.Conv2d)]
    bare = models.cnn(spec.architecture)
    first, second = (module.weight.shape for module in bare.modules() if isinstance(module, nn.Conv2d))
    assert kernels[0][2:] == first[2:] and kernels[0][0] == first[0]
    heads = spec.layer.heads if spec.layer and spec.layer.position == "between" else 1
    assert set(kernels[1:]) == {(second[0], heads * second[1], *second[2:])}


def test_weights_depend_on_name_and_seed_alone():
    def first_weights(name: str, seed: int = 0) -> Tensor:
        return next(build(name, seed).parameters())

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
        build("q-huge")
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
    spec = RunSpec("any", layer=LayerSpec())
    optimizer = RAdam(model.parameters(), lr=spec.learning_rate)
    return training.step(spec, model.train(), optimizer, x, torch.arange(len(x)) % 10)


def not_reached(model: QNet) -> list[str]:
    """Tensors without a gradient."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


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
        "layer.gate_weight",
        "tail_q.0.weight",
        "tail_e.0.weight",
    ):
        assert not torch.equal(before[name], after[name]), name
    assert len(model.layer.update_inactive()) == heads
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("name", ["q-base", "q-large", "q-inner", "q-large-shared"])
def test_one_step_reaches_every_tensor_of_the_papers_models(name):
    model = build(name)
    one_step(model, images(2).float())
    assert not_reached(model) == []


def test_a_tail_that_changes_its_input_is_refused():
    """The losses would compare what is no longer there, as behind the ReLU(inplace=True) of many networks."""

    def tail(inplace: bool) -> nn.Sequential:
        return nn.Sequential(nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(48, 3))

    def network(inplace: bool) -> QNet:
        return QNet(nn.Conv2d(1, 3, 3, padding=1), QLayer(3, 4), tail(inplace), tail(inplace))

    some = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"a tail changes its input in place.*inplace=False"):
        network(inplace=True)(some, path="both")
    network(inplace=False)(some, path="both")
    with torch.inference_mode():
        network(inplace=False).eval()(some, path="both")
