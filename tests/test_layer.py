"""The Q-Layer against the paper's equations, recomputed in numpy float64."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import small_q_net
from torch import Tensor
from torch.nn import functional as F

from qlayer_core.layer import QLayer
from qlayer_core.models import BothPaths, QNet

DIM, CODES = 6, 7
HEADS = pytest.mark.parametrize("heads", [1, 4])


def make(heads: int = 1, seed: int = 0, **options) -> QLayer:
    """A float64 layer whose every tensor is away from its neutral start (ones, zeros)."""
    torch.manual_seed(seed)
    layer = QLayer(DIM, CODES, heads, **options).double()
    if layer.gate_bias is not None:
        torch.nn.init.uniform_(layer.gate_bias, -1, 1)
    return layer


def make_map(n: int = 3, height: int = 4, width: int = 5) -> Tensor:
    return torch.randn(n, DIM, height, width, dtype=torch.float64)


def panels_of(maps: Tensor, heads: int) -> np.ndarray:
    """A map (N, heads * DIM, H, W) as panels (heads, N * H * W, DIM), one channel at a time."""
    maps = maps.detach().numpy()
    return np.stack(
        [np.stack([maps[:, h * DIM + c].ravel() for c in range(DIM)], axis=1) for h in range(heads)]
    )


def equation_4(layer: QLayer, z: Tensor) -> np.ndarray:
    """Panels (heads, M, DIM) by eq. 4."""
    panel = panels_of(z, 1)[0]
    projected = []
    for w, b in zip(layer.gate_weight.detach().numpy(), layer.gate_bias.detach().numpy(), strict=True):
        weights = np.exp(panel @ w + b)
        projected.append(panel * weights / weights.sum(1, keepdims=True))
    return np.stack(projected)


def squared_distances(panels: np.ndarray, codebook: Tensor) -> np.ndarray:
    """(heads, M, codes) by eq. 2, subtraction and all."""
    return np.square(panels[:, :, None] - codebook.detach().numpy()[:, None]).sum(-1)


# ---- eq. 2, 4 and 5 ----


@HEADS
@pytest.mark.parametrize("training", [False, True])
def test_forward_is_equations_2_4_and_5(heads, training):
    layer, z = make(heads).train(training), make_map(7, 9, 10)
    expected = equation_4(layer, z)
    out = layer(z)
    nearest = squared_distances(expected, layer.codebook).argmin(-1)
    codes = np.stack([layer.codebook[h].detach().numpy()[nearest[h]] for h in range(heads)])
    np.testing.assert_allclose(panels_of(out.projected, heads), expected, atol=1e-13)
    np.testing.assert_array_equal(out.indices.reshape(heads, -1), nearest)
    np.testing.assert_array_equal(panels_of(out.quantized, heads), codes)
    assert out.indices.shape == (heads, 7, 9, 10) and out.indices.dtype == torch.int64


@HEADS
def test_without_a_gate_every_head_sees_the_panel_as_it_is(heads):
    layer, z = make(heads, gate=False), make_map()
    assert torch.equal(layer(z).projected, torch.cat([z] * heads, dim=1))
    assert [name for name, _ in layer.named_parameters()] == ["codebook"]


@HEADS
def test_float32_chooses_a_nearest_code_up_to_rounding(heads):
    layer, z = make(heads).float(), make_map(40).float()
    out = layer(z)
    distances = squared_distances(panels_of(out.projected, heads).astype(np.float64), layer.codebook)
    chosen = np.take_along_axis(distances, out.indices.reshape(heads, -1, 1).numpy(), -1)[..., 0]
    np.testing.assert_allclose(chosen, distances.min(-1), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_are_chosen_in_full_precision_under_autocast(dtype):
    layer, z = QLayer(64, 64, 4).eval(), torch.rand(4, 64, 6, 6).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = layer(z)
    for h in range(4):
        panels = out.projected[:, 64 * h : 64 * (h + 1)].double().permute(0, 2, 3, 1).reshape(-1, 64)
        distances = torch.cdist(panels, layer.codebook[h].detach().double()).square()
        chosen = distances.gather(1, out.indices[h].reshape(-1, 1)).squeeze(1)
        torch.testing.assert_close(chosen, distances.amin(1), rtol=0, atol=1e-5)


def test_of_two_equally_near_codes_the_first_is_chosen():
    layer = make(gate=False)
    layer.codebook.data[0, 2] = layer.codebook.data[0, 5]
    z = layer.codebook.data[0, 5].view(1, DIM, 1, 1)
    assert layer(z).indices.item() == 2


@pytest.mark.parametrize("n, height, width", [(1, 1, 1), (2, 1, 9), (5, 3, 2)])
def test_any_map_size(n, height, width):
    out = make(2).eval()(make_map(n, height, width))
    assert out.quantized.shape == out.projected.shape == (n, 2 * DIM, height, width)
    assert out.indices.shape == (2, n, height, width)


@HEADS
def test_permuting_codes_changes_nothing_but_indices(heads):
    layer, z = make(heads).eval(), make_map()
    before = layer(z)
    orders = torch.stack([torch.randperm(CODES) for _ in range(heads)])
    layer.codebook.data = torch.stack(
        [codes[order] for codes, order in zip(layer.codebook, orders, strict=True)]
    )
    after = layer(z)
    assert torch.equal(after.quantized, before.quantized)
    assert torch.equal(after.projected, before.projected)
    for h in range(heads):
        assert torch.equal(orders[h][after.indices[h]], before.indices[h])
    assert not torch.equal(after.indices, before.indices)


@HEADS
def test_the_gate_is_the_second_factor_of_equation_4(heads):
    layer, z = make(heads), make_map()
    gate = layer.gate(z)
    assert gate.shape == (3, 4, 5, heads, DIM)
    torch.testing.assert_close(gate.sum(-1), torch.ones(3, 4, 5, heads, dtype=torch.float64))
    product = z.permute(0, 2, 3, 1).unsqueeze(-2) * gate
    torch.testing.assert_close(layer.project(z), product.flatten(-2).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match="built with gate=False: it has no gate to show"):
        make(heads, gate=False).gate(z)


@pytest.mark.parametrize("matrices", ["codebook", "gate_weight"])
def test_every_matrix_starts_glorot_uniform_by_itself(matrices):
    drawn = getattr(QLayer(64, 64, 8), matrices).detach()
    bound = (6 / (64 + 64)) ** 0.5  # 0.2165, the fans of one head
    assert 0.999 * bound < drawn.abs().max() <= bound
    assert drawn.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    assert not QLayer(64, 64, 8).gate_bias.any()


def test_an_exported_layer_takes_any_batch():
    layer = QLayer(DIM, CODES, 2).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(layer, (torch.rand(3, DIM, 4, 4),), dynamic_shapes=({0: batch},)).module()
    for n in (2, 3, 70):  # 70 images are more panels than are searched at once
        z = torch.rand(n, DIM, 4, 4)
        assert torch.equal(program(z)[2], layer(z).indices)


# ---- eq. 7 and 8 ----


@HEADS
def test_losses_are_equation_8_and_their_gradients(heads):
    layer = make(heads, gate=False)
    z = make_map().requires_grad_()
    out = layer(z)
    panels, nearest = panels_of(out.projected, heads), out.indices.reshape(heads, -1).numpy()
    codes = layer.codebook.detach().numpy()
    difference = np.stack([codes[h][nearest[h]] - panels[h] for h in range(heads)])  # (heads, M, DIM)
    m = panels.shape[1]

    codebook_loss, commitment_loss = layer.losses(out)
    expected = np.square(difference).sum() / m  # sum over heads and channels, mean over panels
    assert codebook_loss.item() == pytest.approx(expected)
    assert commitment_loss.item() == pytest.approx(expected)

    (by_code,) = torch.autograd.grad(codebook_loss, layer.codebook)
    for h in range(heads):
        for code in range(CODES):
            moved = 2 / m * difference[h][nearest[h] == code].sum(0)
            np.testing.assert_allclose(by_code[h, code], moved, atol=1e-12)
    (by_input,) = torch.autograd.grad(commitment_loss, z)
    np.testing.assert_allclose(panels_of(by_input, 1)[0], -2 / m * difference.sum(0), atol=1e-12)


@HEADS
def test_the_linear_commitment_pulls_every_feature_alike_and_none_pulls_nothing(heads):
    layer = make(heads, gate=False)
    z = make_map().requires_grad_()
    out = layer(z)
    codebook_loss, linear = layer.losses(out, "linear")
    codes = panels_of(out.quantized, heads)
    expected = (panels_of(out.projected, heads) - np.square(codes)).sum() / codes.shape[1]
    assert linear.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(linear, z)
    np.testing.assert_allclose(slope, heads / codes.shape[1], atol=1e-12)
    without, none = layer.losses(out, "none")
    assert none.item() == 0 and not none.requires_grad
    assert without.item() == codebook_loss.item()
    with pytest.raises(ValueError, match="commitment is 'cubic'; choose one of squared, linear, none"):
        layer.losses(out, "cubic")


def test_the_losses_have_second_derivatives():
    """A gradient penalty on the commitment: d/dz |2 (z - q) / m|^2 = 8 (z - q) / m^2, in closed form."""
    layer = make(gate=False)
    z = make_map().requires_grad_()
    out = layer(z)
    _, commitment = layer.losses(out)
    (slope,) = torch.autograd.grad(commitment, z, create_graph=True)
    (penalty,) = torch.autograd.grad(slope.square().sum(), z)
    m = z.numel() / DIM
    torch.testing.assert_close(penalty, 8 * (z - out.quantized.detach()) / m**2)


PARTS = {
    "encoder": "encoder.",
    "projection": "layer.gate_",
    "codebook": "layer.codebook",
    "N_Q": "tail_q.",
    "N_E": "tail_e.",
}
REACHES = {  # section 3.4
    "q": {"N_Q", "codebook"},
    "e": {"encoder", "projection", "N_E"},
    "codebook": {"codebook"},
    "commitment": {"encoder", "projection"},
}


def four_losses(model: QNet, out: BothPaths, labels: Tensor) -> dict[str, Tensor]:
    codebook, commitment = model.layer.losses(out.layer)
    cross_entropies = {"q": F.cross_entropy(out.q, labels), "e": F.cross_entropy(out.e, labels)}
    return cross_entropies | {"codebook": codebook, "commitment": commitment}


@HEADS
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", REACHES)
def test_each_loss_reaches_exactly_its_tensors(name, training, heads):
    torch.manual_seed(0)
    model = small_q_net(heads).double().train(training)
    images, labels = torch.rand(8, 1, 28, 28, dtype=torch.float64), torch.arange(8)
    four_losses(model, model(images, path="both"), labels)[name].backward()
    for tensor_name, tensor in model.named_parameters():
        (part,) = (part for part, prefix in PARTS.items() if tensor_name.startswith(prefix))
        size = 0.0 if tensor.grad is None else tensor.grad.abs().max().item()
        if part not in REACHES[name]:
            assert size == 0, tensor_name
        else:
            assert size > 1e-6, tensor_name


def test_the_quantized_map_gives_its_input_no_gradient():
    layer, z = make(2), make_map().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(z).quantized.sum(), z, allow_unused=True)
    assert gradient is None


# ---- start from k-means ----


@HEADS
def test_a_k_means_start_lowers_the_quantization_error_and_lies_within_the_data(heads):
    panels = torch.randn(50, DIM, 1, 1, dtype=torch.float64)
    z = (panels + torch.tensor([-8.0, 8.0, 24.0]).view(3, 1, 1, 1, 1)).flatten(0, 1)  # three clusters
    errors = {}
    for start in ("random", "k-means"):
        layer = make(heads, start=start, gate=False)
        out = layer(z)
        errors[start] = layer.losses(out)[0].item()
    assert errors["k-means"] < errors["random"] / 10
    assert (
        errors["k-means"] < heads * DIM
    )  # below the variance within one cluster: each cluster has its codes
    codes = layer.codebook.detach()
    lowest, highest = panels_of(out.projected, heads).min(1), panels_of(out.projected, heads).max(1)
    assert (codes.numpy() >= lowest[:, None]).all() and (codes.numpy() <= highest[:, None]).all()


def test_k_means_codes_are_the_means_of_their_panels_once_it_has_converged():
    layer = make(start="k-means", gate=False)
    means = torch.randn(CODES, DIM, dtype=torch.float64) * 100
    z = means.repeat_interleave(20, 0) + torch.randn(20 * CODES, DIM, dtype=torch.float64)
    out = layer(z.view(-1, DIM, 1, 1))
    for code in out.indices.unique():
        members = z[out.indices.flatten() == code]
        torch.testing.assert_close(layer.codebook[0, code].detach(), members.mean(0))


def test_a_k_means_code_that_no_panel_is_nearest_to_stays_where_it_was_drawn():
    layer = make(start="k-means", gate=False)
    layer(torch.full((CODES, DIM, 1, 1), 3.0, dtype=torch.float64))
    assert (layer.codebook == 3).all()


def test_k_means_starts_once_on_the_first_training_batch():
    layer = make(start="k-means")
    random = layer.codebook.detach().clone()
    layer.eval()(make_map())
    assert torch.equal(layer.codebook, random)
    layer.train()(make_map())
    started = layer.codebook.detach().clone()
    assert not torch.equal(started, random)
    layer(make_map())
    assert torch.equal(layer.codebook, started)

    continued = make(start="k-means", seed=1)
    continued.load_state_dict(layer.state_dict())
    continued.train()(make_map())
    assert torch.equal(continued.codebook, started)


def test_k_means_needs_as_many_panels_as_codes():
    with pytest.raises(ValueError, match=r"at least 7 panels.*got 6.*larger batch or start='random'"):
        make(start="k-means")(make_map(1, 2, 3))


# ---- inactive codes, section 3.5 ----


def test_usage_counts_what_training_chose_since_the_last_update():
    layer = make(2)
    expected = torch.zeros(2, CODES, dtype=torch.int64)
    for _ in range(3):
        indices = layer(make_map()).indices
        for h in range(2):
            expected[h] += torch.bincount(indices[h].flatten(), minlength=CODES)
    assert torch.equal(layer.usage, expected) and expected.sum() == 3 * 2 * 3 * 4 * 5
    layer.eval()(make_map())
    assert torch.equal(layer.usage, expected)
    inactive = layer.update_inactive()
    assert inactive == (expected == 0).sum(1).tolist()
    assert layer.usage.sum() == 0


def with_inactive_codes(heads: int) -> tuple[QLayer, np.ndarray, np.ndarray, np.ndarray]:
    """A layer after two batches, its inactive codes, and each code's closest panel of the last batch."""
    layer = make(heads, gate=False)
    layer.codebook.data[:, 1] += 50
    layer.codebook.data[-1, 4] -= 50
    layer.codebook.data[:, 0] = 3  # chosen by the first batch only
    layer(torch.full((1, DIM, 1, 1), 3.0, dtype=torch.float64))
    panels = panels_of(layer(make_map(16).clamp(-1, 1)).projected, heads)
    inactive = layer.usage.numpy() == 0
    assert (
        inactive[:, 1].all()
        and inactive[-1, 4]
        and not inactive[:, 0].any()
        and inactive.sum() < 2 * heads + 2
    )
    closest = squared_distances(panels, layer.codebook).argmin(1)  # (heads, codes)
    return (
        layer,
        inactive,
        np.take_along_axis(panels, closest[..., None], 1),
        layer.codebook.detach().numpy().copy(),
    )


