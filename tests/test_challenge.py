"""The grader: what it refuses, with which word, what it scores, and codes that say so."""

import contextlib
import dataclasses
import json
import time

import pytest
import torch
from conftest import small_q_net
from torch import Tensor, nn

from qlayer_core import attacks, baselines, data
from qlayer_core.study import challenge, records, solutions
from qlayer_core.study.challenge import TASKS, RefusedError

EASY = dataclasses.replace(TASKS[0], images=30, eps=0.3)


@pytest.fixture
def load(trained_cnn: nn.Module):
    """A small trained network in the place of every released one; a new copy each time, as from a file."""

    def of(name: str) -> nn.Module:
        torch.manual_seed(0)
        copy = nn.Sequential(*(type(layer)(*_arguments(layer)) for layer in trained_cnn)).eval()
        copy.load_state_dict(trained_cnn.state_dict())
        return small_q_net().eval() if name.startswith("q-") else copy

    return of


def _arguments(layer: nn.Module) -> tuple:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else ()


def nothing(network, images, labels, eps) -> Tensor:
    return images


def grade(attack, load, task=EASY, **options) -> challenge.Grade:
    return challenge.grade(task, attack, load=load, **({"watched": ()} | options))


# ---- Refusals ----


def too_far(network, images, labels, eps):
    return (images + (eps + 0.01) * (images < 0.5)).clamp(0, 1)


def outside(network, images, labels, eps):
    return images - eps / 2


def with_nan(network, images, labels, eps):
    images[3, 0, 5, 5] = float("nan")
    return images


def train_it(network, images, labels, eps):
    with torch.no_grad():
        next(network.parameters()).mul_(0.5)
    return images


def switch_mode(network, images, labels, eps):
    network.train()
    return images


def replace_forward(network, images, labels, eps):
    network.network.forward = lambda x: torch.zeros(len(x), 10)
    return images


def hook_in(network, images, labels, eps):
    network.register_forward_hook(lambda module, inputs, out: -out)
    return images


@pytest.mark.parametrize(
    ("attack", "reason", "message"),
    [
        (too_far, "budget", "moved by more than eps = 0.3, up to 0.31"),
        (outside, "box", r"pixels run from -0.15.* clip them to \[0, 1\]"),
        (with_nan, "nan", "1 images hold NaN"),
        (lambda network, images, labels, eps: images[:-1], "shape", r"shape \(29, 1, 28, 28\)"),
        (lambda network, images, labels, eps: None, "type", "returned NoneType"),
        (lambda network, images, labels, eps: labels, "type", "returned torch.int64"),
        (train_it, "model", "changed the network"),
        (switch_mode, "model", "changed the network"),
        (replace_forward, "model", "changed the network"),
        (hook_in, "model", "changed the network"),
        (lambda network, images, labels, eps: 1 / 0, "error", "ZeroDivisionError: division by zero"),
    ],
    ids=["far", "outside", "nan", "fewer", "none", "labels", "weights", "mode", "forward", "hook", "error"],
)
def test_an_attack_that_breaks_a_rule_is_refused_with_the_rule(attack, reason, message, load):
    with pytest.raises(RefusedError, match=message) as refused:
        grade(attack, load)
    assert refused.value.reason == reason


def test_an_attack_that_patches_the_networks_class_is_refused(load, monkeypatch):
    def patch(network, images, labels, eps):
        monkeypatch.setattr(baselines.Defended, "forward", lambda self, x: torch.zeros(len(x), 10))
        return images

    with pytest.raises(RefusedError, match="its code") as refused:
        grade(patch, load)
    assert refused.value.reason == "model"


def test_an_attack_that_changes_files_is_refused(load, tmp_path):
    weights, record = tmp_path / "weights", tmp_path / "record"
    weights.write_text("as measured")

    def overwrite(network, images, labels, eps):
        weights.write_text("as wished")
        return images

    def forge(network, images, labels, eps):
        record.write_text("{}")
        return images

    for attack in (overwrite, forge):
        with pytest.raises(RefusedError, match="changed the network's files") as refused:
            grade(attack, load, watched=(weights, record))
        assert refused.value.reason == "files"


def test_an_attack_that_runs_over_its_time_is_stopped_and_refused(load):
    rounds = []

    def endless(network, images, labels, eps):
        while True:
            with contextlib.suppress(Exception):  # an attack that hangs on
                rounds.append(time.sleep(0.01))

    started = time.perf_counter()
    with pytest.raises(RefusedError, match=r"not done after 0.3 s: use fewer steps") as refused:
        grade(endless, load, dataclasses.replace(EASY, seconds=0.3))
    assert refused.value.reason == "time"
    assert time.perf_counter() - started < 60
    before = len(rounds)
    time.sleep(0.2)
    assert len(rounds) == before  # it no longer runs


