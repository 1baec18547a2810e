"""The comparison of settings: one change at a time, judged on validation images alone."""

import itertools
import json
from dataclasses import asdict

import pytest
import torch

from qlayer_core import data, evaluation, experiments, models, settings, training


def differing(a: dict, b: dict) -> dict:
    """Return what of ``a`` is not so in ``b``, also inside the layer's part."""
    layers = {key: value for key, value in a["layer"].items() if b["layer"][key] != value}
    return {key: value for key, value in a.items() if key != "layer" and b[key] != value} | layers


@pytest.mark.parametrize("name", settings.COMPARED)
def test_a_variant_differs_from_the_run_in_its_one_change(name):
    run = asdict(experiments.run(name))
    for change in settings.COMPARED[name]:
        expected = dict(settings.CHANGES[change])
        expected |= expected.pop("layer", {}) | {"epochs": settings.EPOCHS}
        assert differing(asdict(settings.variant(name, change)), run) == expected


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cnn", "chosen", "unknown model 'cnn'; choose one of q-base, q-large, q-large-adv"),
        ("q-base", "warp 9", "unknown change 'warp 9'; choose one of chosen, decay 0.95"),
        (
            "q-large-adv",
            "no gate",
            "unknown change 'no gate'; choose one of chosen, statistics behind dropout",
        ),
    ],
)
def test_an_unknown_comparison_lists_those_that_there_are(name, change, message):
    with pytest.raises(ValueError, match=message):
        settings.variant(name, change)


@pytest.mark.parametrize("name", ["q-base", "q-large-adv"])
def test_a_row_is_measured_on_validation_images_and_recorded(name, tmp_path, monkeypatch):
    read = []

    def few(dataset: str, split: str) -> data.Split:
        read.append(split)
        return data.Split(*(part[:20] for part in whole(dataset, split)))

    whole = data.load
    monkeypatch.setattr(data, "load", few)
    monkeypatch.setattr(settings, "EPOCHS", 1)
    monkeypatch.setattr(settings, "IMAGES", 8)
    paths = {change: tmp_path / f"{change}.json" for change in settings.CHANGES}
    monkeypatch.setattr(settings, "row_path", lambda dataset, name, change, seed: paths[change])
    attacked = []
    monkeypatch.setattr(
        evaluation,
        "correct_by_path",
        lambda model, images, labels, real=evaluation.correct_by_path: (
            attacked.append(len(images)),
            real(model, images, labels),
        )[1],
    )
    row = settings.compare("mnist", name, "statistics behind dropout")
    assert set(read) == {"train", "validation"}
    assert row["spec"] == json.loads(json.dumps(asdict(settings.variant(name, "statistics behind dropout"))))
    assert not row["spec"]["estimate_statistics"]
    assert set(attacked[:-2]) == {8} and attacked[-2:] == [2, 2]  # BIM is made for a quarter of the images
    assert set(row["bim"]["q"]) == {"bim 0.2", "bim 0.3"} == set(row["bim"]["e"])
    assert json.loads(paths["statistics behind dropout"].read_text()) == json.loads(json.dumps(row))


def test_another_seed_draws_other_weights_and_another_order(monkeypatch):
    class SeenError(Exception):
        pass

    def look(spec, model, *_, seed, **__):
        assert seed == experiments.seed_of("q-base", 1) != experiments.seed_of("q-base", 0)
        expected = models.build("q-base", 1).state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
        raise SeenError

    monkeypatch.setattr(training, "train", look)
    with pytest.raises(SeenError):
        settings.compare("mnist", "q-base", "chosen", seed=1)


@pytest.mark.parametrize(
    ("name", "change", "seed"),
    [
        *((name, change, 0) for name, changes in settings.COMPARED.items() for change in changes),
        *itertools.product(settings.REPEATED_ON, ("chosen", *settings.REPEATED), settings.SEEDS[1:]),
    ],
)
def test_every_row_is_recorded_with_the_settings_of_today(name, change, seed):
    row = json.loads(settings.row_path("mnist", name, change, seed).read_text())
    assert row["spec"] == json.loads(json.dumps(asdict(settings.variant(name, change))))
    assert row["change"] == change and row["seed"] == seed and row["validation_images"] == settings.IMAGES
    for check in row["history"]:
        clean, weak, strong = check["accuracy"]["q"].values()
        assert check["score"] == pytest.approx(clean / 2 + weak / 4 + strong / 4)
    assert row["chosen"] == max(row["history"], key=lambda check: check["score"])
