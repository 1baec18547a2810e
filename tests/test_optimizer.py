"""Our RAdam against the library's."""

import copy

import pytest
import torch
from torch import nn

from qlayer_core.optimizer import RAdam, rectification


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
