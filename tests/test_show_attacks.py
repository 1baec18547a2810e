"""The computations behind the chapters' figures, and what the figures say in words."""

from functools import partial

import pytest
import torch
from conftest import small_q_net
from torch.nn import functional as F

from qlayer_core import attacks, figures


def test_accuracy_counts_right_answers():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    assert figures.accuracy(lambda x: x, logits, torch.tensor([0, 1, 0, 1])) == 75


def test_the_path_of_an_attack_ends_where_bim_ends(trained_cnn, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    path = figures.attack_path(trained_cnn, image, label, eps=0.15, iterations=20)
    end = attacks.bim(trained_cnn, image, digits.labels[:1], eps=0.15, iterations=20)
    for at, x in ((0, image), (-1, end)):
        torch.testing.assert_close(path[at], trained_cnn(x).softmax(1)[0, label], atol=1e-4, rtol=0)


def test_the_gallery_says_what_each_image_is_read_as(trained_cnn, digits):
    images, labels = digits.images[:4], digits.labels[:4]
    attacked = attacks.fgsm(trained_cnn, images, eps=0.3)
    markup = figures.gallery(trained_cnn, images, {"FGSM": attacked}, labels)
    read_as = ", ".join(str(int(answer)) for answer in trained_cnn(attacked).argmax(1))
    assert f"FGSM: read as {read_as}" in markup.text


def test_each_loss_reaches_its_own_parts(digits):
    """Section 3.4: where a loss has no business, its gradient is exactly zero."""
    net = small_q_net().eval()
    losses, parts, norms = figures.losses_reach(net, digits.images[:20], digits.labels[:20])
    reached = [{part for part, norm in zip(parts, line, strict=True) if norm} for line in norms]
    assert losses == ["$L_Q$", "$L_E$", "codebook", "commitment"]
    assert reached == [
        {"codebook", "tail Q"},
        {"encoder", "gate", "tail E"},
        {"codebook"},
        {"encoder", "gate"},
    ]


def test_drift_is_nothing_without_an_attack_and_grows_with_it(digits):
    torch.manual_seed(0)
    net, images = small_q_net(start="k-means"), digits.images[:20]
    net(images, path="both")  # spreads the codes over the panels, so that more than one is chosen
    net.eval()
    found = figures.drift(net, images, lambda eps: (images + eps).clamp(0, 1), [0, 0.01, 0.5])
    for values in found.values():
        assert values[0] == 0
        assert values[0] < values[2]
        assert values[1] < values[2]


def test_drift_is_relative_to_the_clean_length(digits):
    """Without a gate, an encoder that doubles its features moves them by 100 %."""
    net, images = small_q_net().eval(), digits.images[:5]
    net.encoder = torch.nn.Conv2d(1, 8, 5, stride=3, bias=False)
    net.layer.gate = None
    found = figures.drift(net, images / 2, lambda eps: images, [1])
    assert found["projected"][0] == pytest.approx(100, abs=1e-3)


def test_figures_of_the_layer_say_how_much_changed(digits):
    net, images = small_q_net(heads=1).eval(), digits.images[:2]
    made = attacks.fgsm(partial(net, path="e"), images, eps=0.3)
    indices = {name: net.layer(net.encoder(x)).indices for name, x in {"clean": images, "FGSM": made}.items()}
    share = 100 * (indices["clean"] != indices["FGSM"]).float().mean().item()
    markup = figures.code_maps(net.layer, {"clean": images, "FGSM": made}, indices, mark=True)
    assert f"FGSM: {share:.0f} % of the codes changed" in markup.text


def test_margins_say_what_share_is_wrong():
    markup = figures.margins({"clean": torch.tensor([1.0, 2.0, -1.0, 3.0])})
    assert "clean: 25 % at or below zero" in markup.text


def test_the_gradient_that_is_drawn_is_the_attack_s(trained_cnn, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    x = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(trained_cnn(x), digits.labels[:1]), x)
    share = 100 * (slope > 0).float().mean().item()
    assert f"upwards in {share:.0f} %" in figures.gradient(trained_cnn, image, label).text


def test_every_figure_draws():
    """The ones without numbers of their own to check."""
    panels, codes = torch.rand(30, 4), torch.rand(5, 4)
    chosen = torch.cdist(panels, codes).argmin(1)
    assert "30 panels" in figures.code_space(panels, codes, chosen).text
    maps = torch.rand(1, 8, 12, 12)
    assert "3 strongest" in figures.features(torch.rand(1, 1, 28, 28), maps, maps, channels=3).text
