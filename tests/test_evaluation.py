"""Scoring: accuracies counted by hand, and attacks with the paper's settings on the right path."""

from functools import partial

import pytest
import torch
from conftest import small_q_net
from torch import Tensor, nn

from qlayer_core import attacks, evaluation
from qlayer_core.models import BothPaths, QNet
from qlayer_core.specs import Attack

# Each image holds the logits of three classes, one per channel: the networks below hand them on.
LOGITS = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.0, 1.0, 0.5], [0.3, 0.4, 0.2], [0.6, 0.5, 0.1]])
IMAGES = LOGITS[:, :, None, None]
LABELS = torch.tensor([0, 1, 1, 1, 2])
Q_RIGHT = [True, False, True, True, False]
E_RIGHT = [False, True, False, False, True]  # of the least likely class


class ByHand(QNet):
    """Answers with the most likely class on the Q-path and with the least likely on the E-path."""

    def __init__(self):
        nn.Module.__init__(self)

    def forward(self, images: Tensor, path: str = "q") -> BothPaths:
        assert path == "both"
        logits = images.flatten(1)
        return BothPaths(logits, -logits, None)


# ---- accuracy ----


@pytest.mark.parametrize("batch_size", [1, 2, 5, 256])
def test_right_answers_of_each_path_counted_by_hand(batch_size):
    found = evaluation.correct_by_path(ByHand().eval(), IMAGES, LABELS, batch_size)
    assert {path: right.tolist() for path, right in found.items()} == {"q": Q_RIGHT, "e": E_RIGHT}
    plain = evaluation.correct_by_path(nn.Flatten().eval(), IMAGES, LABELS, batch_size)
    assert {path: right.tolist() for path, right in plain.items()} == {None: Q_RIGHT}


