"""What the paper leaves open: one change at a time, decided by a rule on validation images alone."""

from dataclasses import asdict

import pytest
import torch
from conftest import small_cnn, small_q_net

from qlayer_core import data, models, training
from qlayer_core.machine import seed_of
from qlayer_core.study import experiments, records, units, variants
from qlayer_core.study.variants import CHANGES, SETTINGS, STUDIED, Setting

EVERY = [(name, change) for name, changes in STUDIED.items() for change in changes]


def differing(a: dict, b: dict) -> dict:
    """Return what of ``a`` is not so in ``b``, also inside the layer's part."""
    layer, other = a["layer"] or {}, b["layer"] or {}
    inside = {key: value for key, value in layer.items() if other[key] != value}
    return {key: value for key, value in a.items() if key != "layer" and b[key] != value} | inside


@pytest.mark.parametrize(("name", "change"), EVERY)
def test_a_variant_differs_from_the_run_in_its_one_change(name, change):
    spec = experiments.spec(name)
    expected = dict(CHANGES[change])
    expected |= expected.pop("layer", {})
    layer = asdict(spec.layer) if spec.layer else {}
    now = vars(spec) | layer
    changed = {key: value for key, value in expected.items() if now[key] != value}
    assert differing(asdict(variants.unit("mnist", name, change).spec), asdict(spec)) == changed


@pytest.mark.parametrize("name", variants.DECIDED_ON)
def test_settings_have_names_of_their_own_and_change_what_they_say(name):
    spec, seen = experiments.spec(name), {}
    for setting in SETTINGS.values():
        one = setting.unit("mnist", name)
        assert variants.unit("mnist", name, one.variant) == one
        seen.setdefault(one.variant, set()).add(one.spec)
        changed = differing(asdict(one.spec), asdict(spec))
        assert set(changed) <= {"commitment", "inactive", "dropout"}
    assert all(len(specs) == 1 for specs in seen.values())  # one name never stands for two runs
    assert len(seen) == (108 if spec.adversarial else 18)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("source-a", "chosen", "source-a has no variants: choose a model that has, cnn, cnn-adv, q-base"),
        ("q-base", "warp-9", "variant is 'warp-9'; choose one of .*squared-pull-dropout-off.*framework-init"),
        ("cnn", "no-gate", "variant is 'no-gate'; choose one of chosen, without-l2"),
    ],
)
def test_an_unknown_comparison_lists_those_that_there_are(name, change, message):
    with pytest.raises(ValueError, match=message):
        variants.unit("mnist", name, change)


def test_adversarial_training_starts_from_the_raw_network_of_its_own_setting():
    setting = Setting("none", "pull", "reinitialize", "off")
    start = variants.start(setting.unit("mnist", "q-large-adv", 2))
    assert start == setting.unit("mnist", "q-large", 2)
    assert start.variant == "none-pull-dropout-off"
    assert (
        variants.start(variants.unit("mnist", "q-large-adv", "exact-gradients")) is None
    )  # that of the grid
    assert variants.start(setting.unit("mnist", "q-large")) is None


def test_adversarial_training_may_have_another_commitment():
    setting = Setting("squared", "pull", "reinitialize", "off", then="none")
    adversarial, raw = (setting.unit("mnist", name) for name in ("q-large-adv", "q-large"))
    assert (adversarial.spec.commitment, raw.spec.commitment) == ("none", "squared")
    assert raw.spec == experiments.spec("q-large"), "the grid's own raw network: not trained twice"
    assert adversarial.variant == "squared-pull-then-none-reinitialize-dropout-off"
    assert variants.start(adversarial) is None and setting.departures() == 3


def test_the_nearest_to_the_paper_wins_a_tie_and_only_a_tie():
    paper, far = Setting(), Setting("none", "pull", "reinitialize", "off")
    assert (paper.departures(), far.departures()) == (0, 3)
    assert variants.decide({far: 84.0, paper: 83.1}) == paper
    assert variants.decide({far: 84.0, paper: 82.9}) == far
    assert (
        variants.decide({far: 84.0, Setting("linear", "pull", "reinitialize", "off"): 84.2}).commitment
        == "linear"
    )


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Results, weights and runs in empty folders, few images, small networks."""
    for name in ("RESULTS", "WEIGHTS", "RUNS"):
        monkeypatch.setattr(records, name, tmp_path / name.lower())
    monkeypatch.setattr(models, "cnn", lambda architecture: small_cnn())
    monkeypatch.setattr(models, "q_net", lambda spec, architecture: small_q_net())
    return tmp_path


def test_a_setting_has_the_mean_score_over_seeds_of_each_network_that_is_there(folders):
    setting, expected = Setting("linear"), {}
    for name, score in zip(variants.DECIDED_ON, (80.0, 82.0, 88.0, 90.0), strict=True):
        assert variants.scores("mnist", setting) == expected
        records.write(records.new_record(setting.unit("mnist", name)) | {"chosen": {"score": score}})
        expected[name] = score
    assert variants.scores("mnist", setting) == expected
    assert variants.scores("mnist", setting, (0, 1)) == {}
    records.write(records.new_record(setting.unit("mnist", "q-base", 1)) | {"chosen": {"score": 70.0}})
    assert variants.scores("mnist", setting, (0, 1)) == {"q-base": 75.0}


def test_a_setting_stands_beside_the_grid_s_network_of_the_same_seed(folders):
    setting = Setting("linear")
    for seed, score in ((0, 80.0), (1, 81.0)):
        records.write(
            records.new_record(setting.unit("mnist", "q-base", seed)) | {"chosen": {"score": score}}
        )
    for seed, score in ((1, 79.0), (2, 99.0)):
        records.write(
            records.new_record(records.unit("mnist", "q-base", seed)) | {"chosen": {"score": score}}
        )
    assert variants.beside_the_grid(setting, "q-base") == [(81.0, 79.0)]


def test_a_row_is_measured_on_validation_images_and_recorded(folders, monkeypatch):
    read, whole = [], data.load

    def few(dataset: str, split: str, **options) -> data.Split:
        read.append(split)
        return whole(dataset, split, limit=24)

    judge = records.unit("mnist", "validation-a")
    records.save_weights(models.build(judge.spec), judge.folder / "weights.safetensors")
    digest = records.files.sha256(judge.folder / "weights.safetensors")
    records.write(records.new_record(judge) | {"weights_sha256": digest})
    monkeypatch.setattr(data, "load", few)
    one = variants.unit("mnist", "q-base", "losses-x-10", 1)
    record = units.train(one, until=1)
    assert set(read) == {"train", "validation"}
    assert one.record == folders / "results" / "mnist" / "variants" / "q-base" / "losses-x-10" / "seed1.json"
    assert records.read_unit(one) == record and record["spec"]["alpha"] == 0.01
    assert set(record["chosen"]["accuracy"]["q"]) == {"clean", "fgsm 0.2", "fgsm 0.3"}


def test_another_seed_draws_other_weights_and_another_order(folders, monkeypatch):
    class SeenError(Exception):
        pass

    def look(spec, model, *_, seed, **__):
        assert seed == seed_of("cnn", 1) != seed_of("cnn", 0)
        expected = models.build(spec, 1).state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())
        raise SeenError

    monkeypatch.setattr(training, "train", look)
    monkeypatch.setattr(records, "load", lambda *_: (small_cnn().eval(), {}))
    whole = data.load
    monkeypatch.setattr(data, "load", lambda dataset, split, **_: whole(dataset, split, limit=8))
    with pytest.raises(SeenError):
        units.train(variants.unit("mnist", "cnn", "without-l2", 1))
