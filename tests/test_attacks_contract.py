"""What every attack promises: its box, its refusals, and that it leaves nothing behind."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from attacking import (
    ALONG_A_GRADIENT,
    ATTACKS,
    EACH,
    EACH_ALONG_A_GRADIENT,
    best_corner,
    make_linear,
    make_pixels,
)
from conftest import small_cnn, small_q_net
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qlayer_core import attacks, baselines

# ---- the box ----


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
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_in_half_precision_stay_in_the_box_of_their_own_format(dtype, attack, trained_cnn, digits):
    narrow, x = copy.deepcopy(trained_cnn).to(dtype), digits.images[:40].to(dtype)
    found = attack(narrow, x, eps=0.3)
    assert found.dtype == dtype
    assert found.min() >= 0 and found.max() <= 1
    assert (found >= x - 0.3).all() and (found <= x + 0.3).all()
    assert (narrow(found).argmax(1) != narrow(x).argmax(1)).float().mean() > 0.3


@EACH
def test_autocast_keeps_the_images_format_and_bounds(attack, trained_cnn, digits, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    x = digits.images[:40]
    found = attack(trained_cnn, x, eps=0.3)
    assert found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1 and (found - x).abs().max() <= 0.3 + 1e-6
    assert (trained_cnn(found).argmax(1) != trained_cnn(x).argmax(1)).float().mean() > 0.3


# ---- labels, targets, budgets, batches ----


@EACH
def test_it_fools_the_network_and_without_labels_attacks_its_own_predictions(attack, precise_cnn, few):
    x, truth = few
    own = precise_cnn(x).argmax(1)
    found = attack(precise_cnn, x, eps=0.3)
    assert (precise_cnn(found).argmax(1) != own).float().mean() > 0.3
    assert torch.equal(found, attack(precise_cnn, x, own, eps=0.3))
    others = (truth + 1) % 10
    assert not torch.equal(found, attack(precise_cnn, x, others, eps=0.3))


@pytest.mark.parametrize(
    "name", sorted(ATTACKS.keys() - {"apgd towards each class"})
)  # which chooses its targets itself
def test_a_targeted_attack_comes_nearer_to_its_class(name, precise_cnn, few):
    attack = ATTACKS[name]
    x, truth = few
    wanted = (truth + 1) % 10
    found = attack(precise_cnn, x, wanted, eps=0.3, targeted=True)
    before, after = (precise_cnn(images).log_softmax(1)[torch.arange(40), wanted] for images in (x, found))
    assert (after >= before - 1e-9).float().mean() > 0.9 and after.mean() > before.mean()
    reached = precise_cnn(found).argmax(1) == wanted
    untargeted = precise_cnn(attack(precise_cnn, x, eps=0.3)).argmax(1) == wanted
    assert reached.sum() > untargeted.sum()


def test_a_target_must_be_named():
    with pytest.raises(ValueError, match="labels are missing: a targeted attack needs the classes"):
        attacks.fgsm(make_linear(3), make_pixels(), eps=0.1, targeted=True)


@pytest.mark.parametrize("name", ["fgsm", "bim", "cw"])
def test_one_eps_per_image_gives_what_one_call_per_image_gives(name, precise_cnn, few):
    x, y = few
    eps = torch.linspace(0, 0.4, len(x), dtype=torch.float64)
    together = ATTACKS[name](precise_cnn, x, y, eps=eps, batch_size=16)
    for i, one in enumerate(eps.tolist()):
        alone = ATTACKS[name](precise_cnn, x[i : i + 1], y[i : i + 1], eps=one)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-9)
    assert torch.equal(together[0], x[0]) and not torch.equal(together[-1], x[-1])


def test_one_eps_per_image_leads_pgd_to_the_corner_of_each_ones_box():
    model, x = make_linear(2), make_pixels()
    y, eps = torch.arange(20) % 2, torch.linspace(0, 0.3, 20, dtype=torch.float64)
    best = torch.cat([best_corner(model, *(part[i : i + 1] for part in (x, y, eps))) for i in range(20)])
    found = attacks.pgd(model, x, y, eps=eps, step=0.05, iterations=12, batch_size=7)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


def test_one_eps_may_be_a_number_or_a_tensor_without_dimensions(precise_cnn, few):
    expected = attacks.fgsm(precise_cnn, few[0], eps=0.25)
    for eps in (torch.tensor(0.25), torch.full((40,), 0.25)):
        assert torch.equal(attacks.fgsm(precise_cnn, few[0], eps=eps), expected)


@pytest.mark.parametrize("name", ["fgsm", "bim", "cw"])
def test_the_batch_size_changes_nothing(name, precise_cnn, few):
    together = ATTACKS[name](precise_cnn, few[0], eps=0.2)
    in_batches = ATTACKS[name](precise_cnn, few[0], eps=0.2, batch_size=7)
    torch.testing.assert_close(in_batches, together)


@EACH
def test_of_no_images_come_no_images(attack, precise_cnn, few):
    nothing = few[0][:0]
    assert attack(precise_cnn, nothing, eps=0.2).shape == (0, 1, 28, 28)
    assert attack(precise_cnn, nothing, few[1][:0], eps=torch.zeros(0)).dtype == torch.float64


# ---- nothing is left behind ----


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


@EACH
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_autograd_mode_changes_nothing(mode, attack, precise_cnn, few):
    expected = attack(precise_cnn, few[0], few[1], eps=torch.full((40,), 0.2))
    with mode():
        found = attack(precise_cnn, few[0].clone(), few[1].clone(), eps=torch.full((40,), 0.2))
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.equal(found, expected) and not found.is_inference()


# ---- paths ----


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
@EACH_ALONG_A_GRADIENT
def test_the_quantized_path_without_gradient_is_no_silent_success(attack, frozen, few):
    net = small_q_net().double().eval().requires_grad_(not frozen)
    with pytest.raises(ValueError, match=r"no gradient in the images.*partial\(net, path='e'\)"):
        attack(net, few[0], eps=0.1)


def test_an_attack_that_finds_no_gradient_says_of_how_many_images():
    """A ReLU that is off for the dark images: their logits are constant."""
    weight = torch.tensor([[1.0], [-1.0]])

    def model(images: Tensor) -> Tensor:
        return (images.mean(1, keepdim=True) - 0.5).relu() @ weight.T + torch.tensor([0.3, 0.0])

    x = torch.cat([torch.full((3, 12), 0.2), torch.full((4, 12), 0.8)])
    for name, attack in ALONG_A_GRADIENT.items():
        with pytest.warns(attacks.UnmovedWarning, match="^3 of 7 images were not attacked.*another path"):
            found = attack(model, x, eps=0.25, batch_size=2)
        if name in ("fgsm", "bim", "cw"):  # the others start at random
            assert torch.equal(found[:3], x[:3])


def test_what_a_random_start_fooled_or_moved_onto_a_slope_was_attacked():
    """A ReLU that is off below 0.5, and an answer that turns above it: a start may cross."""

    def model(images: Tensor) -> Tensor:
        slope = (images[:, :1] - 0.5).relu()
        return torch.cat([torch.full_like(slope, 0.001), slope], 1)

    x = torch.full((40, 1), 0.45)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = attacks.pgd(model, x[:1], eps=0.4, restarts=20)
    assert far.item() > 0.5  # it found the slope, and climbed
    with pytest.warns(attacks.UnmovedWarning, match="^(?!40)[0-9]+ of 40 images"):
        found = attacks.pgd(model, x, eps=0.1)
    assert 0 < (found <= 0.5).sum() < 40


def test_a_random_start_that_fooled_a_network_without_any_slope_was_an_attack():
    def model(images: Tensor) -> Tensor:
        return torch.cat([torch.full_like(images, 0.5), (images > 0.5).float()], 1) + 0 * images

    x = torch.full((40, 1), 0.45)
    with pytest.warns(attacks.UnmovedWarning) as warned:
        found = attacks.pgd(model, x, eps=0.1)
    left = int((found <= 0.5).sum())
    assert 0 < left < 40 and str(warned[0].message).startswith(f"{left} of 40 images were not attacked")


@EACH_ALONG_A_GRADIENT
def test_nothing_is_said_of_images_that_may_not_move(attack):
    x = make_pixels(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attack(lambda images: 0 * images[:, :3], x, eps=0.0)
    assert torch.equal(found, x)


# ---- refusals ----


class BadInput(NamedTuple):
    """One way to break the contract, and what the error says."""

    error: type[Exception]
    message: str
    images: Tensor = torch.full((2, 12), 0.5, dtype=torch.float64)
    labels: Tensor | None = None
    eps: float | Tensor = 0.1


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
    "numpy images": BadInput(
        TypeError,
        r"images are a numpy.ndarray; give a tensor, such as torch.as_tensor\(images\)",
        np.full((2, 12), 0.5),
    ),
    "one image": BadInput(ValueError, r"images have shape \(12,\); give \(N, ...\)", torch.full((12,), 0.5)),
    "a list of labels": BadInput(TypeError, "labels are a list; give a tensor", labels=[0, 1]),
    "numpy labels": BadInput(TypeError, "labels are a numpy.ndarray; give a tensor", labels=np.array([0, 1])),
    "a list of eps": BadInput(TypeError, "eps is a list; give one number, or a tensor", eps=[0.1, 0.2]),
    "numpy eps": BadInput(TypeError, "eps is a numpy.ndarray; give one number", eps=np.array([0.1, 0.2])),
    "negative eps": BadInput(ValueError, r"eps is -0.1; it must lie in \[0, 1\]", eps=-0.1),
    "eps of bytes": BadInput(ValueError, r"eps is 51; .*in units of the pixel range", eps=51),
    "eps NaN": BadInput(ValueError, r"eps is nan; it must lie in \[0, 1\]", eps=float("nan")),
    "an eps too many": BadInput(
        ValueError, r"eps has shape \(3,\); .*one per image, shape \(2,\)", eps=torch.full((3,), 0.1)
    ),
    "a negative one among them": BadInput(
        ValueError, r"eps runs from -0.1 to 0.1; it must lie in \[0, 1\]", eps=torch.tensor([0.1, -0.1])
    ),
    "NaN among them": BadInput(
        ValueError, r"eps runs from nan .*it must lie in \[0, 1\]", eps=torch.tensor([0.1, float("nan")])
    ),
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


@pytest.mark.parametrize(
    "attack, options, message",
    [
        (attacks.fgsm, {"batch_size": -1}, "batch_size is -1; it must be a whole number, at least 1"),
        (attacks.fgsm, {"batch_size": 0}, "batch_size is 0; it must be a whole number, at least 1"),
        (attacks.fgsm, {"batch_size": 2.5}, "batch_size is 2.5; it must be a whole number, at least 1"),
        (attacks.bim, {"iterations": -1}, "iterations is -1; it must be a whole number, at least 0"),
        (attacks.bim, {"iterations": 1.5}, "iterations is 1.5; it must be a whole number, at least 0"),
        (attacks.bim, {"step": 0.0}, "step is 0.0; it must be greater than 0"),
        (attacks.bim, {"step": float("nan")}, "step is nan; it must be greater than 0"),
        (attacks.bim, {"step": float("inf")}, "step is inf; it must be greater than 0, and finite"),
        (attacks.pgd, {"step": float("inf")}, "step is inf; it must be greater than 0, and finite"),
        (attacks.pgd, {"restarts": 0}, "restarts is 0; it must be a whole number, at least 1"),
        (attacks.cw_linf, {"halvings": -1}, "halvings is -1; it must be a whole number, at least 0"),
        (attacks.cw_linf, {"doublings": 0.5}, "doublings is 0.5; it must be a whole number, at least 0"),
        (attacks.cw_linf, {"learning_rate": -0.01}, "learning_rate is -0.01; it must be greater than 0"),
        (attacks.cw_linf, {"learning_rate": float("inf")}, "learning_rate is inf; .* and finite"),
        (attacks.cw_linf, {"confidence": -1.0}, "confidence is -1.0; it must be at least 0"),
        (
            attacks.cw_linf,
            {"confidence": float("inf")},
            "confidence is inf; it must be at least 0, and finite",
        ),
        (baselines.ls_pga, {"cooling": 0.0}, "cooling is 0.0; it must be greater than 0"),
    ],
)
def test_numbers_out_of_range_are_refused(attack, options, message):
    with pytest.raises(ValueError, match=message):
        attack(make_linear(3), make_pixels(), eps=0.1, **options)


class Elsewhere(torch.Generator):
    """A generator as a GPU has it."""

    device = torch.device("cuda:0")


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd, attacks.apgd_targeted, attacks.square])
@pytest.mark.parametrize(
    "generator, error, message",
    [
        (Elsewhere(), ValueError, "generator is on cuda:0; give one on the CPU"),
        (0, TypeError, r"generator is of type int; give torch.Generator\(\).manual_seed\(0\)"),
    ],
)
def test_draws_come_from_a_generator_of_the_cpu(generator, error, message, attack):
    with pytest.raises(error, match=message):
        attack(make_linear(3), make_pixels(), eps=0.1, generator=generator)


@EACH
def test_a_model_in_training_mode_is_refused_whatever_wraps_it(attack, few):
    x = few[0][:2]
    plain, with_layer = small_cnn().double(), small_q_net().double()
    wrapped = (
        plain,
        partial(with_layer, path="e"),
        partial(partial(with_layer), path="e"),
        lambda images: plain(images),
        plain.forward,
        partial(with_layer.forward, path="e"),
        lambda images: nn.functional.relu(partial(with_layer, path="e")(images)),
    )
    for model in wrapped:
        with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
            attack(model, x, eps=0.1)


class Alone(nn.Module):
    """A linear model that is made of no other modules, so that nothing is called when its forward is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3, 12, dtype=torch.float64))

    def forward(self, images: Tensor, scale: float = 1.0) -> Tensor:
        return nn.functional.dropout(images, training=self.training) @ self.weight.T * scale