def test_cells_say_how_the_images_were_made_and_what_was_right():
    attack = Attack("white-box", "bim", 0.2, None, "e")
    made = {"setting": "white-box", "attack": "bim", "eps": 0.2, "source": None, "attacked_path": "e"}
    clean = IMAGES.clone()
    clean[1:3] = 0.5  # so the other three images were left as they were
    cells = evaluation.cells(ByHand().eval(), IMAGES, LABELS, attack, clean)
    assert [cell.pop("right").tolist() for cell in cells] == [Q_RIGHT, E_RIGHT]
    assert cells == [
        made | {"path": "q", "n": 5, "correct": 3, "accuracy": 60.0, "unmoved": 3},
        made | {"path": "e", "n": 5, "correct": 2, "accuracy": 40.0, "unmoved": 3},
    ]
    (cell,) = evaluation.cells(nn.Flatten().eval(), IMAGES[:3], LABELS[:3], attack)
    assert cell.pop("right").tolist() == Q_RIGHT[:3]
    assert cell == made | {"path": None, "n": 3, "correct": 2, "accuracy": 66.67, "unmoved": 0}


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (
            IMAGES,
            LABELS[:3],
            r"images have shape \(5, 3, 1, 1\), labels \(3,\); give one label per image: \(5,\)",
        ),
        (IMAGES[:3], LABELS, r"shape \(3, 3, 1, 1\), labels \(5,\)"),
        (IMAGES[:0], LABELS[:0], "N at least 1"),
        (2 * IMAGES, LABELS, r"range from 0 to 2; they must lie in \[0, 1\]"),
        (IMAGES / 0, LABELS, r"they must lie in \[0, 1\]"),
        (IMAGES, LABELS > 0, r"labels have dtype torch\.bool; give one int64 class per image"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_not_scored(images, labels, message):
    net, attack = nn.Flatten().eval(), Attack("clean", "none", 0.0)
    for score in (
        lambda: evaluation.correct_by_path(net, images, labels),
        lambda: evaluation.cells(net, images, labels, attack),
        lambda: evaluation.accuracy(net, images, labels),
    ):
        with pytest.raises(ValueError, match=message):
            score()
    with pytest.raises(TypeError, match=r"labels are a numpy\.ndarray; give a tensor"):
        evaluation.accuracy(net, IMAGES, LABELS.numpy())
    with pytest.raises(ValueError, match="batch_size is -1; it must be a whole number, at least 1"):
        evaluation.correct_by_path(net, IMAGES, LABELS, -1)
    with pytest.raises(ValueError, match="give the same"):
        evaluation.cells(net, IMAGES, LABELS, Attack("white-box", "fgsm", 0.1), IMAGES[:3])


NO_LOGITS = {
    "NaN": (lambda z: z * float("nan"), ValueError, "logits hold NaN or infinity: check its weights"),
    "one logit": (lambda z: z[:, :1], ValueError, r"5 images with shape \(5, 1\); scoring needs logits"),
    "a number per image": (lambda z: z[:, 0], ValueError, r"5 images with shape \(5,\)"),
    "a tuple": (lambda z: (z, None), TypeError, "answers with a tuple; scoring needs its logits"),
    "a dict": (lambda z: {"logits": z}, TypeError, "answers with a dict; scoring needs its logits"),
}


class Answers(nn.Flatten):
    """Answers with something that is made of the logits."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, images: Tensor):
        return self.made(super().forward(images))


@pytest.mark.parametrize("made, error, message", NO_LOGITS.values(), ids=NO_LOGITS)
def test_answers_that_are_no_logits_are_not_scored(made, error, message):
    net = Answers(made).eval()
    for score in (
        lambda: evaluation.correct_by_path(net, IMAGES, LABELS),
        lambda: evaluation.cells(net, IMAGES, LABELS, Attack("clean", "none", 0.0)),
        lambda: evaluation.accuracy(net, IMAGES, LABELS),
        lambda: evaluation.accuracy(lambda images: net(images), IMAGES, LABELS),
    ):
        with pytest.raises(error, match=message):
            score()


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_none_of_the_classes_is_not_counted_as_a_wrong_answer(label):
    net, labels = nn.Flatten().eval(), torch.tensor([0, 1, 1, 1, label])
    for score in (evaluation.correct_by_path, evaluation.accuracy):
        with pytest.raises(ValueError, match=r"labels run from -?\d to \d; the model has classes 0 to 2"):
            score(net, IMAGES, labels)


def test_features_without_a_number_are_not_scored_though_a_code_is_nearest_to_them(digits):
    net, some = small_q_net().eval(), digits.first(4)
    net.encoder[0].weight.data.fill_(torch.nan)
    for score, model in (
        (evaluation.accuracy, net),
        (evaluation.correct_by_path, net),
        (evaluation.correct_by_path, nn.Sequential(nn.Identity(), net).eval()),
    ):
        with pytest.raises(ValueError, match="features hold NaN or infinity"):
            score(model, *some)


def test_the_worst_case_is_right_under_every_attack():
    one, other = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    assert evaluation.worst_case([one, other]).tolist() == [True, False, False]
    assert evaluation.worst_case([one]).tolist() == one.tolist()
    with pytest.raises(ValueError, match="no attack is given: the worst case needs at least one"):
        evaluation.worst_case([])
    with pytest.raises(ValueError, match=r"the shapes \(3,\), \(2,\): give the same images for each attack"):
        evaluation.worst_case([one, other[:2]])


def test_accuracy_takes_any_callable():
    assert evaluation.accuracy(lambda images: -images.flatten(1), IMAGES, LABELS) == pytest.approx(40)


def test_cells_are_scored_in_float32_whatever_the_machine_computes_in(monkeypatch):
    """An answer that is right by less than bfloat16 can tell counts as right."""
    monkeypatch.setenv("QLAYER_PRECISION", "bfloat16")
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.001]]))
        net[1].bias.zero_()
    image, label = torch.ones(1, 2, 1, 1), torch.tensor([1])
    assert not evaluation.correct_by_path(net, image, label)[None].any()
    assert evaluation.correct_by_path(net, image, label, full_precision=True)[None].all()
    (cell,) = evaluation.cells(net, image, label, Attack("clean", "none", 0.0))
    assert cell["correct"] == 1


@pytest.mark.parametrize("model", [small_q_net(), nn.Sequential(nn.Dropout())])
def test_a_network_in_training_mode_is_not_scored(model, digits):
    with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
        evaluation.correct_by_path(model.train(), digits.images[:2], digits.labels[:2])


def test_only_accuracy_takes_what_is_no_network():
    assert evaluation.accuracy(partial(torch.flatten, start_dim=1), IMAGES, LABELS) == pytest.approx(60)
    with pytest.raises(
        TypeError, match=r"the network is a functools.partial; .* evaluation.accuracy .* any callable"
    ):
        evaluation.correct_by_path(partial(torch.flatten, start_dim=1), IMAGES, LABELS)


def test_accuracy_asks_no_network_in_training_mode(digits):
    """Its answers would be random, and its statistics would move."""
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(784, 10)).train()
    for model in (net, lambda images: net(images)):
        with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
            evaluation.accuracy(model, digits.images[:4], digits.labels[:4])
    assert not net[0].running_mean.any()
    evaluation.accuracy(net.eval(), digits.images[:4], digits.labels[:4])


def test_a_network_of_which_a_part_is_in_training_mode_is_not_scored(digits):
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).eval()
    net[0].train()
    with pytest.raises(ValueError, match="a part of it, is in training mode"):
        evaluation.correct_by_path(net, digits.images[:4], digits.labels[:4])
    assert not net[0].running_mean.any()


def test_scoring_leaves_no_trace_in_the_network(digits):
    model = small_q_net().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluation.correct_by_path(model, digits.images[:20], digits.labels[:20])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.layer.usage.any() and all(tensor.grad is None for tensor in model.parameters())


# ---- the paper's attacks ----


def softmax_of(model) -> partial:
    return lambda images: model(images).softmax(1)


# Appendix B: FGSM in one step, BIM in 100 steps of 0.01, C&W with the toolbox's defaults of 2019.
BY_HAND = {
    "none": lambda model, x, eps: x,
    "fgsm": lambda model, x, eps: attacks.fgsm(model, x, eps=eps),
    "fgsm-clipped": lambda model, x, eps: attacks.fgsm(model, x, eps=eps, loss="clipped"),
    "bim": lambda model, x, eps: attacks.bim(model, x, eps=eps, step=0.01, iterations=100),
    "bim-clipped": lambda model, x, eps: attacks.bim(
        model, x, eps=eps, step=0.01, iterations=100, loss="clipped"
    ),
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
    assert torch.equal(attacks.surrogate(model)(x), model(x, path="e"))
    assert attacks.surrogate(nn.Identity())(x) is x
