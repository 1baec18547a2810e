"""Training: what it learns from, what it keeps, and that it can be killed at any moment."""

import copy
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from conftest import small_cnn, small_q_net
from torch import Tensor, nn
from torch.nn import functional as F

from qlayer_core import attacks, data, datasets, loop, machine, models, training
from qlayer_core.layer import QLayer
from qlayer_core.specs import LayerSpec, RunSpec
from qlayer_core.study import fitting, records

CNN = RunSpec("cnn", batch_size=64, learning_rate=0.02, decay=0.9, epochs=2)
LAYERED = replace(CNN, name="q-base", layer=LayerSpec())
BOTH = pytest.mark.parametrize("spec", [CNN, LAYERED], ids=["cnn", "q-base"])
SEED = 3


@cache
def split(n: int, name: str = "train") -> data.Split:
    """The first digits of a split of MNIST."""
    return data.load("mnist", name, limit=n)


@pytest.fixture(scope="module")
def some() -> data.Split:
    """300 digits to train on."""
    return split(300)


@pytest.fixture(scope="module")
def judges() -> dict[str, data.Split]:
    """Three validation sets of 60 digits, the second and third ever darker."""
    images, labels = split(60, name="validation")
    return {f"{light:g}": data.Split(images * light, labels) for light in (0.6, 0.3)} | {
        "clean": data.Split(images, labels)
    }


def network(spec: RunSpec, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return small_cnn() if spec.layer is None else small_q_net(**options)


def weights(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# ---- it learns ----


@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
@BOTH
def test_losses_fall_on_real_digits_in_both_number_formats(spec, number_format, judges, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", number_format)
    model = network(spec)
    state = training.train(replace(spec, batch_size=32, epochs=4), model, split(1000), judges, seed=SEED)
    first, last = (state.history[i]["losses"] for i in (0, -1))
    for path in (None,) if spec.layer is None else ("q", "e"):
        assert last[path or "e"] < 0.8 * first[path or "e"]
        assert state.best["accuracy"][path]["clean"] > 50  # chance is 10
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in weights(model))
    assert all(tensor.isfinite().all() for tensor in weights(model))
    assert not model.training


def test_bfloat16_is_used_where_it_is_asked_for(some, judges, monkeypatch):
    trained = {}
    for number_format in ("float32", "bfloat16"):
        monkeypatch.setenv("QLAYER_PRECISION", number_format)
        trained[number_format] = network(CNN)
        training.train(CNN, trained[number_format], some, judges, seed=SEED)
    assert not same_weights(*trained.values())


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("inactive", ["pull", "reinitialize"])
def test_the_papers_network_trains_in_bfloat16(gate, inactive, judges, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    layer = LayerSpec(heads=2, codebook_size=16, gate=gate, start="k-means")
    spec = RunSpec("q", layer=layer, inactive=inactive, batch_size=16, epochs=1)
    model = models.build(spec)
    few = {name: judge.first(8) for name, judge in judges.items()}
    state = training.train(spec, model, split(32), few, seed=SEED)
    assert len(state.history[0]["inactive"]) == 2
    assert all(torch.isfinite(torch.tensor(list(state.history[0]["losses"].values()))))


def test_one_step_follows_the_gradient_of_equation_7(some):
    spec = RunSpec("q", layer=LayerSpec(), alpha=0.3, beta=0.7)
    model = small_q_net().double()
    model.encoder[-1].p = 0.0
    images, labels = some.images[:16].double(), some.labels[:16]
    before = copy.deepcopy(model)
    losses = training.step(spec, model, torch.optim.SGD(model.parameters(), lr=0.1), images, labels)

    out = before(images, path="both")
    difference = out.layer.quantized - out.layer.projected
    distance = partial(torch.sum, dim=1)
    codebook = distance((out.layer.quantized - out.layer.projected.detach()).square()).mean()
    commitment = distance((out.layer.quantized.detach() - out.layer.projected).square()).mean()
    q, e = F.cross_entropy(out.q, labels), F.cross_entropy(out.e, labels)
    (q + e + 0.3 * codebook + 0.7 * commitment).backward()
    for moved, start in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(moved, start - 0.1 * start.grad)
    expected = {"q": q, "e": e, "codebook": codebook, "commitment": commitment}
    assert losses.keys() == expected.keys() and not any(loss.requires_grad for loss in losses.values())
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item())
    assert codebook.item() == pytest.approx(difference.square().sum(1).mean().item())


@pytest.mark.parametrize("form", ["squared", "linear", "none"])
def test_the_commitment_term_has_the_form_that_the_run_names(form, some):
    spec = RunSpec("q", layer=LayerSpec(), beta=0.5, commitment=form)
    model = small_q_net().double().eval()
    images, labels = some.images[:8].double(), some.labels[:8]
    terms = training.losses(spec, model, images, labels)
    assert terms["commitment"][0] == 0.5
    expected = model.layer.losses(model(images, path="both").layer, form)[1]
    assert terms["commitment"][1].item() == pytest.approx(expected.item())


def test_l2_is_on_the_first_linear_matrix_of_a_plain_network_alone(some):
    spec = RunSpec("cnn", l2=0.25)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))
    terms = training.losses(spec, model, *some.first(8))
    assert terms["l2"][0] == 0.25
    assert terms["l2"][1].item() == pytest.approx(model[1].weight.square().sum().item())
    assert set(training.losses(replace(spec, l2=0.0), model, *some.first(8))) == {"e"}


