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

from qlayer_core import attacks, data, models, training
from qlayer_core.experiments import EPSILONS, LayerSpec, RunSpec

CNN = RunSpec("cnn", batch_size=64, learning_rate=0.02, decay=0.9, epochs=2, patience=10, checks=1)
LAYERED = replace(CNN, name="q-base", layer=LayerSpec())
BOTH = pytest.mark.parametrize("spec", [CNN, LAYERED], ids=["cnn", "q-base"])
SEED = 3


@cache
def split(n: int, name: str = "train") -> data.Split:
    """The first digits of a split of MNIST."""
    return data.Split(*(part[:n].clone() for part in data.load("mnist", name)))


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
    for path in ("e",) if spec.layer is None else ("q", "e"):
        assert last[path] < 0.8 * first[path]
        assert state.best["accuracy"][path]["clean"] > 50  # chance is 10
    assert all(tensor.dtype in (torch.float32, torch.int64, torch.bool) for tensor in weights(model))
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
    model = models.q_net(heads=2, codebook_size=16, gate=gate, start="k-means")
    spec = RunSpec("q", layer=LayerSpec(), inactive=inactive, batch_size=16, epochs=1, checks=1)
    few = {name: data.Split(*(part[:8] for part in judge)) for name, judge in judges.items()}
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


@BOTH
def test_adversarial_training_sees_fgsm_images_of_the_current_e_path(spec, seen, some, judges):
    spec = replace(spec, adversarial=True, batch_size=100, epochs=1)
    training.train(spec, network(spec), some, judges, seed=SEED, adversarial_eps=0.2)
    assert len(seen) == 3
    for call in seen:
        assert call["training"]
        rows = clean_rows(call["images"], some.images)
        assert torch.equal(rows.sort().values.unique(), rows.sort().values)
        assert torch.equal(some.labels[rows], call["labels"])
        then = call["model"].eval()
        e_path = then if spec.layer is None else partial(then, path="e")
        expected = attacks.fgsm(e_path, some.images[rows], eps=0.2)
        torch.testing.assert_close(call["images"], expected)
        assert (call["images"] - some.images[rows]).abs().max().item() == pytest.approx(0.2)


def test_the_learning_rate_decays_with_every_step_by_a_constant_factor_an_epoch(seen, some, judges):
    spec = replace(CNN, batch_size=100, epochs=2, learning_rate=0.004, decay=0.5)
    training.train(spec, network(spec), some, judges, seed=SEED)
    assert [call["lr"] for call in seen] == pytest.approx([0.004 * 0.5 ** (t / 3) for t in range(1, 7)])


# ---- selection and when to stop ----


@pytest.mark.parametrize("selection", ["mixed", "clean"])
@BOTH
def test_the_best_validation_is_kept(spec, selection, some, judges):
    spec = replace(spec, selection=selection, epochs=5, checks=2, learning_rate=0.2)
    model, rows = network(spec), []

    def ruin_after_the_eighth(row: dict) -> None:
        rows.append(row)
        if len(rows) == 8:
            model.load_state_dict({name: tensor * 0 for name, tensor in model.state_dict().items()})

    state = training.train(spec, model, some, judges, seed=SEED, report=ruin_after_the_eighth)

    assert rows == state.history
    assert [row["epoch"] for row in rows] == [0.4, 1, 1.4, 2, 2.4, 3, 3.4, 4, 4.4, 5]
    path = "q" if spec.layer else "e"
    for row in rows:
        by_set = row["accuracy"][path]
        clean, weak, strong = by_set["clean"], by_set["0.6"], by_set["0.3"]
        mixed = clean / 2 + weak / 4 + strong / 4
        wanted = clean if selection == "clean" else mixed
        assert row["score"] == pytest.approx(wanted)
        assert ("inactive" in row) == (spec.layer is not None and row["epoch"] % 1 == 0)
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


def test_the_mixed_validation_set_is_fgsm_on_the_source(trained_cnn):
    clean = split(50, name="validation")
    sets = training.validation_sets("mnist", trained_cnn, limit=50)
    assert list(sets) == ["clean", "fgsm 0.2", "fgsm 0.3"]
    assert torch.equal(sets["clean"].images, clean.images)
    for eps in EPSILONS["mnist"]:
        expected = attacks.fgsm(trained_cnn, clean.images, eps=eps)
        assert torch.equal(sets[f"fgsm {eps}"].images, expected)
        assert torch.equal(sets[f"fgsm {eps}"].labels, clean.labels)
    assert list(training.validation_sets("fashion-mnist", trained_cnn, limit=2)) == [
        "clean",
        "fgsm 0.1",
        "fgsm 0.2",
    ]
    assert list(training.validation_sets("mnist", None, limit=2)) == ["clean"]
    assert len(training.validation_sets("mnist", None)["clean"].labels) == 10_000


