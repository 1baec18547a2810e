"""The diagram that one enters holds what the layer computes: features, gate, distances, codes and both answers."""

import html
import json
import re

import numpy as np
import pytest
import torch
from conftest import small_q_net
from javascript import node

from qlayer_core import attacks, codes
from qlayer_core.show import names, zoom
from qlayer_core.study import records

PLACES = (0, 40, 77, 90, 130)  # positions, row by row


@pytest.fixture(scope="module")
def net():
    return records.load("mnist", "q-base")[0]


@pytest.fixture(scope="module")
def seen(net, digits):
    """Two digits as the chapter shows them: clean, attacked by two epsilons, with noise."""
    clean = digits.images[[4, 12]]
    source = records.load("mnist", "source-a")[0]
    pushed = {f"FGSM {eps}": attacks.fgsm(source, clean, eps=eps) for eps in (0.15, 0.2)}
    signs = torch.randint(0, 2, clean.shape, generator=torch.Generator().manual_seed(0))
    return {"clean": clean, **pushed, "noise 0.2": (clean + 0.2 * (2.0 * signs - 1)).clamp(0, 1)}


@pytest.fixture(scope="module")
def markup(net, seen, digits):
    return zoom.diagram(net, seen, digits.labels[[4, 12]], ask="FGSM 0.2")


@pytest.fixture(scope="module")
def told(markup):
    return json.loads(html.unescape(re.search(r"data-zoom='([^']*)'", markup.html)[1]))


@pytest.fixture(scope="module")
def read(told):
    """What the page computes at `PLACES`, by digit, image and place."""
    return node(
        f"((all) => all.digits.map(({{seen}}) => seen.map((one) => {list(PLACES)}.map((at) => {{"
        " const {distances, quantized, z, gate, p, ...rest} = zoom.position(all, one, at);"
        " return {distances, quantized: [...quantized], z: [...z], gate: [...gate], p: [...p], ...rest};"
        f" }}))))(zoom.unpack({json.dumps(told)}))",
        "zoom",
    )


@torch.no_grad()
def test_one_position_is_that_of_the_layer_in_numpy(net, seen, read):
    """Equations 4 and 2 by hand, from the encoder on: bars to about a hundredth of their height, numbers as said."""
    layer = net.layer
    weight, bias, book = (x[0].numpy() for x in (layer.gate_weight, layer.gate_bias, layer.codebook))
    for which, images in enumerate(seen.values()):
        for digit, features in enumerate(net.encoder(images)):
            for at, found in zip(PLACES, read[digit][which], strict=True):
                z = features.flatten(1)[:, at].numpy()
                raised = np.exp(z @ weight + bias)
                gate = raised / raised.sum()
                distances = np.linalg.norm(z * gate - book, axis=1)
                (first, second), channel = distances.argsort()[:2], (z * gate).argmax()
                assert np.abs(found["z"] - z).max() <= z.max() / 500
                assert found["gate"] == pytest.approx(gate, abs=0.02)
                assert found["p"] == pytest.approx(z * gate, abs=0.06)
                assert found["distances"] == pytest.approx(distances, abs=0.06)
                assert (found["channel"], found["code"], found["second"]) == (channel, first, second)
                assert found["z"][channel] == pytest.approx(z[channel], abs=5e-4)
                assert found["gate"][channel] == pytest.approx(gate[channel], abs=5e-5)
                assert found["nearest"] == pytest.approx(distances[first], abs=5e-4)
                assert found["margin"] == pytest.approx(distances[second] - distances[first], abs=5e-5)
                assert found["quantized"] == pytest.approx(book[first], abs=5e-5)


@torch.no_grad()
def test_how_far_an_image_moves_the_features_is_told_as_it_is(net, seen, told):
    before, after = (net.layer.project(net.encoder(seen[name])) for name in ("clean", "FGSM 0.2"))
    found = node(f"zoom.unpack({json.dumps(told)}).digits.map(({{seen}}) => [...seen[2].moves])", "zoom")
    assert np.array(found) == pytest.approx((after - before).norm(dim=1).flatten(1).numpy(), abs=5e-4)


@torch.no_grad()
def test_codes_and_answers_are_exact(net, seen, told):
    found = node(
        f"zoom.unpack({json.dumps(told)}).digits.map(({{seen}}) =>"
        " seen.map((one) => ({codes: [...one.codes], flips: zoom.flips(seen[0], one)})))",
        "zoom",
    )
    chosen = {name: net.layer(net.encoder(x)).indices[0].flatten(1) for name, x in seen.items()}
    for which, (name, x) in enumerate(seen.items()):
        out = net(x, path="both")
        for digit in range(2):
            assert found[digit][which]["codes"] == chosen[name][digit].tolist()
            flipped = (chosen[name][digit] != chosen["clean"][digit]).nonzero().flatten().tolist()
            assert found[digit][which]["flips"] == flipped
            packed = told["digits"][digit]["seen"][which]
            assert packed["q"] == pytest.approx(out.q[digit].softmax(0).tolist(), abs=6e-4)
            assert packed["e"] == pytest.approx(out.e[digit].softmax(0).tolist(), abs=6e-4)


def test_from_its_bytes_the_page_would_choose_nearly_always_the_same_code(told):
    same = node(
        f"((all) => all.digits.flatMap(({{seen}}) => seen.flatMap((one) => [...one.codes].map((code, at) => {{"
        " const {distances} = zoom.position(all, one, at);"
        " return distances.indexOf(Math.min(...distances)) === code;"
        f" }}))))(zoom.unpack({json.dumps(told)}))",
        "zoom",
    )
    assert len(same) == 2 * 4 * 144
    assert np.mean(same) > 0.98


def test_colours_are_those_of_the_figures(net, told):
    shades = names.code_colours(codes.along_main_direction(net.layer.codebook)[0])
    assert [tuple(bytes.fromhex(colour[1:])) for colour in told["colours"]] == [
        tuple(one) for one in shades.tolist()
    ]


@torch.no_grad()
def test_where_no_script_runs_words_say_what_flips(net, seen, markup):
    chosen = [net.layer(net.encoder(seen[name])).indices[0] for name in ("clean", "FGSM 0.2")]
    first, second = (chosen[0] != chosen[1]).flatten(1).sum(1).tolist()
    words = f"FGSM 0.2 flips {first} of the 144 codes of the 4 and {second} of the 144 codes of the 9."
    assert markup.text.endswith(words) and f"<p>{html.escape(markup.text)}</p>" in markup.html


def test_a_page_stays_light(markup):
    assert len(markup.html) < 150 * 1024


def test_several_heads_and_training_are_refused(digits):
    images, labels = {"clean": digits.images[:1]}, digits.labels[:1]
    with pytest.raises(ValueError, match="2 heads"):
        zoom.diagram(small_q_net(heads=2).eval(), images, labels, ask="clean")
    with pytest.raises(ValueError, match="training mode"):
        zoom.diagram(small_q_net(heads=1).train(), images, labels, ask="clean")