def test_what_pulls_the_encoder_is_the_gradient_of_each_loss_there(some):
    spec = RunSpec("q", layer=LayerSpec(), beta=0.7)
    model = small_q_net().train()
    found = training.forces(spec, model, some.first(16))
    assert model.training and not model.layer.usage.any()
    model.eval()
    out = model(some.images[:16], path="both")
    pulls = {
        "pull of e": F.cross_entropy(out.e, some.labels[:16]),
        "pull of commitment": 0.7 * model.layer.losses(out.layer)[1],
    }
    for name, loss in pulls.items():
        slopes = torch.autograd.grad(loss, list(model.encoder.parameters()), retain_graph=True)
        length = torch.cat([slope.flatten() for slope in slopes]).norm().item()
        assert found[name] == pytest.approx(length, rel=1e-4)
    panels = out.layer.projected.unflatten(1, (2, 8))
    assert found["feature norm"] == pytest.approx(panels.norm(dim=2).mean().item(), rel=1e-5)
    assert training.forces(replace(spec, commitment="none"), model, some.first(16))["pull of commitment"] == 0


# ---- what it learns from ----


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Every call of `training.step` with the network as it was then, and the learning rate."""
    calls = []
    real_step = training.step

    def spy(spec, model, optimizer, images, labels):
        call = {"images": images, "labels": labels, "model": copy.deepcopy(model)}
        calls.append(call | {"lr": optimizer.param_groups[0]["lr"], "training": model.training})
        return real_step(spec, model, optimizer, images, labels)

    monkeypatch.setattr(training, "step", spy)
    return calls


def clean_rows(images: Tensor, among: Tensor) -> Tensor:
    """Which clean image each image was made from: the nearest in L-infinity."""
    return torch.cdist(images.flatten(1), among.flatten(1), p=torch.inf).argmin(1)


def test_an_epoch_shows_every_image_once_in_a_new_order(seen, some, judges):
    training.train(CNN, network(CNN), some, judges, seed=SEED)
    assert [len(call["labels"]) for call in seen] == 2 * [64, 64, 64, 64, 44]
    orders = [
        torch.cat([clean_rows(call["images"], some.images) for call in seen[first : first + 5]])
        for first in (0, 5)
    ]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(300))
    assert not torch.equal(*orders) and not torch.equal(orders[0], torch.arange(300))
    for call in seen:
        assert call["training"]
        rows = clean_rows(call["images"], some.images)
        assert torch.equal(some.images[rows], call["images"]) and torch.equal(
            some.labels[rows], call["labels"]
        )


@pytest.mark.parametrize("loss", ["clipped", "ce"])
@BOTH
def test_adversarial_training_sees_fgsm_images_of_the_current_e_path(spec, loss, seen, some, judges):
    spec = replace(spec, adversarial=True, batch_size=100, epochs=1, adversarial_loss=loss)
    state = training.train(spec, network(spec), some, judges, seed=SEED, adversarial_eps=0.2)
    assert len(seen) == 3 and state.history[0]["unmoved"] == 0
    for call in seen:
        assert call["training"]
        rows = clean_rows(call["images"], some.images)
        assert torch.equal(rows.sort().values.unique(), rows.sort().values)
        assert torch.equal(some.labels[rows], call["labels"])
        then = call["model"].eval()
        e_path = then if spec.layer is None else partial(then, path="e")
        expected = attacks.fgsm(e_path, some.images[rows], eps=0.2, loss=loss)
        torch.testing.assert_close(call["images"], expected)
        assert (call["images"] - some.images[rows]).abs().max().item() == pytest.approx(0.2)


def test_images_of_which_the_network_is_sure_stay_clean_in_adversarial_training(seen, some, judges):
    """The clipped gradient is zero where the label's probability exceeds 1 - 1e-7."""
    spec = replace(CNN, adversarial=True, batch_size=100, epochs=1, learning_rate=0.0)
    sure = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with torch.no_grad():
        sure[1].weight.zero_()
        sure[1].bias.copy_(torch.tensor([40.0] + 9 * [0.0]))
    state = training.train(spec, sure, some, judges, seed=SEED, adversarial_eps=0.2)
    assert state.history[0]["unmoved"] == 100
    assert all(torch.isin(call["images"], some.images).all() for call in seen)


