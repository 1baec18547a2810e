"""Trained networks for the attack lab: ONNX graphs of answers and of input gradients, packed for a browser.

``python book/_web/export.py FOLDER`` writes a pack per trained network, and ``manifest.json``, which lists them.
A pack is one gzip stream of three parts: large matrices in half precision (the high bytes of all numbers, then
the low bytes, which packs better), other large tensors in single precision, and the graphs, which share both.
The graphs compute in single precision and take one image. A network whose weights are not released is left
out, with a message here and on the page.
"""

import argparse
import base64
import copy
import zlib
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from qlayer_core import codes, data, datasets, files, models
from qlayer_core.attacks import losses, surrogates
from qlayer_core.show import names
from qlayer_core.study import records
from qlayer_core.study.making import GAPS

NETWORKS = ("cnn", "cnn-adv", "q-base", "q-base-adv", "q-large", "q-large-adv", "q-inner")
ATTACKED = ("e", "shortcut", "straight-through", "soft")  # what a gradient passes
SOFTNESS = 0.1  # of soft codes: their temperature, in units of the network's own `surrogates.typical_gap`
MARK = (
    0.1234567  # stands for a temperature while graphs are translated, so that networks share the translation
)
IMAGES_A_CLASS = 2  # in the tray of test images
SHARED = 256  # tensors with fewer numbers stay inside each graph
SHARED_FILE = "weights"  # the name under which a graph looks for the tensors that it shares

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Network:
    """One network, ready to pack: small graphs, and the tensors that they share."""

    graphs: dict[str, onnx.ModelProto]  # "answers", and a "gradient-<path>" each path that can be attacked
    half: bytes  # float16, little endian
    single: bytes  # float32, little endian

    @property
    def weights(self) -> bytes:
        """The file that the graphs refer to as ``weights``."""
        return self.half + self.single


def network(model: nn.Module, clean: Tensor) -> Network:
    """Return the graphs of a network in evaluation mode.

    ``clean`` are images, of which the first `GAPS` tell the temperature of `surrogates.soft`.

    ``answers`` takes ``image`` ``(1, 1, 28, 28)`` in [0, 1] and gives ``logits`` ``(1, 10)``. For a `QNet` it gives
    ``q`` and ``e``, the logits of both paths, ``codes`` ``(heads, 1, H, W)`` int32, and ``gate``, the softmax of
    eq. 4, ``(1, heads * dim, H, W)``.

    ``gradient-<path>`` takes ``image``, ``label`` ``(1,)`` int64, where -1 stands for the network's own answer, and
    ``margin`` ``(1,)`` bool, and gives ``logits`` of that path and ``gradient`` in the image: of
    `attacks.losses.margin` where ``margin`` is true, else of the exact `attacks.losses.cross_entropy`.
    """
    if model.training:
        raise ValueError("the model is in training mode: call model.eval() before exporting it")
    model = copy.deepcopy(model).requires_grad_(False)
    image, label, margin = torch.zeros(1, 1, 28, 28), torch.full((1,), -1), torch.zeros(1, dtype=torch.bool)
    if isinstance(model, models.QNet):
        paths = {path: partial(model, path=path) for path in ATTACKED}
        paths["soft"] = surrogates.soft(MARK, hard=True)(model)
        graphs = {"answers": _graph(model, _answers(model), {"image": image}, ("q", "e", "codes", "gate"))}
    else:
        paths = {"logits": model}
        graphs = {"answers": _graph(model, lambda x: (model(x),), {"image": image}, ("logits",))}
    for path, logits in paths.items():
        inputs = {"image": image, "label": label, "margin": margin}
        graphs[f"gradient-{path}"] = _graph(model, _gradient(logits), inputs, ("logits", "gradient"))
    if "soft" in paths:
        _replace(graphs["gradient-soft"], MARK, SOFTNESS * surrogates.typical_gap(model, clean[:GAPS]))
    return _share_weights(graphs)


def pack(exported: Network) -> tuple[bytes, dict]:
    """Return a network packed for the page, and what the page must know to unpack it."""
    graphs = {name: graph.SerializeToString() for name, graph in exported.graphs.items()}
    planes = np.frombuffer(exported.half, np.uint8).reshape(-1, 2).T[::-1].tobytes()  # high bytes, then low
    content = b"".join([planes, exported.single, *graphs.values()])
    layout = {
        "half": len(exported.half),
        "single": len(exported.single),
        "graphs": {name: len(graph) for name, graph in graphs.items()},
        "attacked": [name.removeprefix("gradient-") for name in graphs if name != "answers"],
    }
    # Numbers hardly repeat: codes for single bytes pack them 1 % better than references to earlier strings.
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_FILTERED)
    return packer.compress(content) + packer.flush(), layout


