"""What the figures of the layer say in words is what the layer does."""

from functools import partial

import numpy as np
import torch
from conftest import drawings, small_q_net

from qlayer_core import attacks, codes, show
from qlayer_core.show import slides


def test_figures_of_the_layer_say_how_much_changed(digits):
    net, images = small_q_net(heads=1).eval(), digits.images[:2]
    made = attacks.fgsm(partial(net, path="e"), images, eps=0.3)
    indices = {name: net.layer(net.encoder(x)).indices for name, x in {"clean": images, "FGSM": made}.items()}
    share = 100 * (indices["clean"] != indices["FGSM"]).float().mean().item()
    markup = show.layer.code_maps(net.layer, {"clean": images, "FGSM": made}, indices, mark=True)
    assert f"FGSM: {share:.0f} % of the codes changed" in markup.text


def test_a_code_has_one_colour_in_all_figures(digits):
    """Whatever else a figure shows, and in the sliders' maps, too."""
    layer, random = small_q_net(heads=1).layer, torch.Generator().manual_seed(0)
    few, all_codes = torch.randint(5, (1, 1, 8, 8), generator=random), torch.arange(16).repeat(1, 1, 4)
    indices = torch.cat([few, all_codes.view(1, 1, 8, 8)], 1)
    alone, beside = (
        drawings(show.layer.code_maps(layer, {"": digits.images[:n]}, {"": indices[:, :n]}).html)[n]
        for n in (1, 2)
    )
    np.testing.assert_array_equal(alone, beside)
    assert len(np.unique(alone.reshape(-1, 3), axis=0)) == len(few.unique())
    places = codes.along_main_direction(layer.codebook)[0][few[0, 0].numpy()]
    (slide,) = drawings(slides.code_map(places, np.zeros((8, 8), bool), "", cell=1))
    np.testing.assert_array_equal(alone, slide)


def test_every_figure_draws():
    """The ones without numbers of their own to check."""
    panels, codes = torch.rand(30, 4), torch.rand(5, 4)
    chosen = torch.cdist(panels, codes).argmin(1)
    assert "30 positions" in show.layer.code_space(panels, codes, chosen).text
    maps = torch.rand(1, 8, 12, 12)
    assert (
        "the 3 feature channels" in show.layer.features(torch.rand(1, 1, 28, 28), maps, maps, channels=3).text
    )


def test_the_gate_s_figure_says_how_much_passes():
    maps = torch.ones(1, 8, 12, 12)
    assert "passes 25 %" in show.layer.features(torch.rand(1, 1, 28, 28), maps, maps / 4).text


def test_the_reach_of_losses_is_drawn_as_it_was_computed(digits):
    norms = codes.losses_reach(small_q_net().eval(), digits.images[:4], digits.labels[:4])
    text = show.layer.reach(norms).text
    assert f"commitment: encoder {norms['commitment']['encoder']:.2g}" in text
    assert "; L_Q: encoder 0, gate 0" in text or ". L_Q: encoder 0, gate 0" in text
    assert "$" not in text, "a screen reader would spell the formula"