@HEADS
def test_pull_takes_one_adam_step_towards_the_closest_panel(heads):
    layer, inactive, closest, before = with_inactive_codes(heads)
    assert layer.update_inactive("pull", learning_rate=0.01) == inactive.sum(1).tolist()
    after = layer.codebook.detach().numpy()
    # The first step of Adam has length lr in every coordinate, whatever the gradient's size.
    expected = before - 0.01 * np.sign(before - closest)
    np.testing.assert_allclose(after[inactive], expected[inactive], atol=1e-9)
    np.testing.assert_array_equal(after[~inactive], before[~inactive])


@HEADS
def test_reinitialize_sets_inactive_codes_to_their_closest_panel(heads):
    layer, inactive, closest, before = with_inactive_codes(heads)
    assert layer.update_inactive("reinitialize") == inactive.sum(1).tolist()
    after = layer.codebook.detach().numpy()
    np.testing.assert_array_equal(after[inactive], closest[inactive])
    np.testing.assert_array_equal(after[~inactive], before[~inactive])


def test_the_closest_panel_of_a_code_amid_the_data_is_on_its_own_side():
    """Far from all panels their lengths hardly count: here they decide."""
    layer = QLayer(1, 4, gate=False)
    layer.codebook.data = torch.tensor([[[0.9], [1.8], [2.2], [3.1]]])
    layer(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    assert layer.update_inactive("reinitialize") == [2]
    assert layer.codebook.flatten().tolist() == pytest.approx([0.9, 1.0, 3.0, 3.1])


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_the_step_of_pull_is_one_thousandth_by_default(mode):
    layer, inactive, _, before = with_inactive_codes(1)
    with mode():
        layer.update_inactive()
    np.testing.assert_allclose(np.abs(layer.codebook.detach().numpy() - before)[inactive], 0.001)


@pytest.mark.parametrize("strategy", ["pull", "reinitialize"])
@pytest.mark.parametrize("gate", [False, True])
def test_inactive_codes_are_updated_after_training_in_bfloat16(strategy, gate):
    layer = QLayer(DIM, CODES, 2, gate=gate)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, DIM, 3, 3, dtype=torch.bfloat16))
    layer.codebook.data[:, 0] = 100
    layer.usage[:, 0] = 0
    layer.update_inactive(strategy)
    assert (layer.codebook[:, 0] < 100).all()


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    for strategy in ("pull", "reinitialize"):
        layer = make(2, gate=False)
        layer.codebook.data[:, :3] += 50  # chosen by nobody
        torch.manual_seed(rank)  # each process sees its own images
        layer(make_map().clamp(-1, 1))
        inactive = layer.update_inactive(strategy)
        torch.save((layer.codebook.data, inactive), f"{folder}/{strategy}-{rank}.pt")
    torch.manual_seed(0)
    layer = QLayer(1, CODES, gate=False)
    layer.codebook.data[0, :, 0] = torch.arange(CODES)
    wrapped = torch.nn.parallel.DistributedDataParallel(layer)
    for codes in ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)) if rank == 0 else ((1.0, 2.0), (3.0, 3.0), (1.0, 1.0)):
        wrapped(torch.tensor(codes).view(1, 1, 1, 2))
    layer.update_inactive("reinitialize")
    torch.save(layer.codebook.data, f"{folder}/wrapped-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(_one_of_two, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("strategy", ["pull", "reinitialize"])
def test_several_processes_keep_equal_codebooks(strategy, two_processes):
    (codes, inactive), (others, also) = (
        torch.load(two_processes / f"{strategy}-{rank}.pt") for rank in (0, 1)
    )
    assert torch.equal(codes, others) and inactive == also
    assert min(inactive) >= 3 and (strategy == "pull" or codes.abs().max() < 50)


def test_under_data_parallelism_a_code_that_any_process_chose_stays(two_processes):
    """Its wrapper sets what is no weight to that of the first process before each pass."""
    for rank in (0, 1):
        codes = torch.load(two_processes / f"wrapped-{rank}.pt")[0, :, 0].tolist()
        assert codes[:4] == [0, 1, 2, 3] and set(codes[4:]) <= {0.0, 1.0}


def test_copies_and_files_leave_the_last_batch_out():
    layer = make(2)
    empty = len(pickle.dumps(layer))
    layer(make_map(40))
    assert len(pickle.dumps(layer)) == empty and copy.deepcopy(layer).last_panels is None
    assert layer.last_panels is not None and torch.equal(copy.deepcopy(layer).usage, layer.usage)


@pytest.mark.parametrize("wrong", [[[7], [0]], [[0], [-1]]])
def test_an_index_of_no_code_is_refused(wrong):
    """It would find a code of another head."""
    indices = torch.tensor(wrong).view(2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"indices run from .* this layer has codes 0 to 6"):
        make(2).lookup(indices)


@pytest.mark.parametrize("start", ["random", "k-means"])
def test_weights_of_a_network_with_the_layer_can_be_averaged(start):
    model = small_q_net(start=start).train()
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    for _ in range(2):
        model(torch.rand(8, 1, 28, 28))
        average.update_parameters(model)
    torch.testing.assert_close(average.module.layer.codebook, model.layer.codebook)


# ---- errors that teach ----


@pytest.mark.parametrize("shape", [(2, DIM + 1, 4, 4), (DIM, 4, 4), (2, DIM, 4)])
def test_a_map_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=rf"shape .*{shape[-1]}\); this layer takes \(N, {DIM}, H, W\)"):
        make()(torch.rand(shape, dtype=torch.float64))


