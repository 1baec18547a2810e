"""The Square attack against the exact robustness of linear models, and against the toolbox's."""

import pytest
import torch
from attacking import accuracy, best_corner, gap, make_linear, make_pixels, margin_of, toolbox
from torch import Tensor, nn

from qlayer_core import attacks
from qlayer_core.attacks.square import share


@pytest.mark.parametrize("shape", [(12,), (1, 3, 4), (3, 2, 2)])
def test_the_exact_robustness_of_a_linear_model_of_two_classes(shape):
    """Squares shrink to single pixels, and so the search reaches the corner where the margin is largest."""
    linear, x = make_linear(2), make_pixels(60)
    y = linear(x).argmax(1)
    corner = best_corner(linear, x, y, 0.15)
    exact = margin_of(linear, corner, y)
    assert 5 < (exact > 0).sum() < 55
    model = nn.Sequential(nn.Flatten(), linear).eval()
    found = attacks.square(model, x.view(-1, *shape), y, eps=0.15, queries=1500).flatten(1)
    reached = margin_of(linear, found, y)
    assert ((reached > 0) == (exact > 0)).all()
    robust = torch.from_numpy(exact <= 0)
    torch.testing.assert_close(found[robust], corner[robust], rtol=0, atol=1e-12)


def test_squares_are_drawn_on_maps():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2, 2, 1\); this attack draws squares on maps"):
        attacks.square(nn.Flatten().eval(), torch.rand(2, 3, 2, 2, 1), eps=0.1)


def test_the_first_query_shows_stripes_and_the_second_a_square_of_most_of_the_image():
    x, shown = torch.full((1, 3, 10, 8), 0.5), []

    def model(images: Tensor) -> Tensor:
        shown.append(images.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)

    attacks.square(model, x, torch.tensor([0]), eps=0.25, queries=2)
    stripes, squared = shown[-2:]
    assert set(stripes.unique().tolist()) == {0.25, 0.75}
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    assert share(1, 2) < share(1, 10_000) == 0.8
    differ = (squared != stripes).any(1)[0].nonzero()
    side = differ.amax(0) - differ.amin(0) + 1
    assert (side <= round((share(1, 2) * 80) ** 0.5)).all()


@pytest.mark.parametrize("shape", [(1, 4000), (1, 1, 2, 2000), (1, 1, 2000, 2)])
def test_where_the_map_is_low_a_square_is_wider_and_covers_its_share(shape):
    x, shown = torch.full(shape, 0.5), []

    def model(images: Tensor) -> Tensor:
        shown.append(images.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)

    attacks.square(model, x, torch.tensor([0]), eps=0.25, queries=2)
    stripes, squared = (images.squeeze() for images in shown[-2:])
    places = (squared != stripes).nonzero()
    length = (places.amax(0) - places.amin(0) + 1).max()
    asked = share(1, 2) * 4000 / (x[0].numel() // max(shape))
    assert 0.6 * asked < length <= asked + 1  # pixels at its ends may have had the value already


def test_squares_shrink_as_in_the_paper():
    shares = [share(asked, 10_000) for asked in (1, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert shares == [0.8, 0.8, *(0.8 / 2**k for k in range(1, 10))]
    assert share(11, 2500) == share(44, 10_000) == 0.4


def test_it_counts_its_queries_and_leaves_images_alone_that_are_done(precise_cnn, few):
    x, y = few
    asked = []

    def model(images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        asked.append(len(images))
        return precise_cnn(images)

    found = attacks.square(model, x, y, eps=0.3, queries=30)
    fooled = precise_cnn(found).argmax(1) != y
    queried = asked[2:]  # after the contract's question and the clean images
    assert sum(queried) <= 30 * 40 + fooled.sum()  # success is asked about twice
    assert fooled.sum() > 10 and min(queried) < 40
    wrong = precise_cnn(x).argmax(1) != y
    assert torch.equal(found[wrong], x[wrong])


def test_more_queries_never_help_the_network(trained_cnn, digits):
    x, y = digits.first(100)
    right = [
        accuracy(trained_cnn, attacks.square(trained_cnn, x, y, eps=0.2, queries=n), y) for n in (1, 30, 200)
    ]
    assert right[0] >= right[1] >= right[2] and right[2] < right[0] - 10


def test_it_needs_no_gradient(precise_cnn, few):
    """Rounded pixels have a gradient of zero, which stops the attacks that follow it, and not this one."""

    def model(images: Tensor) -> Tensor:
        return precise_cnn((4 * images).round() / 4)

    x, own = few[0], model(few[0]).argmax(1)
    with pytest.warns(attacks.UnmovedWarning, match="40 of 40 images"):
        assert torch.equal(attacks.bim(model, x, eps=0.3), x)
    assert (model(attacks.square(model, x, eps=0.3, queries=60)).argmax(1) != own).float().mean() > 0.5


def test_it_agrees_with_the_toolbox(trained_cnn, digits):
    """The toolbox draws one square for all images of a call: few images in each, so that there are several draws."""
    from art.attacks.evasion import SquareAttack

    x, y = digits.first(500)
    attack = SquareAttack(
        toolbox(trained_cnn), eps=0.1, max_iter=80, p_init=0.8, nb_restarts=1, batch_size=20, verbose=False
    )
    calls = zip(x.split(20), y.split(20), strict=True)
    made = torch.cat([torch.from_numpy(attack.generate(some.numpy(), of.numpy())) for some, of in calls])
    ours = attacks.square(trained_cnn, x, y, eps=0.1, queries=80, batch_size=250)
    points, error = gap(trained_cnn, ours, made, y)
    assert abs(points) <= 4 and 3 * error < 4  # the two draw different squares: that much is luck
    assert accuracy(trained_cnn, ours, y) < accuracy(trained_cnn, x, y) - 15
