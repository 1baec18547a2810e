"""What the figures of attacks say in words is what the networks answer."""

import torch
from torch.nn import functional as F

from qlayer_core import attacks, show


def test_the_path_of_an_attack_ends_where_bim_ends(trained_cnn, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    path = show.attacks.attack_path(trained_cnn, image, label, eps=0.15, iterations=20)
    end = attacks.bim(trained_cnn, image, digits.labels[:1], eps=0.15, iterations=20)
    for at, x in ((0, image), (-1, end)):
        torch.testing.assert_close(path[at], trained_cnn(x).softmax(1)[0, label], atol=1e-4, rtol=0)


def test_the_gallery_says_what_each_image_is_read_as(trained_cnn, digits):
    images, labels = digits.images[:4], digits.labels[:4]
    attacked = attacks.fgsm(trained_cnn, images, eps=0.3)
    markup = show.attacks.gallery(trained_cnn, images, {"FGSM": attacked}, labels)
    read_as = ", ".join(str(int(answer)) for answer in trained_cnn(attacked).argmax(1))
    assert f"FGSM: read as {read_as}" in markup.text


def test_margins_say_what_share_is_wrong():
    markup = show.attacks.margins({"clean": torch.tensor([1.0, 2.0, -1.0, 3.0])})
    assert "clean: 25 % at or below zero" in markup.text


def test_the_gradient_that_is_drawn_is_the_attack_s(trained_cnn, digits):
    image, label = digits.images[:1], int(digits.labels[0])
    x = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(trained_cnn(x), digits.labels[:1]), x)
    share = 100 * (slope > 0).float().mean().item()
    assert f"upwards in {share:.0f} %" in show.attacks.gradient(trained_cnn, image, label).text