def test_an_integer_map_is_refused_since_codes_would_be_rounded_to_it():
    with pytest.raises(TypeError, match=r"dtype torch.int64; convert it to the float format of the layer"):
        make(gate=False)(make_map().long())


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 3, 4, 4), (2, 3, 4)])
def test_indices_that_are_not_one_map_per_head_are_refused(shape):
    """Those of one head would count for all."""
    with pytest.raises(ValueError, match=r"indices have shape .*; give \(2, N, H, W\)"):
        make(2).lookup(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(3, DIM, 4, 4), (3, 4 * DIM, 4, 4), (2 * DIM, 4, 4)])
def test_the_nearest_codes_are_sought_for_projected_maps_alone(shape):
    with pytest.raises(ValueError, match=rf"give \(N, {2 * DIM}, H, W\), as project returns it"):
        make(2).nearest(torch.rand(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dim": 0}, "dim is 0; it must be at least 1"),
        ({"dim": 8, "codebook_size": 0}, "codebook_size is 0; it must be at least 1"),
        ({"dim": 8, "heads": -1}, "heads is -1; it must be at least 1"),
        ({"dim": 8, "start": "kmeans"}, "start is 'kmeans'; choose one of random, k-means"),
    ],
)
def test_impossible_layers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        QLayer(**arguments)


def test_updates_need_a_known_strategy_and_a_batch():
    with pytest.raises(ValueError, match="strategy is 'push'; choose one of pull, reinitialize"):
        make().update_inactive("push")
    with pytest.raises(RuntimeError, match=r"no batch has passed.*train\(\) mode first"):
        make().update_inactive()
    layer = make()
    layer(make_map())
    layer(make_map(n=0))
    with pytest.raises(RuntimeError, match="the last one was empty"):
        layer.update_inactive()
