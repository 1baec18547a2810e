"""The network that learns in the page: its losses, gradients, steps and renewed codes are those of the layer."""

import json
import re

import numpy as np
import pytest
import torch
from javascript import node

from qlayer_core.layer import QLayer

LOSSES = ("q", "e", "codebook", "commitment")


class Reference(torch.nn.Module):
    """The picture's network, from the book's own layer, with the tensors of a run."""

    def __init__(self, tensors):
        super().__init__()
        count = len(tensors["codes"]) // 2
        self.hidden, self.encoder = torch.nn.Linear(2, 6), torch.nn.Linear(6, 2)
        self.layer = QLayer(2, codebook_size=count, gate=False)
        self.q, self.e = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        self.double()
        for name, parameter in self.named().items():
            parameter.data = torch.tensor(tensors[name], dtype=torch.float64).view_as(parameter)

    def named(self):
        return {
            "hidden": self.hidden.weight,
            "hiddenBias": self.hidden.bias,
            "encoder": self.encoder.weight,
            "encoderBias": self.encoder.bias,
            "codes": self.layer.codebook,
            "tailQ": self.q.weight,
            "tailQBias": self.q.bias,
            "tailE": self.e.weight,
            "tailEBias": self.e.bias,
        }

    def losses(self, x, labels, mask=None):
        z = self.encoder(self.hidden(x).tanh())
        z = z if mask is None else z * mask
        out = self.layer(z[..., None, None])
        codebook, commitment = self.layer.losses(out)
        tails = (self.q(out.quantized.flatten(1)), self.e(out.projected.flatten(1)))
        q, e = (torch.nn.functional.cross_entropy(logits, labels) for logits in tails)
        return {"q": q, "e": e, "codebook": codebook, "commitment": commitment}


RUN = (
    "(() => { const d = tiny.makeData(3), n = tiny.start(3, 7),"
    " mask = tiny.dropoutMask(random.uniform(5), d.length);"
)


def inputs(points):
    return (
        torch.tensor([point["x"] for point in points], dtype=torch.float64),
        torch.tensor([point["label"] for point in points]),
    )


def plain(tensors):
    """Typed arrays come out of JSON as objects with a key per place."""
    return {name: list(values.values()) for name, values in tensors.items()}


@pytest.mark.parametrize("masked", [False, True])
def test_losses_and_gradients_are_those_of_the_layer(masked):
    """Each loss alone, so that each stop-gradient shows; then all four with weights."""
    weights = [{name: float(name == only) for name in LOSSES} for only in LOSSES]
    weights.append({"q": 0.7, "e": 1.3, "codebook": 2.0, "commitment": 0.4})
    mask = "mask" if masked else "null"
    found = node(
        f"{RUN} return {{data: d, mask, tensors: n.tensors, runs: {json.dumps(weights)}"
        f".map((w) => tiny.lossesAndGradient(n.tensors, d, w, {mask}))}}; }})()",
        *("tiny", "random"),
    )
    x, labels = inputs(found["data"])
    keep = torch.tensor(found["mask"], dtype=torch.float64) if masked else None
    reached = {}
    for weight, run in zip(weights, found["runs"], strict=True):
        network = Reference(plain(found["tensors"]))
        losses = network.losses(x, labels, keep)
        sum(weight[name] * loss for name, loss in losses.items()).backward()
        assert run["losses"] == pytest.approx({name: loss.item() for name, loss in losses.items()}, rel=1e-12)
        for name, parameter in network.named().items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = plain(run["gradient"])[name]
            assert gradient == pytest.approx(expected.flatten().tolist(), rel=1e-9, abs=1e-12), name
            if any(gradient):
                reached.setdefault(json.dumps(weight), set()).add(name)
    encoder = {"hidden", "hiddenBias", "encoder", "encoderBias"}
    assert list(reached.values())[:4] == [
        {"codes", "tailQ", "tailQBias"},
        {"tailE", "tailEBias"} | encoder,
        {"codes"},
        encoder,
    ]