def test_l2_of_a_network_without_a_linear_layer_is_refused(some, judges):
    bare = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    with pytest.raises(
        ValueError, match=r"spec.l2 is 0.1, but the network has no linear layer .* set it to 0"
    ):
        training.train(replace(CNN, l2=0.1), bare, some, judges, seed=SEED)


def test_adversarial_training_without_a_bound_is_refused(some, judges):
    spec = replace(CNN, adversarial=True)
    with pytest.raises(ValueError, match="adversarial_eps is missing: adversarial training needs the bound"):
        training.train(spec, network(spec), some, judges, seed=SEED)


@pytest.mark.parametrize("eps", [8, -0.1, float("nan")])
def test_adversarial_training_beyond_the_pixel_range_is_refused(eps, some, judges):
    spec = replace(CNN, adversarial=True)
    with pytest.raises(ValueError, match=rf"adversarial_eps is {eps}; it must lie in \[0, 1\]"):
        training.train(spec, network(spec), some, judges, seed=SEED, adversarial_eps=eps)


def test_a_training_that_could_not_learn_is_refused_before_it_begins(some, judges):
    (images, labels), net = some, network(CNN)
    before = [tensor.clone() for tensor in weights(net)]
    for train_set, says in (
        (data.Split(images * 255, labels), r"images range from 0 to 255; they must lie in \[0, 1\]"),
        (data.Split(images, labels.float()), "labels have dtype torch.float32"),
        (some.first(300)._replace(images=images[:0], labels=labels[:0]), "N at least 1"),
    ):
        with pytest.raises(ValueError, match=says):
            training.train(CNN, net, train_set, judges, seed=SEED)
    with pytest.raises(ValueError, match="validation has dark; it needs one that is called 'clean'"):
        training.train(CNN, net, some, {"dark": judges["0.3"]}, seed=SEED)
    with pytest.raises(ValueError, match="selection is 'claen'; choose one of mixed, clean"):
        training.train(replace(CNN, selection="claen"), net, some, judges, seed=SEED)
    around = nn.Sequential(nn.Identity(), small_q_net())
    with pytest.raises(ValueError, match=r"a Sequential around a Q-Layer.*into the encoder of a QNet"):
        training.train(CNN, around, some, judges, seed=SEED)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True))


def test_a_network_that_answers_with_no_logits_is_refused_before_training(some, judges):
    class Tuple(nn.Sequential):
        def forward(self, images: Tensor) -> tuple:
            return super().forward(images), None

    with pytest.raises(TypeError, match=r"answers with a tuple; training needs its logits.* or a module"):
        training.train(CNN, Tuple(small_cnn()), some, judges, seed=SEED)
    with pytest.raises(ValueError, match=r"1 image with shape \(1, 1\); training needs logits"):
        training.train(CNN, nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), some, judges, seed=SEED)


@pytest.mark.parametrize("which", ["train", "validation"])
@BOTH
def test_a_label_that_is_none_of_the_classes_is_refused_before_training(spec, which, some, judges):
    wrong = some._replace(labels=some.labels + 2)
    train_set, validation = (wrong, judges) if which == "train" else (some, judges | {"wrong": wrong})
    with pytest.raises(ValueError, match="labels run from 2 to 11; the model has classes 0 to 9"):
        training.train(spec, network(spec), train_set, validation, seed=SEED)


@pytest.mark.parametrize(
    "until, changed",
    [(0, {}), (-1, {})]
    + [
        (None, {name: count})
        for name, count in (
            ("epochs", 0),
            ("epochs", -1),
            ("patience", 0),
            ("patience", -1),
            ("batch_size", 0),
            ("batch_size", -1),
        )
    ],
)
def test_a_training_of_no_epoch_or_no_image_is_refused(until, changed, some, judges):
    ((name, count),) = (changed or {"until": until}).items()
    with pytest.raises(ValueError, match=f"{name} is {count}; it must be a whole number, at least 1"):
        training.train(replace(CNN, **changed), network(CNN), some, judges, seed=SEED, until=until)


