"""The sums behind the small pictures: codes and their cells, pushes that add up; against numpy and the data."""

import base64
import json
import re

import numpy as np
import pytest
import torch
import toys
from javascript import node

from qlayer_core.layer import QLayer

# ---- Codes and cells


def test_numbers_come_from_their_seed():
    drawn = node(
        "[0, 0, 1].map((seed) => { const next = random.uniform(seed), bell = random.normal(seed);"
        " return [0, 1].map((kind) => Array.from({length: 4000}, kind ? bell : next)); })",
        "random",
    )
    first, again, other = np.array(drawn)
    assert (first == again).all()
    assert not (first == other).any()
    level, bell = first
    assert level.min() >= 0 and level.max() < 1
    assert np.histogram(level, 10, (0, 1))[0] == pytest.approx(400, rel=0.2)
    assert abs(np.corrcoef(level[1:], level[:-1])[0, 1]) < 0.05
    assert bell.mean() == pytest.approx(0, abs=0.05) and bell.std() == pytest.approx(1, rel=0.05)


def test_nearest_code_is_that_of_the_layer():
    random = np.random.default_rng(0)
    codes, points = random.normal(size=(9, 2)), random.normal(size=(300, 2))
    layer = QLayer(2, codebook_size=9, gate=False).double()
    layer.codebook.data[0] = torch.from_numpy(codes)
    found = node(f"{points.tolist()}.map((point) => cells.nearest({codes.tolist()}, point))", "cells")
    assert found == layer(torch.from_numpy(points)[..., None, None]).indices.flatten().tolist()
    assert node("cells.nearest([[1, 0], [-1, 0], [1, 0]], [0, 0])", "cells") == 0, "the lowest of equals"


def area(corners) -> float:
    x, y = np.array(corners).T
    return 0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1))


def test_cells_part_the_plane_by_nearest_code():
    codes = np.random.default_rng(1).random((8, 2))
    found = node(f"{codes.tolist()}.map((_, i, all) => cells.cell(all, i, 0, 1))", "cells")
    assert sum(map(area, found)) == pytest.approx(1, abs=1e-12)
    side = (np.arange(400) + 0.5) / 400
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    nearest = ((places[:, None] - codes) ** 2).sum(-1).argmin(1)
    shares = np.bincount(nearest, minlength=8) / len(nearest)
    assert [area(corners) for corners in found] == pytest.approx(shares, abs=2e-3)


def test_of_twins_the_first_has_the_cell():
    cells = node("[0, 1].map((i) => cells.cell([[0.3, 0.3], [0.3, 0.3]], i, 0, 1))", "cells")
    assert area(cells[0]) == 1
    assert cells[1] == []


@pytest.mark.parametrize(("shape", "norm"), [("circle", 2), ("square", 1)])
def test_border_is_as_far_as_geometry_says(shape, norm):
    """Between two codes the border is a line: |n z - c| over the dual norm of n, and no smaller nudge jumps."""
    codes, z = np.array([[0.3, 0.4], [0.7, 0.6]]), np.array([0.42, 0.45])
    normal = codes[1] - codes[0]
    distance = (normal @ (codes.mean(0) - z)) / np.linalg.norm(normal, norm)
    expression = "[{}, {}].map((eps) => cells.worstNudge({}, {}, eps, '{}', 0, 1))"
    budgets = distance - 1e-4, distance + 1e-4
    below, above = node(expression.format(*budgets, codes.tolist(), z.tolist(), shape), "cells")
    assert below is None
    assert above["to"] == 1 and above["moved"] == pytest.approx(np.linalg.norm(normal))


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_no_nudge_within_the_budget_moves_the_code_further_than_the_worst(shape):
    random = np.random.default_rng(2)
    codes, points, eps = random.random((9, 2)), random.uniform(0.2, 0.8, (60, 2)), 0.12
    found = node(
        f"{points.tolist()}.map((z) => cells.worstNudge({codes.tolist()}, z, {eps}, '{shape}', 0, 1))",
        "cells",
    )
    side = np.linspace(-eps, eps, 121)
    nudges = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    if shape == "circle":
        nudges = nudges[np.linalg.norm(nudges, axis=1) <= eps]

    def nearest(places):
        return ((places[..., None, :] - codes) ** 2).sum(-1).argmin(-1)

    jumps = 0
    for z, worst in zip(points, found, strict=True):
        tried = np.linalg.norm(codes[nearest(z + nudges)] - codes[nearest(z)], axis=1).max()
        assert tried <= (worst["moved"] if worst else 0) + 1e-12
        if worst:
            jumps += 1
            nudge = np.array(worst["nudge"])
            assert np.linalg.norm(nudge, 2 if shape == "circle" else np.inf) <= eps
            assert nearest(z + nudge) == worst["to"] != nearest(z)
    assert 10 < jumps < 60