def tray(dataset: str) -> data.Split:
    """Return the lab's test images: the first `IMAGES_A_CLASS` of each class, class by class."""
    images, labels = data.load(dataset, "test")
    chosen = torch.cat([(labels == c).nonzero()[:IMAGES_A_CLASS, 0] for c in range(models.CLASSES)])
    return data.Split(images[chosen], labels[chosen])


def export(folder: Path) -> dict:
    """Write one pack per released network, and the manifest; return the manifest.

    The manifest also holds each data set's tray of test images and PyTorch's own logits for them, which a page can
    hold its own against.
    """
    manifest = {"datasets": {dataset: _export_dataset(dataset, folder) for dataset in datasets.DATASETS}}
    text = json.dumps(manifest)
    files.write_atomically(folder / "manifest.json", lambda path: path.write_text(text))
    return manifest


def _export_dataset(dataset: str, folder: Path) -> dict:
    images, labels = tray(dataset)
    networks, lacking = [], []
    for name in NETWORKS:
        if not records.unit(dataset, name).released.exists():
            lacking.append(name)
            print(f"attack lab: {name} on {dataset} is left out, its weights are not released")
            continue
        model, _ = records.load(dataset, name)
        content, layout = pack(network(model, data.load(dataset, "test", limit=GAPS).images))
        # A new name for new content: a browser may keep the old file for as long as it likes.
        file = f"{dataset}/{name}-{hashlib.sha256(content).hexdigest()[:8]}.bin"
        files.write_atomically(folder / file, lambda path, content=content: path.write_bytes(content))
        expected = _logits(model, images)
        entry = {"name": name, "file": file, "bytes": len(content), **layout}
        entry |= _map(model, images) if isinstance(model, models.QNet) else {"heads": 0}
        entry |= {"paths": list(expected), "expected": expected}
        networks.append(entry)
        print(f"attack lab: {name} on {dataset}, {len(content) / 1e6:.1f} MB")
    return {
        "classes": datasets.find(dataset).class_names,
        "labels": labels.tolist(),
        "images": base64.b64encode((images * 255).round().byte().numpy()).decode(),
        "networks": networks,
        "missing": lacking,
    }


@torch.no_grad()
def _map(model: models.QNet, images: Tensor) -> dict:
    """Return what the page must know of a map of codes: its colours, and which pixels a position looks at.

    Position i along a side looks at ``field`` pixels from ``offset + i * stride`` on.
    """
    side = model.encoder(images[:1]).shape[-1]
    view = codes.field_of_view(model.encoder, images.shape[-1], side)
    colours = names.code_colours(codes.along_main_direction(model.layer.codebook))  # the figures' own
    drawn = [["#" + colour.tobytes().hex() for colour in head] for head in colours]
    return {
        "heads": model.layer.heads,
        "side": side,
        "field": view.size,
        "stride": view.stride,
        "offset": -view.before,
        "colours": drawn,
    }


def _answers(model: models.QNet) -> Function:
    def answers(images: Tensor) -> tuple[Tensor, ...]:
        z = model.encoder(images)
        projected, gate = model.layer.project(z), model.layer.gate(z)
        indices = model.layer.nearest(projected)
        q, e = model.tail_q(model.layer._lookup(indices)), model._tail("e")(projected)
        return q, e, indices.int(), gate.flatten(3).permute(0, 3, 1, 2)

    return answers