def test_gradients_are_slopes():
    """Central differences of each loss, on every number that it reaches."""
    worst = node(
        """(() => {
            const d = tiny.makeData(3), n = tiny.start(3, 7), found = {};
            for (const loss of ["q", "e", "codebook", "commitment"]) {
                const w = {q: 0, e: 0, codebook: 0, commitment: 0, [loss]: 1};
                const {gradient} = tiny.lossesAndGradient(n.tensors, d, w);
                found[loss] = 0;
                for (const [name, tensor] of Object.entries(n.tensors)) tensor.forEach((value, i) => {
                    if (!gradient[name].some((g) => g !== 0)) return; // behind a stop-gradient
                    const at = (to) => ((tensor[i] = to), tiny.lossesAndGradient(n.tensors, d, w).losses[loss]);
                    const slope = (at(value + 1e-5) - at(value - 1e-5)) / 2e-5;
                    tensor[i] = value;
                    found[loss] = Math.max(found[loss], Math.abs(slope - gradient[name][i]));
                });
            }
            return found;
        })()""",
        "tiny",
    )
    assert max(worst.values()) < 1e-7, worst


def test_steps_are_those_of_adam():
    found = node(
        f"{RUN} const before = structuredClone(n.tensors), w = {{q: 1, e: 1, codebook: 1, commitment: 1}};"
        " for (let i = 0; i < 25; i++) tiny.learn(n, d, w);"
        " return {data: d, before, after: n.tensors, rate: tiny.RATE}; })()",
        *("tiny", "random"),
    )
    network = Reference(plain(found["before"]))
    optimizer = torch.optim.Adam(network.named().values(), lr=found["rate"])
    for _ in range(25):
        optimizer.zero_grad()
        sum(network.losses(*inputs(found["data"])).values()).backward()
        optimizer.step()
    for name, parameter in network.named().items():
        assert plain(found["after"])[name] == pytest.approx(parameter.flatten().tolist(), abs=1e-7), name


@pytest.mark.parametrize("strategy", ["pull", "reinitialize"])
def test_inactive_codes_move_as_in_the_layer(strategy):
    random = np.random.default_rng(4)
    features, codes = random.normal(size=(40, 2)), random.normal(size=(12, 2)) * 3
    layer = QLayer(2, codebook_size=12, gate=False).double()
    layer.codebook.data[0] = torch.from_numpy(codes)
    layer(torch.from_numpy(features)[..., None, None])
    idle = (layer.usage[0] == 0).nonzero().flatten().tolist()
    assert 2 < len(idle) < 12
    layer.update_inactive(strategy, learning_rate=0.02)
    moved = node(
        f"(() => {{ const t = {{codes: Float64Array.from({codes.flatten().tolist()})}};"
        f" tiny.updateInactive(t, {features.tolist()}, {idle}, '{strategy}', 0.02); return [...t.codes]; }})()",
        "tiny",
    )
    assert moved == pytest.approx(layer.codebook.flatten().tolist(), abs=1e-7)


def grow(settings: str, steps: int, seed: int = 0, codes: int = 8, more: str = ""):
    """Let a run of the picture learn; return its measures when the classes were learned and at the end."""
    return node(
        f"(() => {{ const run = learn.begin({{seed: {seed}, codes: {codes}}});"
        f" const settings = {{weights: {{q: 1, e: 1, codebook: 1, commitment: 1}}, dropout: false, ...{settings}}};"
        f" learn.advance(run, {steps}, settings);"
        f" const {{seen, ...now}} = learn.measures(run), {{seen: _, ...learned}} = run.learned ?? {{}};"
        f" return {{now, learned, verdict: learn.verdict(run, settings), history: run.history, jumped: run.jumped,"
        f" idle: learn.inactive(run), {more}}}; }})()",
        "learn",
    )


