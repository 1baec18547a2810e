"""What the first two chapters draw is what the network answers, and for a linear one it is exact."""

import html
import json
import re

import numpy as np
import pytest
import torch
from javascript import node
from torch import nn

from qlayer_core import show
from qlayer_core.show import why


@pytest.fixture
def linear():
    """Ten scores of 28 x 28 pixels, without a bias."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)).eval()
    net[1].weight.data = torch.randn(10, 784, generator=generator)
    return net


def test_a_straight_line_predicts_a_linear_network_exactly(linear, digits):
    """In the middle between black and white nothing is clipped, so the fall is eps times the sum of the weights."""
    x = torch.full((5, 1, 28, 28), 0.5)
    labels = linear(x).argmax(1)
    runner_up = linear(x).topk(2).indices[:, 1]
    difference = linear[1].weight[runner_up] - linear[1].weight[labels]
    found = why.falls(linear, x, labels, difference.sign().view_as(x), 0.001)
    torch.testing.assert_close(found.predicted, 0.001 * difference.abs().sum(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.real, found.predicted, rtol=1e-3, atol=1e-4)


def test_no_push_no_fall(trained_cnn, digits):
    images, labels = digits.images[:8], digits.labels[:8]
    found = why.falls(trained_cnn, images, labels, torch.ones_like(images), 0.0)
    assert (found.predicted == 0).all() and (found.real == 0).all()


def test_a_plane_holds_the_network_s_answers(trained_cnn, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    plane = why.plane(trained_cnn, image, label)
    for row, column in ((0, 0), (3, 25), (30, 30), (15, 10)):
        a, b = why.LEFT + 0.02 * column, why.LOW + 0.02 * row
        x = (image + a * plane.towards + b * plane.chance).clamp(0, 1)
        assert plane.answers[row, column] == int(trained_cnn(x).argmax())
    assert plane.answers[15, 10] == int(trained_cnn(image).argmax()), "the clean image lies on the grid"


def test_the_border_is_the_first_change_of_the_answer(trained_cnn, digits):
    plane = why.plane(trained_cnn, digits.images[:1], int(digits.labels[0]))
    answers = np.full((why.POINTS, why.POINTS), 7)
    answers[:, 14:] = 3
    drawn = plane._replace(answers=answers)
    assert drawn.border((0, 1)) == pytest.approx(4 * 0.02)
    assert drawn.border((1, 0)) is drawn.border((-1, 0)) is drawn.border((0, -1)) is None


def test_the_page_reads_the_plane_as_it_was_written(trained_cnn, digits):
    """The picture in the browser: its image, borders and regions, against numpy."""
    plane = why.plane(trained_cnn, digits.images[:1], int(digits.labels[0]))
    markup = show.why.slices([plane])
    told = html.unescape(re.search(r'data-planes="([^"]*)"', markup.html)[1])
    read = f"slice.unpack({told})"
    assert json.loads(told)["points"] == why.POINTS
    far = node(
        f"[[1, 0], [0, 1], [0, -1]].map((way) => slice.border({read}, {read}.planes[0], way))", "slice"
    )
    expected = [plane.border(way) for way in ((0, 1), (1, 0), (-1, 0))]
    assert far == [None if one is None else pytest.approx(one) for one in expected]
    pixels = node(f"Array.from(slice.imageAt({read}.planes[0], [0.13, -0.05]))", "slice")
    x = (plane.image + 0.13 * plane.towards - 0.05 * plane.chance).clamp(0, 1)
    assert pixels == pytest.approx(x.flatten().tolist(), abs=0.003)
    answer = int(plane.answers[15, 10])
    drawn = node(f"slice.region({read}.planes[0].answers, {why.POINTS}, {answer})", "slice")
    area = sum(float(wide) * float(high) for wide, high in re.findall(r"h([\d.]+)v([\d.]+)", drawn))
    assert area == pytest.approx(1e4 * (plane.answers == answer).mean(), rel=0.01)


def test_the_page_still_says_where_the_answer_changes(trained_cnn, digits):
    plane = why.plane(trained_cnn, digits.images[:1], int(digits.labels[0]))
    far = plane.border((0, 1))
    words = "the answer does not change" if far is None else f"changes at {far:.2f}"
    assert f"digit {plane.label}: along FGSM" in why.slices([plane]).text
    assert words in why.slices([plane]).text


def test_switches_are_counted(digits):
    """Half of these two ReLUs change their state when the sign of the image does; none if nothing changes."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 2, bias=True), nn.ReLU(), nn.Linear(2, 10)).eval()
    net[1].weight.data = torch.stack([torch.ones(784), torch.zeros(784)])
    net[1].bias.data = torch.tensor([-1.0, 1.0])
    images = digits.images[:4]
    assert why.switched(net, images, torch.zeros_like) == 50
    assert why.switched(net, images, lambda x: x) == 0
