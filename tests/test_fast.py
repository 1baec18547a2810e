"""What is only there for speed computes what the plain versions compute, and bfloat16 changes no accuracy."""

import copy
import os
import statistics
import subprocess
import sys
from dataclasses import replace

import plain
import pytest
import torch
from conftest import small_q_net
from torch import nn
from torch.nn import functional as F

from qlayer_core import fast, machine, models, training
from qlayer_core.fast import Dropout, RAdam, rectification
from qlayer_core.layer import QLayer
from qlayer_core.study import experiments

MODELS = ("cnn", "source-b", "q-base", "q-large", "q-inner")


def build(name: str) -> nn.Module:
    return models.build(experiments.spec(name))


# ---- RAdam ----


def pair(**options) -> tuple[nn.Module, nn.Module, RAdam, torch.optim.RAdam]:
    """Two equal float64 networks, one with each optimizer."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    theirs = copy.deepcopy(ours)
    return (
        ours,
        theirs,
        RAdam(ours.parameters(), **options),
        torch.optim.RAdam(theirs.parameters(), **options),
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    x, y = (torch.randn(16, n, generator=generator, dtype=torch.float64) for n in (6, 3))
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)  # the two add their 1e-8 at different places


@pytest.mark.parametrize("options", [{"lr": 0.01}, {"lr": 0.01, "betas": (0.8, 0.99)}, {}])
def test_twenty_steps_equal_the_librarys(options):
    ours, theirs, a, b = pair(**options)
    start = copy.deepcopy(ours)
    for t in range(1, 21):
        step(ours, a, t)
        step(theirs, b, t)
        assert_equal(ours, theirs)
    moved = max(
        (p - q).abs().max().item() for p, q in zip(ours.parameters(), start.parameters(), strict=True)
    )
    assert moved > 1e-4


def test_the_first_five_steps_are_momentum_only():
    ours, _, optimizer, _ = pair(lr=0.01)
    for t in range(1, 6):
        assert rectification(t, 0.999) is None
        before = [p.detach().clone() for p in ours.parameters()]
        step(ours, optimizer, t)
        for old, p in zip(before, ours.parameters(), strict=True):
            mean = optimizer.state[p]["exp_avg"] / (1 - 0.9**t)  # bias-corrected
            torch.testing.assert_close(p.detach(), old - 0.01 * mean)
    assert rectification(6, 0.999) > 0
    assert rectification(100_000, 0.999) == pytest.approx(1)


def test_saving_and_loading_between_steps_changes_nothing():
    ours, theirs, a, b = pair(lr=0.01)
    for t in range(1, 21):
        if t in (3, 12):  # among the momentum steps, and later
            state = copy.deepcopy(a.state_dict())
            a = RAdam(ours.parameters(), lr=0.5)
            a.load_state_dict(state)
        step(ours, a, t)
        step(theirs, b, t)
    assert_equal(ours, theirs)


def test_a_learning_rate_schedule_is_followed_and_left_as_it_was_set():
    ours, theirs, a, b = pair(lr=0.01)
    for t in range(1, 21):
        for optimizer in (a, b):
            optimizer.param_groups[0]["lr"] = 0.01 * 0.9**t
        step(ours, a, t)
        step(theirs, b, t)
        assert a.param_groups[0]["lr"] == 0.01 * 0.9**t
    assert_equal(ours, theirs)


@pytest.mark.parametrize("frozen", [0, 2])
def test_parameters_without_a_gradient_stay(frozen):
    """Also where the first parameters are those that have none."""
    ours, theirs, a, b = pair(lr=0.01)
    before = copy.deepcopy(ours[frozen])
    for model in (ours, theirs):
        model[frozen].requires_grad_(False)
    for t in range(1, 21):
        step(ours, a, t)
        step(theirs, b, t)
    assert torch.equal(ours[frozen].weight, before.weight) and torch.equal(ours[frozen].bias, before.bias)
    assert_equal(ours, theirs)


def test_closures_are_refused():
    ours, _, optimizer, _ = pair()
    with pytest.raises(ValueError, match=r"takes no closure: compute the gradients before calling step\(\)"):
        optimizer.step(lambda: ours(torch.ones(1, 6)).sum())


# ---- dropout ----


def test_a_group_of_weights_may_be_added_later():
    """As where a second part of a network is unfrozen."""
    ours, theirs, a, b = pair()
    step(ours, a, 1)
    step(theirs, b, 1)
    more = [nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    for optimizer, weight in zip((a, b), more, strict=True):
        optimizer.add_param_group({"params": [weight]})
    for _ in range(7):
        for optimizer, weight in zip((a, b), more, strict=True):
            weight.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
            optimizer.step()
    torch.testing.assert_close(*more)


@pytest.mark.parametrize("p", [0.3, 0.001, 0.999])
def test_dropout_keeps_the_mean_where_its_probability_is_rounded(p):
    torch.manual_seed(0)
    rounded = round(256 * p) / 256
    out = Dropout(p)(torch.ones(1_000_000))
    if rounded == 1:
        assert not out.any()
    else:
        kept = out[out != 0]
        assert torch.equal(kept, torch.full_like(kept, 1 / (1 - rounded)))
        assert abs(out.mean().item() - 1) < 0.005


def test_dropout_may_drop_all():
    assert not Dropout(1.0)(torch.ones(1000)).any()


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


# ---- memory ----


def test_memory_is_kept_where_a_program_asks_for_it_and_not_by_importing():
    """In processes of their own, since the setting is the whole process's."""
    script = "import qlayer_core.attacks, os; print('THP_MEM_ALLOC_ENABLE' in os.environ)"
    for asked, text in (("", "False"), ("import qlayer_core.fast; qlayer_core.fast.keep_memory();", "True")):
        clean = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
        done = subprocess.run(
            [sys.executable, "-c", asked + script], capture_output=True, text=True, check=True, env=clean
        )
        assert done.stdout.strip() == text