def test_rounding_is_no_offence():
    def to_the_edge(network, images, labels, eps):
        return images + eps * (1 - 2 * images).sign() * 1.0000001

    images = challenge.images_for(EASY, hidden=True, limit=5).images
    found = to_the_edge(None, images, None, 0.3).clamp(0, 1)
    challenge.check(found, images, 0.3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_of_another_number_format_are_scored_too(dtype, load):
    """An attack that computes in numpy answers in float64."""
    same = grade(lambda network, images, labels, eps: images, load)
    other = grade(lambda network, images, labels, eps: images.to(dtype), load)
    assert abs(other.right - same.right) < 4


# ---- Scores ----


def test_hidden_images_are_a_tenth_of_the_test_set_that_no_practice_shows():
    practice, hidden = (challenge.images_for(TASKS[0], hidden=flag) for flag in (False, True))
    assert len(practice.labels) + len(hidden.labels) == 10_000
    assert 900 < len(hidden.labels) < 1100
    assert len(hidden.labels.unique()) == 10
    seen = {image.numpy().tobytes() for image in practice.images}
    assert not any(image.numpy().tobytes() in seen for image in hidden.images)


def test_doing_nothing_leaves_what_is_right_without_an_attack(load):
    result = grade(nothing, load)
    network = challenge.network_of(EASY, load)
    images, labels = challenge.images_for(EASY, hidden=True, limit=30)
    expected = 100 * (network(images).argmax(1) == labels).float().mean().item()
    assert result.right == result.clean == pytest.approx(expected)
    assert expected > 70 and not result.solved
    assert "not solved yet" in str(result) and result.code in str(result)


def test_a_masked_gradient_gives_way_to_whoever_goes_round_the_rounding(load):
    def naive(network, images, labels, eps):
        return attacks.bim(network, images, labels, eps=eps, step=0.05, iterations=10)

    def round_it(network, images, labels, eps):
        return attacks.bim(network.network, images, labels, eps=eps, step=0.05, iterations=10)

    with pytest.warns(attacks.UnmovedWarning):
        assert grade(naive, load).right == grade(nothing, load).right
    result = grade(round_it, load)
    assert result.solved and result.right <= EASY.target


def test_a_clipped_softmax_gives_way_to_a_margin_of_the_logits(load):
    task = dataclasses.replace(EASY, network="clipped")

    def sure(name):  # a network that is surer than 1e-7 allows for
        network = load(name)
        with torch.no_grad():
            network[-1].weight.mul_(20)
            network[-1].bias.mul_(20)
        return network

    def naive(network, images, labels, eps):
        return attacks.fgsm(
            network, images, labels, eps=eps, loss=lambda z, y: -z.gather(1, y[:, None])[:, 0]
        )

    def inside(network, images, labels, eps):
        return attacks.fgsm(network.network, images, labels, eps=eps)

    with pytest.warns(attacks.UnmovedWarning):
        spared = grade(naive, sure, task).right
    assert grade(inside, sure, task).right < spared - 30


def test_a_network_that_rolls_dice_is_asked_several_times(load):
    task = dataclasses.replace(TASKS[5], images=20)
    result = grade(nothing, load, task)
    network = challenge.network_of(task, load)
    images, labels = challenge.images_for(task, hidden=True, limit=20)
    draws = [(network(images).argmax(1) == labels).double().mean().item() for _ in range(task.draws)]
    assert result.right == pytest.approx(100 * sum(draws) / len(draws))
    assert grade(nothing, load, task).right == result.right
    reached, missed = (dataclasses.replace(task, target=result.right - less) for less in (0.0, 0.01))
    assert grade(nothing, load, reached).solved and not grade(nothing, load, missed).solved


def test_every_task_has_a_network_and_a_goal(load):
    assert [task.number for task in TASKS] == [1, 2, 3, 4, 5, 6]
    assert {task.network for task in TASKS} == set(challenge.NETWORKS)
    images = challenge.images_for(TASKS[0], limit=2).images
    for task in TASKS:
        network = challenge.network_of(task, load)
        assert network(images).shape == (2, 10) and not network.training
        assert 0 < task.eps <= 0.4 and 0 < task.target < 100 and task.goal.endswith(".")


# ---- Codes and records ----


def test_a_code_says_task_and_score_again():
    for task in TASKS:
        for right in (0.0, 12.5, 100.0):
            assert challenge.verify(challenge.code(task, right, "Ada"), "Ada") == (task, right)
    assert challenge.verify(f" {challenge.code(TASKS[0], 3.0).lower()} ") == (TASKS[0], 3.0)


def test_a_code_that_was_changed_or_is_of_somebody_else_is_none():
    given = challenge.code(TASKS[0], 12.5, "Ada")
    body, check = given[:8], given[8:]
    changed = [
        f"Q1-0000{check}",
        f"Q2{given[2:]}",
        f"{body}-{'0' if check[1] != '0' else '1'}{check[2:]}",
        "Q1",
        "",
    ]
    for other in changed:
        with pytest.raises(ValueError, match="no code of the grader"):
            challenge.verify(other, "Ada")
    with pytest.raises(ValueError, match="'Bob'"):
        challenge.verify(given, "Bob")


def test_the_best_known_grade_is_kept(tmp_path):
    path = tmp_path / "challenge.json"
    assert challenge.best_known(TASKS[0], path) is None
    first, better, worse = (
        challenge.Grade(1, right, 99.0, True, 1.0, challenge.code(TASKS[0], right))
        for right in (20.0, 10.0, 15.0)
    )
    assert challenge.record_best(first, "BIM", path) and challenge.record_best(better, "APGD", path)
    assert not challenge.record_best(worse, "FGSM", path)
    assert not challenge.record_best(better, "PGD", path), "who was first keeps it"
    known = challenge.best_known(TASKS[0], path)
    assert known["by"] == "APGD" and dataclasses.asdict(better).items() <= known.items()
    assert list(json.loads(path.read_text())) == ["1"]


def test_a_grade_on_weights_that_were_replaced_is_no_best_one(tmp_path, monkeypatch):
    path = tmp_path / "challenge.json"
    good, bad = (challenge.Grade(1, right, 99.0, True, 1.0, "Q1") for right in (5.0, 30.0))
    assert challenge.record_best(good, "then", path)
    monkeypatch.setattr(challenge, "_weights_of", lambda task: "other weights")
    assert challenge.best_known(TASKS[0], path) is None
    assert challenge.record_best(bad, "now", path)
    assert challenge.best_known(TASKS[0], path)["right"] == 30.0


def test_every_best_known_grade_breaks_its_network():
    """Where the weights are newer than the grade, `python -m qlayer_core.study.solutions` makes it anew."""
    for task in challenge.open_tasks():
        if best := challenge.best_known(task):
            assert best["right"] <= task.target and best["solved"]
            assert challenge.verify(best["code"]) == (task, round(best["right"], 1))


# ---- Open tasks and solutions ----


def test_a_task_opens_with_its_networks_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    assert challenge.open_tasks() == ()
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "cnn.safetensors").write_bytes(b"")
    assert [task.network for task in challenge.open_tasks()] == ["masked", "clipped"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.network)