@BOTH
def test_a_training_that_ran_away_says_so_instead_of_going_on(spec, some, judges):
    wild = replace(spec, learning_rate=1e20)
    with pytest.raises(ValueError, match=r"in epoch [12] the loss '\w+' is (nan|inf): the weights are lost"):
        training.train(wild, network(spec), some, judges, seed=SEED)


@pytest.mark.parametrize(
    "spec, net, says",
    [
        (
            CNN,
            small_q_net,
            "has a Q-Layer, but spec.layer is None, by which it would be trained as if it had no",
        ),
        (LAYERED, small_cnn, r"has no Q-Layer, but spec.layer is LayerSpec\(.*as if it had one"),
    ],
)
def test_a_network_is_not_trained_as_another_kind(spec, net, says, some, judges):
    with pytest.raises(ValueError, match=says):
        training.train(spec, net(), some, judges, seed=SEED)


def test_the_learning_rate_falls_by_its_decay_every_ten_epochs(seen, some, judges):
    spec = replace(CNN, batch_size=100, epochs=2, learning_rate=0.004, decay=0.5)
    training.train(spec, network(spec), some, judges, seed=SEED)
    assert [call["lr"] for call in seen] == pytest.approx([0.004 * 0.5 ** (t / 30) for t in range(6)])
    assert training.learning_rate(spec, 10) == pytest.approx(0.002)
    stairs = replace(spec, staircase=True)
    rates = [training.learning_rate(stairs, epochs) for epochs in (0, 9.99, 10, 19, 20)]
    assert rates == pytest.approx([0.004, 0.004, 0.002, 0.002, 0.001])


@pytest.mark.parametrize("name, kind", [("radam", "RAdam"), ("adam", "Adam")])
def test_the_optimizer_is_the_one_that_the_run_names(name, kind):
    model = small_cnn()
    optimizer = training.optimizer_of(replace(CNN, optimizer=name), model)
    assert type(optimizer).__name__ == kind
    with pytest.raises(ValueError, match="optimizer is 'sgd'; choose 'radam' or 'adam'"):
        training.optimizer_of(replace(CNN, optimizer="sgd"), model)


# ---- selection and when to stop ----


@pytest.mark.parametrize("selection", ["mixed", "clean"])
@BOTH
def test_the_best_validation_is_kept(spec, selection, some, judges):
    spec = replace(spec, selection=selection, epochs=6, learning_rate=0.2)
    model, rows = network(spec), []

    def ruin_after_the_fifth(row: dict) -> None:
        rows.append(row)
        if len(rows) == 5:
            model.load_state_dict({name: tensor * 0 for name, tensor in model.state_dict().items()})

    state = training.train(spec, model, some, judges, seed=SEED, report=ruin_after_the_fifth)

    assert rows == state.history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    path = "q" if spec.layer else None
    for row in rows:
        by_set = row["accuracy"][path]
        clean, weak, strong = by_set["clean"], by_set["0.6"], by_set["0.3"]
        mixed = clean / 2 + weak / 4 + strong / 4
        assert row["score"] == pytest.approx(clean if selection == "clean" else mixed)
        assert ("inactive" in row) == ("feature norm" in row) == (spec.layer is not None)
    scores = [row["score"] for row in rows]
    assert state.best == rows[scores.index(max(scores))]
    assert max(scores) > scores[-1]

    found = {}
    for name, (images, labels) in judges.items():
        with torch.no_grad():
            found[name] = 100 * (model(images).argmax(1) == labels).double().mean().item()
    assert found == pytest.approx(state.best["accuracy"][path])


def test_training_stops_after_patience_epochs_without_a_better_score(some, judges):
    still = replace(CNN, batch_size=100, epochs=20, patience=3, learning_rate=0.0)
    state = training.train(still, network(still), some, judges, seed=SEED)
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]  # the first is the best, then three more
    assert state.best["epoch"] == 1


def test_training_stops_after_its_epochs(some, judges):
    state = training.train(CNN, network(CNN), some, judges, seed=SEED)
    assert state.epoch == len(state.history) == CNN.epochs