def _gradient(model: Callable[[Tensor], Tensor]) -> Function:
    def gradient(images: Tensor, labels: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            logits = model(images)
            labels = torch.where(labels < 0, logits.argmax(1), labels)
            margins, entropies = (loss(logits, labels) for loss in (losses.margin, losses.cross_entropy))
            # One graph for both: a session of its own would hold the weights once more.
            (found,) = torch.autograd.grad(torch.where(margin, margins, entropies).sum(), images)
        return logits.detach(), found

    return gradient


def _logits(model: nn.Module, images: Tensor) -> dict[str, list]:
    """Return logits ``(N, 10)`` by path, in float32; those of a plain network are called "logits" in the page."""
    found = models.answers(model, images)
    return {
        path or "logits": [[round(x, 5) for x in row] for row in logits.tolist()]
        for path, logits in found.items()
    }


def _convolution_input_gradient(
    grad, images, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask
):
    """Return aten.convolution_backward's input gradient, as the transposed convolution that it is."""
    missing = [
        images.shape[2 + i] - ((grad.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + weight.shape[2 + i])
        for i in (0, 1)
    ]
    return F.conv_transpose2d(grad, weight, None, stride, padding, missing), None, None


def _decompositions() -> dict:
    aten = torch.ops.aten
    return {
        aten.convolution_backward.default: _convolution_input_gradient,
        **get_decompositions(
            [
                aten.threshold_backward,
                aten._softmax_backward_data,
                aten._log_softmax_backward_data,
                aten.native_batch_norm_backward,
            ]
        ),
    }


class _Call(nn.Module):
    """A function of a model as a module, so that the model's weights can be its arguments."""

    def __init__(self, model: nn.Module, function: Function):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


def _graph(
    model: nn.Module, function: Function, inputs: dict[str, Tensor], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """Trace ``function`` of ``model``, its backward pass included, and return it as ONNX with the weights in it."""
    call = _Call(model, function)
    weights = call.state_dict()

    def traceable(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(weights, values, strict=False))
        return torch.func.functional_call(call, given, values[len(given) :])

    values = (*weights.values(), *inputs.values())
    traced = make_fx(traceable, decomposition_table=_decompositions())(*values).eval()
    graph = onnx.ModelProto()
    graph.CopyFrom(_translated(traced, values, (*weights, *inputs), outputs))
    del graph.graph.input[: len(weights)]
    used = {name for node in graph.graph.node for name in node.input}
    graph.graph.initializer.extend(
        numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items() if name in used
    )
    return graph


def _replace(graph: onnx.ModelProto, number: float, by: float) -> None:
    """Put another number in the place of the one scalar of a graph that has this value."""
    scalars = (tensor for tensor in graph.graph.initializer if not tensor.dims)
    (scalar,) = (one for one in scalars if numpy_helper.to_array(one) == np.float32(number))
    scalar.CopyFrom(numpy_helper.from_array(np.array(by, np.float32), scalar.name))


_TRANSLATED: dict[tuple, onnx.ModelProto] = {}  # by all that the graph depends on


def _translated(
    traced: fx.GraphModule, values: tuple[Tensor, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """Return ``traced`` as ONNX: made once for all networks of one architecture, since it takes seconds."""
    constants = tuple((name, str(value.tolist())) for name, value in traced.state_dict().items())
    shapes = tuple(tuple(value.shape) for value in values)
    key = traced.code, constants, shapes, inputs, outputs
    if key not in _TRANSLATED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own inner workings
            program = torch.onnx.export(
                traced, values, dynamo=True, input_names=inputs, output_names=outputs, verbose=False
            )
        found = program.model_proto
        for part in (found, found.graph, *found.graph.node, *found.graph.value_info):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")  # where in whose files each node came from
        _TRANSLATED[key] = found
    return _TRANSLATED[key]


def _share_weights(graphs: dict[str, onnx.ModelProto]) -> Network:
    """Move large tensors out of the graphs, each once: in half precision if that changes no number."""
    half, single, places = bytearray(), bytearray(), {}
    large = [
        (model.graph, tensor, numpy_helper.to_array(tensor))
        for model in graphs.values()
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= SHARED
    ]
    for _, _, values in large:
        if (key := values.tobytes()) not in places:
            short = values.astype(np.float16)
            part, stored = (half, short) if np.array_equal(short, values) else (single, values)
            places[key] = part, len(part), stored.nbytes
            part += stored.tobytes()
    for graph, tensor, values in large:
        part, start, length = places[values.tobytes()]
        if part is half:  # cast once, when the graph is loaded
            stored, wanted = f"{tensor.name}_half", tensor.name
            graph.node.insert(0, helper.make_node("Cast", [stored], [wanted], to=TensorProto.FLOAT))
            tensor.name, tensor.data_type = stored, TensorProto.FLOAT16
        _refer(tensor, start if part is half else len(half) + start, length)
    return Network(graphs, bytes(half), bytes(single))


def _refer(tensor: TensorProto, start: int, length: int) -> None:
    """Let ``tensor`` be ``length`` bytes of the shared weights instead of holding its own."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": SHARED_FILE, "offset": start, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    export(parser.parse_args().folder)
