"""What codes do, against gradients, closed forms and recomputation."""

import numpy as np
import pytest
import torch
from conftest import small_q_net

from qlayer_core import attacks, codes, models
from qlayer_core.specs import LayerSpec


def test_each_loss_reaches_its_own_parts(digits):
    """Section 3.4: where a loss has no business, its gradient is exactly zero."""
    net = small_q_net().eval()
    norms = codes.losses_reach(net, digits.images[:20], digits.labels[:20])
    assert {loss: {part for part, norm in line.items() if norm} for loss, line in norms.items()} == {
        "q": {"codebook", "tail Q"},
        "e": {"encoder", "gate", "tail E"},
        "codebook": {"codebook"},
        "commitment": {"encoder", "gate"},
    }


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_autograd_mode_changes_nothing_in_what_the_losses_reach(mode, digits):
    net = small_q_net().eval()
    expected = codes.losses_reach(net, digits.images[:4], digits.labels[:4])
    with mode():
        found = codes.losses_reach(net, digits.images[:4].clone(), digits.labels[:4].clone())
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert found == expected


def test_one_tail_for_both_paths_is_refused_where_parts_are_told_apart(digits):
    net = small_q_net().eval()
    net.tail_e = None
    with pytest.raises(ValueError, match="has one tail for both paths; give one with two"):
        codes.losses_reach(net, digits.images[:4], digits.labels[:4])


def test_a_network_that_is_being_trained_is_not_looked_at(digits):
    """It would answer with dropout, and count what it is shown among the codes that training chose."""
    net = small_q_net().train()
    before = net.layer.usage.clone()
    for look in (
        lambda: codes.layer_output(net, digits.images[:4]),
        lambda: codes.choices(net, digits.images[:4]),
        lambda: codes.losses_reach(net, digits.images[:4], digits.labels[:4]),
        lambda: attacks.surrogates.typical_gap(net, digits.images[:4]),
    ):
        with pytest.raises(ValueError, match=r"training mode.*call eval\(\) first"):
            look()
    assert torch.equal(net.layer.usage, before)


def test_drift_is_nothing_without_an_attack_and_grows_with_it(digits):
    torch.manual_seed(0)
    net, images = small_q_net(start="k-means"), digits.images[:20]
    net(images, path="both")  # spreads the codes over the panels, so that more than one is chosen
    net.eval()
    found = codes.drift(net, images, lambda eps: (images + eps).clamp(0, 1), [0, 0.01, 0.5])
    for values in found.values():
        assert values[0] == 0
        assert values[0] < values[2]
        assert values[1] < values[2]


def test_drift_is_relative_to_the_clean_length(digits):
    """Without a gate, an encoder that doubles its features moves them by 100 %."""
    net, images = small_q_net().eval(), digits.images[:5]
    net.encoder = torch.nn.Conv2d(1, 8, 5, stride=3, bias=False).eval()
    net.layer.gate_weight = None
    found = codes.drift(net, images / 2, lambda eps: images, [1])
    assert found["projected"][0] == pytest.approx(100, abs=1e-3)


PADDED_TWICE = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.Conv2d(4, 4, 3, stride=2, padding=1)
)


@pytest.mark.parametrize(
    "encoder, size, stride",
    [
        (models.q_net(LayerSpec()).encoder, 9, 2),
        (models.q_net(LayerSpec(position="between")).encoder, 5, 1),
        (PADDED_TWICE, 7, 4),
        (torch.nn.Conv2d(1, 4, 5, padding="same"), 5, 1),
        (torch.nn.Conv2d(1, 4, 5, padding="valid"), 5, 1),
    ],
)
def test_a_position_sees_what_its_gradient_reaches(encoder, size, stride):
    encoder.eval()
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    features = encoder(image)
    side = features.shape[-1]
    row, column = side // 2, side // 2 - 1
    # the sum over channels of a ReLU's input may cancel; its parts do not
    features[0, :, row, column].square().sum().backward()
    reached = image.grad[0, 0].nonzero()
    view = codes.field_of_view(encoder, 28, side)
    assert (view.size, view.stride) == (size, stride)
    first = [view.stride * at - view.before for at in (row, column)]
    assert reached.amin(0).tolist() == first
    assert reached.amax(0).tolist() == [at + view.size - 1 for at in first]


def test_codes_stand_in_the_order_of_their_main_direction():
    """Codes on a line, in any order and with any sign of the axis; another head has an order of its own."""
    line = torch.tensor([[0.0, 0], [3, 6], [1, 2], [2, 4], [9, 18]])
    other = torch.tensor([[5.0, 0], [4, 0], [3, 0], [2, 0], [-9, 0]])
    places = codes.along_main_direction(torch.stack([line, other]))
    assert places.tolist() == [[0, 0.75, 0.25, 0.5, 1], [0, 0.25, 0.5, 0.75, 1]]
    turned = codes.along_main_direction(torch.stack([line.flip(0), other]))
    assert turned[0].tolist() == places[0, ::-1].tolist()


def test_a_single_code_has_a_place():
    assert codes.along_main_direction(torch.ones(1, 1, 3)).tolist() == [[0]]


def test_a_random_sample_holds_only_places_that_choose_the_code():
    chosen = torch.tensor([[[[0, 1], [1, 1]], [[1, 0], [0, 0]]]])  # one head, two images, 2 x 2
    found = codes.Choices(chosen, torch.zeros(chosen.shape))
    assert sorted(codes.some(found, 0, 1, 10)) == [(0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)]
    assert len(set(codes.some(found, 0, 1, 3))) == 3
    assert codes.some(found, 0, 2, 3) == []


def test_a_patch_beyond_the_border_is_black():
    view = codes.FieldOfView(size=5, stride=2, before=2)
    image = np.arange(1, 37, dtype=float).reshape(6, 6)
    corner = codes.patch(image, view, 0, 1)
    assert (corner[:2] == 0).all() and (corner[2:] == image[:3, :5]).all()


def test_an_encoder_that_pools_is_refused():
    encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 5), torch.nn.MaxPool2d(2))
    with pytest.raises(ValueError, match="shrink the image by convolutions alone"):
        codes.field_of_view(encoder, 28, 12)


def test_perplexity_of_codes_used_alike_is_their_number():
    assert codes.perplexity(np.array([5, 0, 5, 5, 5])) == pytest.approx(4)


# ---- accuracy against epsilon ----