# ---- the plain versions, in float64 ----


@pytest.mark.parametrize("name", MODELS)
def test_answers_and_gradients_are_those_of_the_plain_network(name):
    ours = build(name).double().eval()
    theirs = plain.fill(plain.build(name), ours).double()
    images = torch.rand(3, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    for path in ("q", "e") if name.startswith("q") else (None,):
        options = {"path": path} if path else {}
        logits = [net(images, **options) for net in (ours, theirs)]
        torch.testing.assert_close(*logits)
        if path != "q":
            by_images = [torch.autograd.grad(out.logsumexp(1).sum(), images)[0] for out in logits]
            torch.testing.assert_close(*by_images)


@pytest.mark.parametrize("name", ["cnn", "q-large"])
def test_a_training_step_moves_the_weights_as_the_plain_one_does(name):
    ours = build(name).double()
    for module in ours.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    theirs = plain.fill(plain.build(name), ours).double()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images, labels = torch.rand(4, 1, 28, 28, dtype=torch.float64), torch.arange(4)
    for net in (ours.train(), theirs.train()):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        if net is ours:
            training.step(experiments.spec(name), net, optimizer, images, labels)
        else:
            plain.step(net, optimizer, images, labels)
    expected = plain.fill(plain.build(name).double(), ours)
    for (where, found), wanted in zip(theirs.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, msg=lambda text, where=where: f"{where}: {text}")


def test_codes_are_found_piece_by_piece(monkeypatch):
    """With pieces of 7 panels as with one piece, in every layout of the map."""
    torch.manual_seed(0)
    q_layer, maps = QLayer(6, 5, heads=3).double(), torch.randn(4, 18, 3, 5, dtype=torch.float64)
    panels = maps.permute(0, 2, 3, 1).reshape(-1, 3, 6)  # 60 panels
    expected = torch.stack([torch.cdist(panels[:, h], q_layer.codebook[h]).argmin(1) for h in range(3)])
    for chunk in (7, 60, 10_000):
        monkeypatch.setattr(fast, "CHUNK", chunk)
        for laid_out in (maps, maps.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(q_layer.nearest(laid_out).flatten(1), expected)


# ---- bfloat16 against float32 ----


@pytest.fixture
def own_format(monkeypatch) -> None:
    """The number format that the machine chooses by itself."""
    monkeypatch.delenv("QLAYER_PRECISION")
    if machine.number_format() == "float32":
        pytest.skip("this machine has no number format that is faster than float32")


def test_training_reaches_the_same_validation_accuracy(own_format, train_digits, digits, monkeypatch):
    """Three short runs each way: the means differ by less than the spread over seeds explains."""
    spec = replace(
        experiments.spec("q-base"), epochs=2, selection="clean", batch_size=32, learning_rate=0.003
    )
    validation = {"clean": digits}

    def accuracies() -> list[float]:
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            state = training.train(spec, small_q_net(), train_digits, validation, seed=seed)
            found.append(state.best["score"])
        return found

    quick = accuracies()
    monkeypatch.setenv("QLAYER_PRECISION", "float32")
    full = accuracies()
    noise = ((statistics.variance(quick) + statistics.variance(full)) / 3) ** 0.5
    assert min(quick + full) > 60
    assert abs(statistics.mean(quick) - statistics.mean(full)) <= max(3 * noise, 1.0)


@pytest.mark.parametrize("heads", [1, 4])
def test_losses_in_bfloat16_are_those_of_float32(heads):
    """The losses, and what they pull on, agree to the three digits that bfloat16 has."""
    torch.manual_seed(0)
    q_layer, z = QLayer(64, 64, heads), torch.rand(8, 64, 6, 6)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = q_layer(z)
            codebook_loss, commitment_loss = q_layer.losses(out)
        gradients = torch.autograd.grad(
            codebook_loss + commitment_loss, [q_layer.codebook, q_layer.gate_weight]
        )
        assert codebook_loss.dtype == torch.float32 and codebook_loss == commitment_loss
        found.append((codebook_loss.detach(), *gradients))
    for quick, full in zip(*found, strict=True):
        assert F.cosine_similarity(quick.flatten(), full.flatten(), dim=0) > 0.98
        assert quick.norm() == pytest.approx(full.norm().item(), rel=0.03)