@EACH
def test_a_network_in_training_mode_is_found_in_what_calls_its_forward(attack):
    net = Alone().train()
    for model in (net.forward, partial(net.forward, scale=2), partial(partial(net.forward), scale=2)):
        with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
            attack(model, make_pixels(), eps=0.1)
    attack(partial(net.eval().forward, scale=2), make_pixels(), eps=0.1)


def test_another_thread_may_train_meanwhile(few):
    ours, theirs = small_cnn().double().eval(), small_cnn().double().train()

    def answer(images: Tensor) -> Tensor:
        with ThreadPoolExecutor() as pool:
            pool.submit(theirs, images).result()
        return ours(images)

    assert torch.equal(attacks.fgsm(answer, few[0], eps=0.1), attacks.fgsm(ours, few[0], eps=0.1))


@EACH
def test_one_module_in_training_mode_is_enough(attack, few):
    """Batch normalisation would move its running statistics, behind whatever wraps it."""
    model = nn.Sequential(nn.BatchNorm2d(1), small_cnn()).double().eval()
    model[0].train()
    before = model[0].running_mean.clone()
    for wrapped in (model, lambda images: model(images), model.forward):
        with pytest.raises(ValueError, match=r"training mode.*running statistics move"):
            attack(wrapped, few[0][:2], eps=0.1)
    assert torch.equal(model[0].running_mean, before) and model[0].training