def test_small_nudges_mostly_vanish_and_some_go_further_than_they_were_pushed():
    """What the chapter says of the picture as it opens."""
    measured = node(
        "voronoi.measure({codes: voronoi.CODES, vector: voronoi.VECTOR, eps: 0.12, norm: 'circle'})",
        "voronoi",
    )
    worst, chance, anywhere = (measured[name] for name in ("worst", "random", "anywhere"))
    assert worst["moved"] > 2.5 * 0.12 > worst["pushed"]
    assert 0 < chance["changed"] < 0.5
    assert anywhere["changed"] < 0.25
    assert anywhere["pushed"] == pytest.approx(0.12 * 2 / 3, rel=0.03)  # of an even draw from a disc
    assert anywhere["moved"] > anywhere["pushed"] / 2, (
        "on average the quantizer takes away far less than half"
    )


# ---- Pushes that add up


@pytest.fixture(scope="module")
def shipped():
    return json.loads(toys.FILE.read_text())


def test_shipped_digits_are_those_of_the_data(shipped):
    assert shipped == json.loads(json.dumps(toys.digits()))
    assert toys.FILE.stat().st_size < 10_000


def pushes(shipped, options: str):
    """Push each of the shipped images; return what the page's sums say of it."""
    return node(
        f"((file) => file.images.map(linear.levels).map((image) => {{"
        f" const model = linear.classifier(file.means.map(linear.levels));"
        f" const found = linear.push(model, image, {options});"
        f" return {{...found, pushed: [...found.pushed], score: model.score(image),"
        f" after: model.score(found.pushed), cross: linear.crossing(found.parts, found.margin)}};"
        f" }}))({json.dumps(shipped)})",
        "linear",
    )


def unpacked(packed) -> np.ndarray:
    return np.stack([np.frombuffer(base64.b64decode(one), np.uint8) for one in packed]) / 255


def test_the_nearer_mean_wins(shipped):
    means, images = unpacked(shipped["means"]), unpacked(shipped["images"])
    squares = ((images[:, None] - means) ** 2).sum(-1)
    scores = [found["score"] for found in pushes(shipped, "{eps: 0, count: 784}")]
    assert scores == pytest.approx(squares[:, 1] - squares[:, 0])
    read = [shipped["pair"][score < 0] for score in scores]
    assert read == shipped["labels"], "the page starts from right answers"


def test_free_pushes_add_up_to_epsilon_times_the_weights(shipped):
    """The worst push is exact: eps * ||w||_1, over all pixels or those of largest weight."""
    means, images = unpacked(shipped["means"]), unpacked(shipped["images"])
    sizes = np.sort(np.abs(2 * (means[0] - means[1])))[::-1]
    for count in (784, 50, 0):
        for image, found in zip(
            images, pushes(shipped, f"{{eps: 0.1, count: {count}, inside: false}}"), strict=True
        ):
            assert found["total"] == pytest.approx(0.1 * sizes[:count].sum())
            assert found["bound"] == pytest.approx(found["total"])
            assert found["left"] == pytest.approx(np.sign(found["score"]) * found["after"])
            assert np.abs(found["pushed"] - image).max() <= 0.1 + 1e-12
            assert (np.abs(found["pushed"] - image) > 0).sum() <= count


def test_pushes_of_real_images_stop_at_black_and_white(shipped):
    images, steps = unpacked(shipped["images"]), np.linspace(-0.2, 0.2, 9)
    means = unpacked(shipped["means"])
    weight = 2 * (means[0] - means[1])
    for image, found in zip(images, pushes(shipped, "{eps: 0.2, count: 784}"), strict=True):
        assert min(found["pushed"]) >= 0 and max(found["pushed"]) <= 1
        levels = np.clip(image + steps[:, None], 0, 1)
        best = (
            (-np.sign(found["score"]) * weight * (levels - image)).max(0).sum()
        )  # pixel by pixel, each at its worst
        assert found["total"] == pytest.approx(best)
        assert found["total"] < found["bound"]
        sums = np.cumsum(found["parts"])
        assert found["cross"] == (int((sums > found["margin"]).argmax()) + 1 if found["left"] < 0 else None)


def test_chance_adds_up_to_almost_nothing(shipped):
    """Signs drawn at random mostly cancel out: eps * ||w||_2 instead of eps * ||w||_1; 0.4 fools no image here."""
    means = unpacked(shipped["means"])
    weight = 2 * (means[0] - means[1])
    deviation = 0.4 * np.linalg.norm(weight)
    free = pushes(shipped, "{eps: 0.4, count: 784, direction: 'random', inside: false}")
    totals = [found["total"] for found in free]
    assert max(map(abs, totals)) < 4 * deviation < 0.3 * free[0]["bound"]
    design, chance = (
        pushes(shipped, f"{{eps: 0.4, count: 784, direction: '{way}'}}") for way in ("worst", "random")
    )
    assert all(found["left"] < 0 for found in design)
    assert all(found["left"] > 0 for found in chance)
    at = shipped["epsilons"].index(0.2)
    assert shipped["random"][at] > 95 > 50 > shipped["worst"][at]