# ---- the gate's statistics ----


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_gate_is_normalised_by_statistics_without_dropout(adversarial, seen, judges):
    spec = replace(LAYERED, adversarial=adversarial, batch_size=10, epochs=1)
    model = network(spec)
    training.train(spec, model, split(200), judges, seed=SEED, adversarial_eps=0.2)
    assert len(seen) == 20 and model.layer.gate_norm.momentum == 0.1
    means, variances = [], []
    for call in seen[-training.STATISTICS_BATCHES :]:  # what the last batches were trained on
        with torch.no_grad():
            logits = model.layer.gate(model.encoder(call["images"])).double()
        means.append(logits.mean((0, 2, 3)))
        variances.append(logits.var((0, 2, 3)))
    norm = model.layer.gate_norm
    torch.testing.assert_close(norm.running_mean.double(), torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        norm.running_var.double(), torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5
    )

    behind_dropout = network(spec)
    training.train(
        replace(spec, estimate_statistics=False),
        behind_dropout,
        split(200),
        judges,
        seed=SEED,
        adversarial_eps=0.2,
    )
    assert (behind_dropout.layer.gate_norm.running_var > 1.1 * norm.running_var).double().mean() > 0.8


def test_a_gate_without_normalisation_has_no_statistics(some, judges):
    spec = replace(LAYERED, layer=LayerSpec(gate_norm=False), epochs=1)
    model = small_q_net()
    model.layer.gate_norm = None
    training.train(spec, model, some, judges, seed=SEED)
    assert not model.training


# ---- the same numbers again, also after a kill ----

RESUMED = RunSpec(
    "q", layer=LayerSpec(start="k-means"), batch_size=64, epochs=4, checks=2, learning_rate=0.005
)


def run(
    checkpoint: Path | None, *, weights_seed: int = 0, seed: int = SEED, **options
) -> tuple[nn.Module, training.State]:
    model = network(RESUMED, weights_seed, start="k-means")
    judge = {"clean": split(40, "validation")}
    return model, training.train(
        RESUMED, model, split(300), judge, seed=seed, checkpoint=checkpoint, **options
    )


def test_two_runs_agree_bit_for_bit():
    (first, state), (second, again) = run(None), run(None)
    assert same_weights(first, second) and state.history == again.history
    assert not same_weights(first, run(None, seed=SEED + 1)[0])


def test_training_leaves_the_random_numbers_of_others_alone(some, judges):
    model = network(CNN)
    before = torch.get_rng_state()
    training.train(CNN, model, some, judges, seed=SEED)
    assert torch.equal(torch.get_rng_state(), before)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(epoch: float, row: dict) -> None:
    if row["epoch"] == epoch:
        _die()


def _die_while_saving_epoch(epoch: int, content: dict, path: Path) -> None:
    torch.serialization.save(content, path)
    if content["state"]["epoch"] == epoch:
        os.truncate(path, path.stat().st_size // 2)
        _die()


DEATHS = {
    "in the first epoch": {"report": partial(_die_at, 0.4)},
    "while it writes the checkpoint of the second": {},
    "in the third epoch": {"report": partial(_die_at, 2.4)},
}


def die_three_times(checkpoint: str) -> None:
    """Run in a process of its own: start the run three times, each in a child that is killed."""
    torch.set_num_threads(1)
    path = Path(checkpoint)
    split(300), split(40, "validation")  # read once, before the children part
    for moment, options in DEATHS.items():
        if (child := os.fork()) == 0:
            if "writes" in moment:
                torch.save = partial(_die_while_saving_epoch, 2)
            run(path, **options)
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
    assert [row["epoch"] for row in rows] == [2.4, 3, 3.4, 4]
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
    with pytest.raises(
        ValueError, match=r"checkpoint.pt is from a run with other settings: delete it to start"
    ):
        training.train(other, network(CNN), some, judges, seed=SEED, checkpoint=path)