ANSWERS = {
    "NaN": (lambda z: z * float("nan"), ValueError, "logits hold NaN or infinity"),
    "infinite": (lambda z: z / 0, ValueError, "logits hold NaN or infinity"),
    "one logit": (lambda z: z[:, :1], ValueError, r"shape \(1, 1\).*give a single logit z as the two"),
    "a number per image": (lambda z: z[:, 0], ValueError, r"shape \(1,\); attacks need logits"),
    "a tuple": (
        lambda z: (z, None),
        TypeError,
        r"answers with a tuple; .*lambda images: model\(images\)\[0\]",
    ),
    "a dict": (lambda z: {"logits": z}, TypeError, r"answers with a dict; attacks need its logits"),
}


@EACH
@pytest.mark.parametrize("answer, error, message", ANSWERS.values(), ids=ANSWERS)
def test_answers_that_are_no_logits_are_refused(answer, error, message, attack):
    model = make_linear(3)
    with pytest.raises(error, match=message):
        attack(lambda images: answer(model(images)), make_pixels(), eps=0.1)


@pytest.mark.parametrize("path", ["q", "e", "straight-through"])
def test_features_without_a_number_are_refused_though_a_code_is_nearest_to_them(path, few):
    net = small_q_net().eval()
    net.encoder[0].weight.data.fill_(torch.nan)
    some = few[0][:2].float()
    assert net(some).isfinite().all()
    with pytest.raises(ValueError, match=r"(features|logits) hold NaN or infinity"):
        attacks.fgsm(partial(net, path=path), some, eps=0.1)


@EACH
@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_a_network_that_answers_nan_to_some_images_only_is_refused_too(batch_size, attack):
    model, x = make_linear(3), make_pixels() * 0.5
    x[4, 0] = 1.0

    def broken(images: Tensor) -> Tensor:
        return torch.where(images[:, :1] > 0.8, torch.nan, 1.0) * model(images)

    with pytest.raises(ValueError, match="NaN or infinit"):
        attack(broken, x, eps=0.1, batch_size=batch_size)
