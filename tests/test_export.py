"""Exported networks: the same answers, codes and gradients as PyTorch's, in packs that a page can unpack."""

import base64
import copy
import gzip
from functools import partial

import export
import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from conftest import drawings, small_q_net

from qlayer_core import attacks, codes, data, models, show
from qlayer_core.study import experiments, making, records

EXPORTED = ("cnn", "q-base", "q-large")  # the adversarially trained ones have the same graphs
IMAGES_FOR_GRADIENTS = 200
CLEAN = data.load("mnist", "validation", limit=64).images  # of untrained networks


class Exported:
    """A network and its graphs, run by ONNX Runtime one image at a time, as the page does."""

    def __init__(self, model, folder, clean):
        self.model = model
        self.network = export.network(model, clean)
        (folder / export.SHARED_FILE).write_bytes(self.network.weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {}
        for name, graph in self.network.graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
            self.sessions[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx", options)

    def run(self, graph, images, label=None, margin=False):
        """Return the graph's outputs by name, each a list with one array per image."""
        session = self.sessions[graph]
        names = [output.name for output in session.get_outputs()]
        fixed = {} if label is None else {"label": np.array([label]), "margin": np.array([margin])}
        rows = [session.run(names, {"image": image[None].numpy(), **fixed}) for image in images]
        return dict(zip(names, zip(*rows, strict=True), strict=True))


@pytest.fixture(scope="module", params=EXPORTED)
def released(request, tmp_path_factory):
    if not records.unit("mnist", request.param).released.exists():
        pytest.skip(f"the weights of {request.param} on MNIST are not released")
    model, _ = records.load("mnist", request.param)
    clean = data.load("mnist", "test", limit=export.GAPS).images
    return Exported(model, tmp_path_factory.mktemp(request.param), clean)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    torch.manual_seed(0)
    return Exported(small_q_net().eval(), tmp_path_factory.mktemp("untrained"), CLEAN)


@torch.no_grad()
def test_same_logits_and_codes_on_1000_test_images(released, digits):
    found = released.run("answers", digits.images)
    if not isinstance(released.model, models.QNet):
        np.testing.assert_allclose(np.concatenate(found["logits"]), released.model(digits.images), atol=1e-3)
        return
    for part in range(0, 1000, 250):
        at = slice(part, part + 250)
        expected = released.model(digits.images[at], path="both")
        codes = np.concatenate(found["codes"][at], axis=1)
        differing = codes != expected.layer.indices.numpy()
        near_ties = close_calls(released.model.layer, expected.layer.projected, codes)
        assert not (differing & ~near_ties).any(), (
            f"{differing.sum()} codes differ, not all of them near-ties"
        )
        # A code on the other side of a tie changes the Q-path's answer, so such an image is left out.
        same = ~differing.any(axis=(0, 2, 3))
        assert same.mean() > 0.99
        np.testing.assert_allclose(np.concatenate(found["q"][at])[same], expected.q[same], atol=1e-3)
        np.testing.assert_allclose(np.concatenate(found["e"][at]), expected.e, atol=1e-3)


def close_calls(layer, projected, codes):
    """Return where the chosen code is as near as the nearest one, but for rounding."""
    panels = projected.permute(0, 2, 3, 1).reshape(-1, layer.heads, layer.dim).transpose(0, 1)
    distances = torch.cdist(panels.double(), layer.codebook.double())  # (heads, N * H * W, codes)
    chosen = distances.gather(2, torch.from_numpy(codes).long().flatten(1).unsqueeze(2)).squeeze(2)
    return (chosen - distances.amin(2) < 1e-5).view(codes.shape).numpy()


def test_same_gradient_signs_on_more_than_999_of_1000_pixels(released, digits):
    images = digits.images[:IMAGES_FOR_GRADIENTS]
    for graph in released.network.graphs:
        if graph == "answers":
            continue
        path = graph.removeprefix("gradient-")
        model = released.model if path == "logits" else partial(released.model, path=path)
        if path == "soft":  # as the book's ladder has them
            model = making.stand_in(released.model, f"soft {export.SOFTNESS}", digits.images)
        found = np.concatenate(released.run(graph, images, label=-1)["gradient"])
        expected = attacks.Problem(model, images, None, 0.1).gradient(images, "ce")
        agreement = (np.sign(found) == expected.sign().numpy()).mean()
        assert agreement > 0.999, f"{graph}: {agreement:.5f}"


def test_gradients_have_the_sign_of_float64_however_sure_the_network_is(tmp_path, digits):
    """Where the answer's probability rounds to 1 the usual cross-entropy has no gradient left in float32."""
    torch.manual_seed(0)
    model = small_q_net().eval()
    with torch.no_grad():
        model.tail_e[1].weight *= 200_000
    images = digits.images[:20]
    assert model(images, path="e").softmax(1).amax(1).min() > 1 - 1e-6
    found = np.concatenate(Exported(model, tmp_path, CLEAN).run("gradient-e", images, -1)["gradient"])
    exact = partial(copy.deepcopy(model).double(), path="e")
    x = images.double().requires_grad_()
    logits = exact(x)
    own = logits.gather(1, logits.argmax(1, keepdim=True))
    others = logits.masked_fill(logits == own, -torch.inf).logsumexp(1)
    (expected,) = torch.autograd.grad((others - own.squeeze(1)).sum(), x)
    assert (np.sign(found) == expected.sign().numpy()).mean() > 0.9999


def test_gate_is_the_softmax_that_the_layer_multiplies_by(untrained, digits):
    image = digits.images[:1]
    gate = untrained.run("answers", image)["gate"][0]
    with torch.no_grad():
        z = untrained.model.encoder(image)
        projected = untrained.model.layer.project(z)
    np.testing.assert_allclose(gate * z.repeat(1, 2, 1, 1).numpy(), projected, atol=1e-6)
    np.testing.assert_allclose(gate.reshape(2, 8, 8, 8).sum(1), 1, rtol=1e-5)  # each head's softmax


def test_gradient_of_the_margin_is_pytorchs(untrained, digits):
    """The Carlini-Wagner attack follows it, length and all."""
    images = digits.images[:20]
    found = np.concatenate(untrained.run("gradient-e", images, -1, margin=True)["gradient"])
    problem = attacks.Problem(partial(untrained.model, path="e"), images, None, 0.1)
    np.testing.assert_allclose(found, problem.gradient(images, "margin"), rtol=1e-4, atol=1e-7)
    assert not np.allclose(found, problem.gradient(images, "ce"), rtol=0.1)


@pytest.mark.parametrize("name", ["q-base", "q-inner"])
def test_map_says_which_pixels_a_position_looks_at(name):
    model = models.build(experiments.spec(name)).eval()
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = export._map(model, image)
    z = model.encoder(image)
    assert z.shape[2:] == (found["side"], found["side"])
    row, column = 4, 7
    (slope,) = torch.autograd.grad(z[0, :, row, column].sum(), image)
    expected = torch.zeros(28, 28, dtype=bool)
    top, left = (found["offset"] + found["stride"] * place for place in (row, column))
    expected[top : top + found["field"], left : left + found["field"]] = True
    assert ((slope[0, 0] != 0) == expected).all()


def test_a_code_has_the_colour_that_figures_give_it(digits):
    """A map that is drawn from the manifest is the chapters' and sliders' map, colour by colour."""
    torch.manual_seed(0)
    net, image = small_q_net(heads=2).eval(), digits.images[:1]
    indices = codes.layer_output(net, image).indices
    for head, found in enumerate(export._map(net, image)["colours"]):
        assert len(found) == net.layer.codebook_size == len({*found})
        chosen = indices[head, 0].numpy()
        drawn = np.array([[tuple(bytes.fromhex(found[code][1:])) for code in row] for row in chosen])
        (figure,) = drawings(show.layer.code_maps(net.layer, {"": image}, {"": indices}, head).html)[1:]
        np.testing.assert_array_equal(drawn, figure)


def test_networks_of_one_architecture_share_the_translation_and_no_weights(untrained, tmp_path, digits):
    before = len(export._TRANSLATED)
    torch.manual_seed(1)
    other = Exported(small_q_net().eval(), tmp_path, CLEAN)
    assert len(export._TRANSLATED) == before
    for net in (other, untrained):
        with torch.no_grad():
            expected = net.model(digits.images[:5], path="e")
        np.testing.assert_allclose(
            np.concatenate(net.run("answers", digits.images[:5])["e"]), expected, atol=1e-4
        )
    with torch.no_grad():
        assert not torch.allclose(expected, other.model(digits.images[:5], path="e"), atol=0.01)


def test_label_minus_one_is_the_networks_own_answer(untrained, digits):
    image = digits.images[:1]
    by_label = [untrained.run("gradient-e", image, label)["gradient"][0] for label in range(10)]
    own = untrained.run("gradient-e", image, -1)
    np.testing.assert_array_equal(own["gradient"][0], by_label[own["logits"][0].argmax()])
    assert not np.array_equal(by_label[0], by_label[1])


def test_pack_unpacks_to_the_weights_and_the_graphs(untrained):
    content, layout = export.pack(untrained.network)
    content = gzip.decompress(content)
    numbers = layout["half"] // 2
    half = bytes(byte for i in range(numbers) for byte in (content[numbers + i], content[i]))
    start = layout["half"] + layout["single"]
    assert half + content[layout["half"] : start] == untrained.network.weights
    for name, length in layout["graphs"].items():
        assert content[start : start + length] == untrained.network.graphs[name].SerializeToString()
        start += length
    assert start == len(content)


def test_numbers_are_halved_only_where_that_changes_none(untrained):
    rounded = small_q_net().eval()
    rounded.load_state_dict({name: t.half().float() for name, t in untrained.model.state_dict().items()})
    before, after = untrained.network, export.network(rounded, CLEAN)
    assert len(before.half) == 0
    assert 2 * len(after.half) + len(after.single) == len(before.single)


def test_weights_are_stored_once_for_all_graphs(released):
    parameters = sum(p.numel() for p in released.model.parameters() if p.numel() >= export.SHARED)
    stored = len(released.network.half) / 2 + len(released.network.single) / 4
    assert stored < 1.05 * parameters


def test_graphs_say_nothing_about_the_machine_that_made_them(untrained):
    for graph in untrained.network.graphs.values():
        assert b".py" not in graph.SerializeToString()


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="eval"):
        export.network(small_q_net(), CLEAN)


def test_tray_has_two_test_images_of_each_class():
    images, labels = export.tray("mnist")
    assert labels.tolist() == [c for c in range(10) for _ in range(2)]
    test = data.load("mnist", "test")
    assert all((test.images == image).flatten(1).all(1).any() for image in images)


@pytest.fixture
def fashion_alone(tmp_path, monkeypatch):
    """A folder of weights with one network of Fashion-MNIST, which has learnt nothing."""
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    monkeypatch.setattr(export, "NETWORKS", ("cnn",))
    model = models.build(experiments.spec("cnn"))
    released = records.unit("fashion-mnist", "cnn").released
    released.parent.mkdir(parents=True)
    safetensors.torch.save_file({n: t.half().contiguous() for n, t in model.state_dict().items()}, released)
    # as records.load, but without a record of results
    monkeypatch.setattr(records, "load", lambda *_: (records.load_weights(model, released), {}))
    return tmp_path


def test_fashion_mnist_is_packed_as_soon_as_a_network_of_it_is_released(fashion_alone):
    manifest = export.export(fashion_alone / "lab")["datasets"]
    assert manifest["mnist"]["networks"] == []
    fashion = manifest["fashion-mnist"]
    (entry,) = fashion["networks"]
    assert fashion["classes"][0] == "T-shirt/top" and len(fashion["labels"]) == 20
    assert (fashion_alone / "lab" / entry["file"]).stat().st_size == entry["bytes"]
    levels = np.frombuffer(base64.b64decode(fashion["images"]), np.uint8).reshape(20, 28, 28)
    test = data.load("fashion-mnist", "test", limit=export.GAPS)
    np.testing.assert_array_equal(
        levels[0], (255 * test.images[test.labels == 0][0, 0]).round().byte().numpy()
    )


def test_a_network_comes_into_the_lab_with_its_weights(fashion_alone, monkeypatch):
    """Whichever it is: here one of those that were trained last."""
    monkeypatch.setattr(export, "NETWORKS", ("cnn", "q-large-adv", "q-inner"))
    model = small_q_net().eval()
    monkeypatch.setattr(records, "load", lambda *_: (model, {}))
    for name in ("cnn", "q-large-adv"):
        records.unit("fashion-mnist", name).released.touch()
    monkeypatch.setattr(export, "network", lambda *_: None)
    monkeypatch.setattr(export, "pack", lambda _: (b"", {}))
    found = export.export(fashion_alone / "lab")["datasets"]["fashion-mnist"]
    assert [entry["name"] for entry in found["networks"]] == ["cnn", "q-large-adv"]
    assert found["missing"] == ["q-inner"]


def test_networks_without_weights_are_left_out_and_said_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "WEIGHTS", tmp_path)
    manifest = export.export(tmp_path / "lab")
    assert [found["networks"] for found in manifest["datasets"].values()] == [[], []]
    assert [found["missing"] for found in manifest["datasets"].values()] == [list(export.NETWORKS)] * 2
    assert "q-large on mnist is left out" in capsys.readouterr().out
    assert (tmp_path / "lab" / "manifest.json").stat().st_size < 100_000
