"""Scoring: accuracies counted by hand, and attacks with the paper's settings on the right path."""

from functools import partial

import pytest
import torch
from conftest import small_q_net
from scipy.stats import binomtest
from torch import Tensor, nn

from qlayer_core import attacks, evaluation
from qlayer_core.experiments import Attack
from qlayer_core.models import BothPaths, QNet

# Each image holds the logits of three classes: the network below hands them on.
LOGITS = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.0, 1.0, 0.5], [0.3, 0.4, 0.2], [0.6, 0.5, 0.1]])
LABELS = torch.tensor([0, 1, 1, 1, 2])
Q_RIGHT = [True, False, True, True, False]
E_RIGHT = [False, True, False, False, True]  # of the least likely class


class ByHand(QNet):
    """Answers with the most likely class on the Q-path and with the least likely on the E-path."""

    def __init__(self):
        nn.Module.__init__(self)

    def forward(self, images: Tensor, path: str = "q") -> BothPaths:
        assert path == "both"
        return BothPaths(images, -images, None)


# ---- accuracy ----


@pytest.mark.parametrize("batch_size", [1, 2, 5, 256])
def test_right_answers_of_each_path_counted_by_hand(batch_size):
    found = evaluation.correct_by_path(ByHand().eval(), LOGITS, LABELS, batch_size)
    assert {path: right.tolist() for path, right in found.items()} == {"q": Q_RIGHT, "e": E_RIGHT}
    plain = evaluation.correct_by_path(nn.Identity().eval(), LOGITS, LABELS, batch_size)
    assert {path: right.tolist() for path, right in plain.items()} == {None: Q_RIGHT}


def test_cells_say_how_the_images_were_made_and_what_was_right():
    attack = Attack("white-box", "bim", 0.2, None, "e")
    made = {"setting": "white-box", "attack": "bim", "eps": 0.2, "source": None, "attacked_path": "e"}
    assert evaluation.cells(ByHand().eval(), LOGITS, LABELS, attack) == [
        made | {"path": "q", "n": 5, "correct": 3, "accuracy": 60.0},
        made | {"path": "e", "n": 5, "correct": 2, "accuracy": 40.0},
    ]
    (cell,) = evaluation.cells(nn.Identity().eval(), LOGITS[:3], LABELS[:3], attack)
    assert cell == made | {"path": None, "n": 3, "correct": 2, "accuracy": 66.67}


def test_cells_are_scored_in_float32_whatever_the_machine_computes_in(monkeypatch):
    """An answer that is right by less than bfloat16 can tell counts as right."""
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    net = nn.Linear(2, 2).eval()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.001]]))
        net.bias.zero_()
    image, label = torch.ones(1, 2), torch.tensor([1])
    assert not evaluation.correct_by_path(net, image, label)[None].any()
    assert evaluation.correct_by_path(net, image, label, full_precision=True)[None].all()
    (cell,) = evaluation.cells(net, image, label, Attack("clean", "none", 0.0))
    assert cell["correct"] == 1


@pytest.mark.parametrize("model", [small_q_net(), nn.Sequential(nn.Dropout())])
def test_a_network_in_training_mode_is_not_scored(model, digits):
    with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
        evaluation.correct_by_path(model.train(), digits.images[:2], digits.labels[:2])


def test_scoring_leaves_no_trace_in_the_network(digits):
    model = small_q_net().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluation.correct_by_path(model, digits.images[:20], digits.labels[:20])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.layer.usage.any() and all(tensor.grad is None for tensor in model.parameters())


# ---- the Wilson interval ----


@pytest.mark.parametrize(
    "correct, n", [(8486, 10_000), (1, 10_000), (500, 1000), (3, 7), (0, 50), (50, 50), (1, 1)]
)
def test_wilson_equals_scipys(correct, n):
    expected = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert evaluation.wilson(correct, n) == pytest.approx(
        (100 * expected.low, 100 * expected.high), abs=0.002
    )


def test_wilson_in_closed_form():
    assert evaluation.wilson(5, 10, z=2) == pytest.approx((100 * (0.5 - 14**-0.5), 100 * (0.5 + 14**-0.5)))
    assert evaluation.wilson(0, 4, z=2) == (0.0, pytest.approx(50.0))


@pytest.mark.parametrize("correct, n", [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_impossible_counts(correct, n):
    with pytest.raises(ValueError, match=f"{correct} correct of {n}: give 0 <= correct <= n and n > 0"):
        evaluation.wilson(correct, n)


# ---- the paper's attacks ----


def softmax_of(model) -> partial:
    return lambda images: model(images).softmax(1)


# Appendix B: FGSM in one step, BIM in 100 steps of 0.01, C&W with the toolbox's defaults of 2019.
BY_HAND = {
    "none": lambda model, x, eps: x,
    "fgsm": lambda model, x, eps: attacks.fgsm(model, x, eps=eps),
    "bim": lambda model, x, eps: attacks.bim(model, x, eps=eps, step=0.01, iterations=100),
    "cw": lambda model, x, eps: attacks.cw_linf(
        *(model, x), eps=eps, confidence=0.0, learning_rate=0.01, iterations=10, halvings=5, doublings=5
    ),
    "cw-softmax": lambda model, x, eps: attacks.cw_linf(softmax_of(model), x, eps=eps),
}


@pytest.mark.parametrize("path", ["e", "shortcut"])
@pytest.mark.parametrize("name", BY_HAND)
def test_attacks_have_the_papers_settings_and_follow_the_named_path(name, path, digits):
    torch.manual_seed(0)
    model, x = small_q_net().eval(), digits.images[:4]
    attack = Attack("white-box", name, 0.3, None, path)
    expected = BY_HAND[name](partial(model, path=path), x, 0.3)
    assert torch.equal(evaluation.adversarial(model, x, attack), expected)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_plain_network_is_attacked_as_it_is(name, trained_cnn, digits):
    x = digits.images[:12]
    found = evaluation.adversarial(trained_cnn, x, Attack("white-box", name, 0.3))
    assert torch.equal(found, BY_HAND[name](trained_cnn, x, 0.3))
    assert torch.equal(found, x) == (name == "none")


def test_without_a_named_path_the_e_path_is_attacked(digits):
    torch.manual_seed(0)
    model, x = small_q_net().eval(), digits.images[:4]
    assert torch.equal(evaluation.attacked(model)(x), model(x, path="e"))
    assert evaluation.attacked(nn.Identity())(x) is x