# ---- The network that one enters


def packed(values, kind) -> str:
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode()


def fine(values) -> dict:
    return {"step": 0.001, "numbers": packed(np.rint(np.array(values) / 0.001), "<i2")}


@pytest.fixture(scope="module")
def tiny_network():
    """Two by two positions of three channels, two codes; the second image flips the last position."""
    gate = {"step": 1, "numbers": packed([0] * 9, "i1")}
    clean = {"z": [0] * 12, "codes": [0] * 4, "seconds": [1] * 4, "strongest": [0] * 4}
    pushed = clean | {"z": [0] * 9 + [255, 255, 0], "codes": [0, 0, 0, 1], "seconds": [1, 1, 1, 0]}
    numbers = {"peaks": 0, "values": 0, "weights": 0.5, "nearest": 0, "margins": 1.732, "moves": 0}
    at_last = {"peaks": 4, "values": 4, "weights": 0.5, "nearest": 1.414, "margins": 0.822, "moves": 2.236}
    answers = {"clean": ([0.1, 0.9], [0.2, 0.8]), "FGSM 0.1": ([0.4, 0.6], [0.7, 0.3])}
    seen = [
        {"name": name, "q": q, "e": e, "pixels": packed([0] * 784, "u1")}
        | {key: packed(values, "u1") for key, values in one.items()}
        | {key: fine([value] * 3 + [last[key]]) for key, value in numbers.items()}
        for (name, (q, e)), one, last in zip(
            answers.items(), (clean, pushed), (numbers, at_last), strict=True
        )
    ]
    told = {"side": 2, "dim": 3, "ask": 1, "colours": ["#000000", "#ffffff"], "weight": gate}
    told |= {"bias": fine(np.log([2, 1, 1])), "codebook": fine([0, 0, 0, 1, 1, 1])}
    return json.dumps(told | {"digits": [{"label": 1, "seen": seen}]})


def inside_of(tiny_network, expression: str):
    names = "const [digit] = all.digits, [clean, pushed] = digit.seen;"
    return node(f"((all) => {{ {names} return {expression}; }})(zoom.unpack({tiny_network}))", "zoom")


def test_a_position_is_gated_and_compared_with_every_code(tiny_network):
    """With no weights the gate is the softmax of its bias: a half and two quarters."""
    one = inside_of(
        tiny_network,
        "(({z, gate, p, distances}) => [[...z], [...gate], [...p], distances])(zoom.position(all, pushed, 3))",
    )
    z, gate, p, distances = map(np.array, one)
    assert z == pytest.approx([4, 4, 0], abs=1e-9)
    assert gate == pytest.approx([0.5, 0.25, 0.25], abs=1e-3)
    assert p == pytest.approx([2, 1, 0], abs=1e-2)
    assert distances == pytest.approx([5**0.5, 2**0.5], abs=1e-2)


def test_each_level_has_a_sentence_of_its_own(tiny_network):
    clean, whole, layer, kept, jump = inside_of(
        tiny_network,
        "[[clean, 0, 0], [pushed, 0, 0], [pushed, 1, 3], [pushed, 2, 0], [pushed, 2, 3]]"
        ".map(([now, level, at]) => zoom.sentence(all, digit, now, level, at))",
    )
    assert clean.startswith("Number of different codes that the clean image chooses at its 4 positions: 1.")
    assert whole == (
        "FGSM 0.1 flips 1 of 4 codes, and 3 stay. The Q-path answers 1, which is right; the E-path 0, which is wrong."
    )
    assert (
        layer
        == "Row 2, column 2: code 1, where the clean image has code 0. What flips this position: FGSM 0.1."
    )
    assert kept.endswith("FGSM 0.1 moves p by 0.00, and the code not at all: here it is filtered out.")
    assert "Code 1 is nearest; code 0 is 0.8220 farther away." in jump
    assert jump.endswith("FGSM 0.1 moves p by 2.24, and the code by 1.73: a jump.")


def test_bars_stand_on_their_line_and_hang_below_it():
    path = node("zoom.bars([2, 0, -1, 9], 4, 15)", "zoom")
    heights = {int(float(x)): float(v) for x, v in re.findall(r"M([\d.]+),15v([-\d.]+)", path)}
    assert heights == {0: -7.5, 2: 3.75, 3: -15}, "up, nothing, down, and no higher than the picture"


@pytest.mark.parametrize(
    ("towards", "chance", "way"),
    [
        (0.1, None, "lies to the right"),
        (0.1, 0.3, "lies to the right"),
        (None, 0.2, "lies upwards or downwards"),
        (0.3, 0.1, "lies upwards or downwards"),
        (0.21, 0.2, "is about as far either way"),
        (None, None, "no wrong answer"),
    ],
)
def test_the_map_answers_which_way_the_nearest_wrong_answer_lies(towards, chance, way):
    assert way in node(f"slice.nearer({json.dumps(towards)}, {json.dumps(chance)})", "slice")