def test_a_run_can_pause_and_go_on(tmp_path, some, judges):
    spec, path = replace(CNN, epochs=4), tmp_path / "checkpoint.pt"
    paused = training.train(spec, network(CNN), some, judges, seed=SEED, checkpoint=path, until=2)
    assert paused.epoch == 2
    continued, straight = network(CNN, seed=9), network(CNN)
    state = training.train(spec, continued, some, judges, seed=SEED, checkpoint=path)
    assert state.history == training.train(spec, straight, some, judges, seed=SEED).history
    assert same_weights(continued, straight) and state.history[:2] == paused.history


def test_the_mixed_validation_set_is_fgsm_on_the_source(trained_cnn):
    clean = split(50, name="validation")
    sets = training.validation_sets("mnist", trained_cnn, (0.2, 0.3), limit=50)
    assert list(sets) == ["clean", "fgsm 0.2", "fgsm 0.3"]
    assert torch.equal(sets["clean"].images, clean.images)
    for eps in datasets.find("mnist").epsilons:
        expected = attacks.fgsm(trained_cnn, clean.images, eps=eps)
        assert torch.equal(sets[f"fgsm {eps}"].images, expected)
        assert torch.equal(sets[f"fgsm {eps}"].labels, clean.labels)
    assert list(training.validation_sets("fashion-mnist", trained_cnn, (0.1, 0.2), limit=2)) == [
        "clean",
        "fgsm 0.1",
        "fgsm 0.2",
    ]
    assert list(training.validation_sets("mnist", None, (0.2,), limit=2)) == ["clean"]
    assert len(training.validation_sets("mnist", None, ())["clean"].labels) == 10_000


# ---- the same numbers again, also after a kill ----

RESUMED = RunSpec("q", layer=LayerSpec(start="k-means"), batch_size=64, epochs=4, learning_rate=0.005)


def run(
    checkpoint: Path | None, *, weights_seed: int = 0, seed: int = SEED, **options
) -> tuple[nn.Module, loop.State]:
    model = network(RESUMED, weights_seed, start="k-means")
    judge = {"clean": split(40, "validation")}
    return model, training.train(
        RESUMED, model, split(300), judge, seed=seed, checkpoint=checkpoint, **options
    )


def test_two_runs_agree_bit_for_bit():
    (first, state), (second, again) = run(None), run(None)
    assert same_weights(first, second) and state.history == again.history
    assert not same_weights(first, run(None, seed=SEED + 1)[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("adversarial", [False, True])
def test_the_caller_s_autograd_mode_changes_nothing_in_training(mode, adversarial, some, judges):
    spec = replace(LAYERED, adversarial=adversarial, epochs=1)
    nets = network(spec), network(spec)
    expected = training.train(spec, nets[0], some, judges, seed=SEED, adversarial_eps=0.2)
    with mode():
        here = data.Split(some.images.clone(), some.labels.clone())
        state = training.train(spec, nets[1], here, judges, seed=SEED, adversarial_eps=0.2)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert state.history == expected.history and same_weights(*nets)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_autograd_mode_changes_nothing_in_the_pulls(mode, some):
    model, few = network(LAYERED), some.first(8)
    expected = training.forces(LAYERED, model, few)
    with mode():
        assert training.forces(LAYERED, model, data.Split(*(part.clone() for part in few))) == expected
    assert expected["pull of e"] > 0 < expected["pull of commitment"]


def test_training_leaves_the_random_numbers_of_others_alone(some, judges):
    model = network(CNN)
    before = torch.get_rng_state()
    training.train(CNN, model, some, judges, seed=SEED)
    assert torch.equal(torch.get_rng_state(), before)


def test_on_a_gpu_too_the_random_numbers_of_others_are_left_alone(some, judges, monkeypatch):
    model, states = network(CNN), {0: "theirs"}  # of one card, whose state is what was last done to it
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": states[0])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda": states.update({0: state}))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: states.update({0: seed}))
    with machine.seeded(7):
        assert states == {0: 7}
    assert states == {0: "theirs"}
    training.train(CNN, model, some, judges, seed=SEED)
    assert states == {0: "theirs"}


@pytest.mark.parametrize("encoder", ["frozen", "nothing to learn"])
def test_an_encoder_that_does_not_learn_is_not_pulled(encoder, some, judges):
    model = network(LAYERED)
    if encoder == "frozen":
        model.encoder.requires_grad_(False)
    else:
        model = models.QNet(
            nn.Identity(), QLayer(1, 4), *(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)) for _ in "qe")
        )
    found = training.train(replace(LAYERED, epochs=1), model, some, judges, seed=SEED)
    assert found.history[0]["pull of e"] == found.history[0]["pull of commitment"] == 0