def test_strongest_attack_keeps_the_rules_and_does_harm(task, load):
    easy = dataclasses.replace(task, images=12, eps=0.3)
    name, attack = solutions.strongest(easy)
    assert name.startswith("APGD")
    spared, found = grade(nothing, load, easy), grade(attack, load, easy)
    assert (
        found.right < spared.right - 30 or spared.right < 40
    )  # a layer that was never trained is right by chance


def test_solutions_are_let_loose_on_the_open_tasks_that_one_asks_for(monkeypatch, capsys):
    done = []
    monkeypatch.setattr(challenge, "open_tasks", lambda: TASKS[:3])
    monkeypatch.setattr(challenge, "best_known", lambda task: {"right": 1.0, "by": "APGD"})
    monkeypatch.setattr(solutions, "record", lambda task: done.append(task.number))
    assert solutions.main(["2"]) == 0 and done == [2]
    assert solutions.main([]) == 0 and done == [2, 1, 2, 3]
    with pytest.raises(SystemExit, match="2"):
        solutions.main(["9", "2"])
    assert "no open task is 9; choose among those that are, 1, 2, 3" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        solutions.main(["--help"])
    assert "the number of an open task" in capsys.readouterr().out and done == [2, 1, 2, 3]


def test_practice_images_have_their_labels():
    images, labels = data.load("mnist", "test")
    some = challenge.images_for(TASKS[0], limit=20)
    for image, label in zip(*some, strict=True):
        assert labels[(images == image).flatten(1).all(1)].tolist() == [label]