def test_a_run_is_its_seed():
    first, again, other = (grow("{dropout: true}", 150, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["history"] != other["history"]


@pytest.mark.parametrize("seed", [0, 1])
def test_commitment_shrinks_the_features_once_the_classes_are_learned(seed):
    as_printed = grow("{}", 1500, seed)
    without = grow("{weights: {q: 1, e: 1, codebook: 1, commitment: 0}}", 1500, seed)
    assert as_printed["now"]["e"] == without["now"]["e"] == 1, "every point is classified right"
    assert as_printed["now"]["spread"] < 0.93 * as_printed["learned"]["spread"]
    assert as_printed["now"]["gap"] < 0.6 * as_printed["learned"]["gap"]
    assert without["now"]["spread"] > 1.1 * without["learned"]["spread"]
    assert "shrunk together" in as_printed["verdict"] and "moved apart" in without["verdict"]


def test_dropout_in_front_makes_features_jump_between_codes():
    calm, shaken = (grow(f"{{dropout: {on}}}", 400) for on in ("false", "true"))
    assert calm["jumped"] < 0.02
    assert shaken["jumped"] > 0.2


SHARES = r"^With dropout, (\d+(?:\.\d)?) % of the features .* without it, (\d+(?:\.\d)?) % of this network's"


@pytest.mark.parametrize("seed", range(4))
def test_with_dropout_the_verdict_says_how_many_features_change_their_code_and_not_that_all_is_learned(seed):
    found = grow("{dropout: true}", 1000, seed)
    shaken, calm = map(float, re.search(SHARES, found["verdict"]).groups())
    assert shaken > 30 and calm < 6
    assert "nothing was left to learn" not in found["verdict"] and not found["learned"]
    assert f"now lie {found['now']['gap']:.2f} away" in found["verdict"]


def test_counting_the_changed_codes_leaves_the_run_as_it_is():
    """Of two runs, one is asked once more than the other."""
    then = "learn.advance(run, 50, settings), [run.network.tensors, run.chosen, run.jumped]"
    left, asked = (
        grow("{dropout: true}", 200, more=f"later: ({ask}, {then})")["later"]
        for ask in ("0", "learn.verdict(run, settings)")
    )
    assert left == asked


@pytest.mark.parametrize("seed", range(4))
def test_codes_settle_once_dropout_is_off_and_only_then_all_is_learned(seed):
    found = grow(
        "{dropout: true}",
        1000,
        seed,
        more="later: (settings.dropout = false, learn.advance(run, 500, settings), learn.measures(run).gap),"
        " then: run.learned.at, verdictThen: learn.verdict(run, settings)",
    )
    assert found["later"] < 0.3 * found["now"]["gap"]
    assert found["then"] > 1000
    assert found["verdictThen"].startswith(f"Since step {found['then']}, when nothing was left to learn")


def test_dropout_that_is_switched_on_later_forgets_that_all_was_learned():
    found = grow(
        "{}",
        1000,
        more="later: (settings.dropout = true, learn.verdict(run, settings)),"
        " then: (learn.advance(run, 1, settings), run.learned)",
    )
    assert found["learned"] and "nothing was left to learn" in found["verdict"]
    assert found["later"].startswith("With dropout, ") and found["then"] is None


def test_without_its_losses_the_encoder_rests_and_codes_stay_inactive():
    """L_Q alone moves codes and their tail: the features stay, and so do the codes that none of them chooses."""
    tensors = "tensors: run.network.tensors"
    settings = "{weights: {q: 1, e: 0, codebook: 0, commitment: 0}}"
    first, last = (grow(settings, steps, codes=16, more=tensors) for steps in (1, 200))
    for name in ("hidden", "encoder", "encoderBias", "tailE"):
        assert first["tensors"][name] == last["tensors"][name], name
    assert first["tensors"]["tailQ"] != last["tensors"]["tailQ"]
    assert 0 < len(last["idle"]) < 16
    assert "still something to learn" in last["verdict"]