def test_each_part_keeps_its_mode_while_the_pulls_are_measured(some):
    model = network(LAYERED).train()
    model.encoder[2].eval()
    training.forces(LAYERED, model, some.first(4))
    assert model.training and not model.encoder[2].training


def test_a_network_in_double_precision_can_be_trained_adversarially(some, judges):
    double = data.Split(some.images.double(), some.labels)
    spec = replace(LAYERED, name="q-base-adv", adversarial=True, epochs=1)
    validation = {name: data.Split(images.double(), labels) for name, (images, labels) in judges.items()}
    training.train(spec, network(LAYERED).double(), double, validation, seed=SEED, adversarial_eps=0.3)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in(epoch: int) -> None:
    """Kill this process at the third step of an epoch."""
    real_step, steps = training.step, 0

    def step(*arguments):
        nonlocal steps
        steps += 1
        if steps == 3 + 5 * epoch:
            _die()
        return real_step(*arguments)

    training.step = step


def _die_while_saving_epoch(epoch: int, content: dict, path: Path) -> None:
    torch.serialization.save(content, path)
    if content["state"]["epoch"] == epoch:
        os.truncate(path, path.stat().st_size // 2)
        _die()


DEATHS = {  # moment: epochs that the child finishes before it dies in the next, None if it dies in the writing
    "in the first epoch": 0,
    "while it writes the checkpoint of the second": None,
    "in the third epoch": 1,  # the first was finished before
}


def die_three_times(checkpoint: str) -> None:
    """Run in a process of its own: start the run three times, each in a child that is killed."""
    torch.set_num_threads(1)
    path = Path(checkpoint)
    split(300), split(40, "validation")  # read once, before the children part
    for moment, epochs in DEATHS.items():
        if (child := os.fork()) == 0:
            if epochs is None:
                torch.save = partial(_die_while_saving_epoch, 2)
            else:
                _die_in(epochs)
            run(path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        kept = torch.load(path)["state"]["epoch"] if path.exists() else None
        print(moment, "killed" if killed else "not killed", kept, sep=": ", flush=True)


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_weights(tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    script = f"import test_training; test_training.die_three_times({str(checkpoint)!r})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=Path(__file__).parent, check=True, stdout=subprocess.PIPE, text=True)
    # Each kill loses the epoch under way, and nothing else.
    assert done.stdout.splitlines() == [
        "in the first epoch: killed: None",
        "while it writes the checkpoint of the second: killed: 1",
        "in the third epoch: killed: 2",
    ]
    rows = []
    continued, state = run(checkpoint, weights_seed=9, report=rows.append)
    straight, expected = run(None)
    assert [row["epoch"] for row in rows] == [3, 4]
    assert state.history == expected.history and state.best == expected.best
    assert same_weights(continued, straight)


def test_a_finished_run_is_not_trained_again(tmp_path, seen):
    finished, state = run(tmp_path / "checkpoint.pt")
    seen.clear()
    loaded, again = run(tmp_path / "checkpoint.pt", weights_seed=9)
    assert seen == [] and same_weights(finished, loaded) and again == state


def test_a_checkpoint_of_other_settings_is_refused(tmp_path, some, judges):
    path = tmp_path / "checkpoint.pt"
    training.train(CNN, network(CNN), some, judges, seed=SEED, checkpoint=path)
    other = replace(CNN, decay=CNN.decay / 2)
    for spec, seed in ((other, SEED), (CNN, SEED + 1)):
        with pytest.raises(
            ValueError, match=r"checkpoint.pt is from a run with other settings: delete it to start"
        ):
            training.train(spec, network(CNN), some, judges, seed=seed, checkpoint=path)
    with pytest.raises(ValueError, match="other settings"):  # of other images
        training.train(CNN, network(CNN), split(200), judges, seed=SEED, checkpoint=path)


def test_a_damaged_checkpoint_is_refused_in_words(tmp_path, some, judges):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half of a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged: delete it"):
        training.train(CNN, network(CNN), some, judges, seed=SEED, checkpoint=str(path))


@pytest.mark.parametrize("name, draws", [("cnn", True), ("cnn-same-training", False)])
def test_a_run_without_dropout_trains_with_none(name, draws):
    torch.manual_seed(0)
    net = fitting.untrained(records.unit("mnist", name), None).train()
    images = split(8).images
    one, two = net(images), net(images)
    assert torch.equal(one, two) != draws
    assert torch.equal(net.eval()(images), one) != draws
