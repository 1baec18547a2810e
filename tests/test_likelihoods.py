"""Figure 2: estimates with known answers, and the recording of likelihoods from training to the file."""

import dataclasses
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_cnn, small_q_net
from scipy import stats
from torch import nn

from qlayer_core import codes, data, files, pixelcnn
from qlayer_core.pixelcnn import Settings
from qlayer_core.study import divergence, likelihoods, records, scores

TINY = Settings(layers=2, filters=4, batch_size=20, epochs=2, learning_rate=0.01)


def samples(n: int = 20_000, gap: float = 1.0, width: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from N(0, 1) and from N(gap, width^2)."""
    random = np.random.default_rng(0)
    return random.normal(size=n), random.normal(gap, width, n)


def kl_of_normals(gap: float, width: float) -> float:
    """KL(N(0, 1) || N(gap, width^2)), in nats."""
    return math.log(width) + (1 + gap**2) / (2 * width**2) - 1 / 2


# ---- Estimates ----


@pytest.mark.parametrize(("gap", "width"), [(0.0, 1.0), (1.0, 1.0), (1.0, 1.5), (-2.0, 0.8)])
def test_both_kl_estimates_find_that_of_two_normal_distributions(gap, width):
    first, second = samples(gap=gap, width=width)
    exact = kl_of_normals(gap, width)
    assert divergence.gaussian_kl(first, second) == pytest.approx(exact, rel=0.05, abs=0.002)
    # Bins lose a little of a divergence, never add to it but for noise.
    assert exact * 0.85 < divergence.histogram_kl(first, second) < exact * 1.05 + 0.005


def test_the_histogram_does_not_mind_an_increasing_function():
    first, second = samples(2000)
    kl = divergence.histogram_kl(first, second)
    assert divergence.histogram_kl(np.exp(first / 3), np.exp(second / 3)) == pytest.approx(kl)


def test_the_histogram_is_that_of_bins_that_hold_equally_many():
    first, second = np.array([1.0, 2, 3, 4]), np.array([3.5, 5, 6, 7])
    # Two bins, split at the median 3.75 of all eight: 3 and 1 against 1 and 3, plus a half each.
    assert divergence.histogram_kl(first, second, bins=2) == pytest.approx(
        0.7 * math.log(0.7 / 0.3) + 0.3 * math.log(0.3 / 0.7)
    )


def test_samples_without_overlap_reach_the_ceiling_and_no_more():
    first = np.random.default_rng(0).normal(size=1000)
    found = divergence.histogram_kl(first, first + 100)
    assert found == pytest.approx(divergence.ceiling(1000))
    assert found == pytest.approx(math.log(100.5 / 0.5) * (10 * 100.5 - 10 * 0.5) / 1010)
    assert divergence.histogram_kl(first, first + 1000) == pytest.approx(found)


def test_auc_counts_pairs():
    random = np.random.default_rng(1)
    clean, attacked = random.integers(3, 9, 40).astype(float), random.integers(0, 7, 30).astype(float)
    pairs = [(a > b) + (a == b) / 2 for a in clean for b in attacked]
    assert divergence.auc(clean, attacked) == pytest.approx(np.mean(pairs))
    assert divergence.auc(clean, attacked) == pytest.approx(
        stats.mannwhitneyu(clean, attacked).statistic / (40 * 30)
    )


def test_auc_of_two_normal_distributions_is_the_normal_of_their_distance():
    first, second = samples(gap=-1.2, width=1.0)
    assert divergence.auc(first, second) == pytest.approx(stats.norm.cdf(1.2 / math.sqrt(2)), abs=0.006)
    assert divergence.auc(first, first) == pytest.approx(0.5)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say():
    random, held = np.random.default_rng(2), 0
    for trial in range(100):
        first, second = random.normal(size=200), random.normal(0.7, 1.0, 200)
        estimate, low, high = divergence.bootstrap(divergence.auc, first, second, seed=trial)
        assert low <= estimate <= high
        held += low <= stats.norm.cdf(-0.7 / math.sqrt(2)) <= high
    assert 88 <= held <= 100


@pytest.mark.parametrize("measure", [divergence.histogram_kl, divergence.gaussian_kl])
def test_the_interval_of_a_small_divergence_holds_it(measure):
    """Both estimates are biased upwards, and quantiles of samples that are drawn anew would be so twice."""
    gap, held = 0.05, 0
    for trial in range(20):
        random = np.random.default_rng(trial)
        first, second = random.normal(size=4000), random.normal(gap, 1.0, 4000)
        estimate, low, high = divergence.bootstrap(measure, first, second, draws=100)
        assert 0 <= low <= high and estimate >= low
        held += low <= gap**2 / 2 <= high
    assert held >= 16


def test_images_are_drawn_anew_in_pairs():
    clean = np.random.default_rng(0).normal(size=300)
    difference = divergence.bootstrap(lambda a, b: float((b - a).mean()), clean, clean + 2)
    assert difference == pytest.approx([2, 2, 2])  # drawn apart, the means would vary


def test_the_published_kl_is_no_divergence():
    clean, attacked = np.array([-400.0, -500.0]), np.array([-800.0, -250.0])
    scale = 28 * 28 * 256
    expected = (-400 * math.log(0.5) - 500 * math.log(2)) / scale
    assert divergence.published(clean, attacked, scale) == pytest.approx(expected)
    assert expected < 0  # a divergence is never negative,
    twice = divergence.published(np.tile(clean, 2), np.tile(attacked, 2), scale)
    assert twice == pytest.approx(2 * expected)  # nor does it grow with the number of images
    with pytest.raises(ValueError, match="not logarithms of probabilities"):
        divergence.published(-clean, -attacked, scale)


def test_samples_that_are_not_of_the_same_images_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        divergence.compare(np.zeros(3), np.zeros(2))


# ---- What symbols need when each is drawn by itself ----


def test_independent_bits_are_those_of_smoothed_counts():
    train_set = torch.tensor([0, 0, 0, 1]).view(4, 1, 1, 1)
    wanted = torch.tensor([0, 1]).view(2, 1, 1, 1)
    # Add-one counts of three values: 4, 2 and 1 of 7.
    found = codes.independent_bits(train_set, wanted, 3)
    assert found == pytest.approx(-(math.log2(4 / 7) + math.log2(2 / 7)) / 2)


def test_independent_bits_are_of_maps_of_one_shape():
    with pytest.raises(
        ValueError, match=r"\(2, 3, 3\) in training and \(1, 3, 3\) in validation; give the same"
    ):
        codes.independent_bits(torch.zeros(4, 2, 3, 3), torch.zeros(4, 1, 3, 3), 2)


def test_independent_bits_of_fair_coins_are_one_bit():
    torch.manual_seed(0)
    train_set, wanted = torch.randint(0, 2, (2, 4000, 2, 3, 3), dtype=torch.uint8)
    assert codes.independent_bits(train_set, wanted, 2) == pytest.approx(1, abs=0.001)


# ---- Images ----


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, nn.Module]:
    """Small networks in place of those of the grid."""
    torch.manual_seed(0)
    known = {"source-a": small_cnn().eval(), "q-base": small_q_net(heads=2).eval()}
    monkeypatch.setattr(
        records, "load", lambda dataset, name, seed=0: (known[name], {"weights_sha256": name})
    )
    return known


def test_perturbed_images_stay_within_eps_and_have_256_values(networks):
    clean = data.load("mnist", "test", limit=5).images
    for kind in likelihoods.PERTURBATIONS:
        images = likelihoods.perturbed("mnist", clean, kind, 0.2)
        assert images.min() >= 0 and images.max() <= 1
        assert (images - clean).abs().max() <= 0.2 + 0.5 / 255 + 1e-6
        levels = images * 255
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert not torch.equal(images, clean)
    grey = torch.full((4, 1, 28, 28), 0.5)
    moved = likelihoods.perturbed("mnist", grey, "signs", "0.2") - grey
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.2), atol=0.5 / 255 + 1e-6)
    uniform = likelihoods.perturbed("mnist", grey, "uniform", 0.2) - grey
    assert uniform.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.05)


def test_codes_are_encoded_as_the_network_chooses_them(networks):
    net, images = networks["q-base"], data.load("mnist", "test", limit=7).images
    symbols = likelihoods.encode(net, images, batch_size=3)
    assert symbols.dtype == torch.uint8
    assert torch.equal(symbols.transpose(0, 1).long(), net(images, path="both").layer.indices)
    assert torch.equal(likelihoods.encode(None, images), pixelcnn.as_symbols(images))


# ---- From training to the file ----


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Records, runs and weights in a temporary folder, few epsilons and few samples."""
    monkeypatch.setattr(likelihoods, "SAMPLES", 2)
    for name in ("RESULTS", "RUNS", "WEIGHTS"):
        monkeypatch.setattr(likelihoods, name, tmp_path / name.lower())
    monkeypatch.setattr(likelihoods, "EPSILONS", (0.4,))
    return tmp_path


@pytest.mark.parametrize("name", ["pixels", "q-base"])
def test_a_unit_is_trained_scored_and_recorded(name, networks, places):
    unit = likelihoods.Unit("mnist", name, settings=TINY)
    trained = likelihoods.train(unit, limit=40)
    assert trained["bits"]["model"] == min(row["bits"]["validation"] for row in trained["history"])
    rows = []
    record = likelihoods.measure(unit, limit=30, report=rows.append)
    assert record == json.loads(unit.record.read_text())
    assert [row["set"] for row in rows] == likelihoods.set_names(unit) == list(record["sets"])
    assert rows == record["statistics"]

    # The recorded numbers are those of the saved model on the images that the set's name says.
    model, network, _ = likelihoods.load(unit)
    clean = data.load("mnist", "test", limit=30).images
    attacked = likelihoods.perturbed("mnist", clean, "fgsm", 0.4)
    symbols, moved = likelihoods.encode(network, clean), likelihoods.encode(network, attacked)
    expected = pixelcnn.log_likelihood(model, moved).numpy()
    found = scores.unpack(record["sets"]["fgsm 0.4"])
    assert np.allclose(found, expected, rtol=1e-6)
    row = next(row for row in rows if row["set"] == "fgsm 0.4")
    dimensions = symbols[0].numel()
    assert row["bits"] == pytest.approx(-expected.mean() / math.log(2) / dimensions, rel=1e-5)
    assert row["auc"][0] == divergence.auc(scores.unpack(record["sets"]["clean"]), found)
    assert row["changed"] == pytest.approx(100 * (symbols != moved).float().mean().item())
    if name == "pixels":
        assert trained["bits"]["uniform"] == 8 and "accuracy" not in row
        crossed = pixelcnn.log_likelihood(model, symbols, model.inputs(moved)).numpy()
        assert np.allclose(scores.unpack(record["sets"]["crossed fgsm 0.4"]), crossed, rtol=1e-6)
        # As published the model sees values up to 1 where it knows values up to 255: nearly black images.
        assert torch.allclose(pixelcnn.seen(attacked)[..., 0], 2 * attacked / 255 - 1)
        shown = pixelcnn.seen(attacked[:, 0]).movedim(-1, 1)
        dark = pixelcnn.log_likelihood(model, symbols, shown).numpy()
        assert np.allclose(scores.unpack(record["sets"]["published fgsm 0.4"]), dark, rtol=1e-5)
    else:
        drawn = pixelcnn.sample(model, likelihoods.SAMPLES, symbols.shape[2:])
        assert np.array_equal(scores.samples(record), drawn.numpy())
        assert trained["bits"]["uniform"] == 4  # 16 codes
        labels = data.load("mnist", "test", limit=30).labels
        right = (networks[name](attacked).argmax(1) == labels).float().mean().item()
        assert row["accuracy"] == pytest.approx(100 * right)


def test_an_interrupted_unit_goes_on_and_ends_in_the_same_record(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    likelihoods.train(unit, limit=40)
    whole = likelihoods.measure(unit, limit=10)
    for path in (unit.record, unit.weights, *unit.folder.glob("checkpoint*")):
        path.unlink()

    likelihoods.train(unit, limit=40, until=1)
    paused = likelihoods.measure(
        unit, limit=5
    )  # what is learned so far can be scored, and the record says so
    assert len(paused["history"]) == 1 and not paused["finished"]
    likelihoods.train(unit, limit=40)

    def interrupt(row: dict) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        likelihoods.measure(unit, limit=10, report=interrupt)
    assert list(likelihoods.read(unit)["sets"]) == ["clean"]
    likelihoods.train(unit, limit=40)  # of finished training nothing changes, and what was scored stays
    rows = []
    again = likelihoods.measure(unit, limit=10, report=rows.append)
    assert "clean" not in [row["set"] for row in rows] and again["finished"]
    assert likelihoods.measure(unit, limit=5) == again  # of more images than asked for, none is dropped
    for field in whole.keys() - {"seconds"}:
        assert again[field] == whole[field], field
    unit.record.write_text(json.dumps(again | {"environment": {"threads": 64}}))
    likelihoods.train(unit, limit=40)
    assert likelihoods.read(unit)["environment"] == {
        "threads": 64
    }  # where it was trained, not where it was looked at


def test_codes_of_another_network_are_not_mixed_up(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    with pytest.raises(FileNotFoundError, match="likelihoods mnist q-base --seed 0"):
        likelihoods.load(unit)
    likelihoods.train(unit, limit=20, until=1)
    monkeypatch.setattr(records, "load", lambda *_: (networks["q-base"], {"weights_sha256": "trained anew"}))
    with pytest.raises(ValueError, match="trained anew since"):
        likelihoods.load(unit)
    with pytest.raises(ValueError, match="trained anew since"):
        likelihoods.train(unit, limit=20)
    with unit.weights.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="not the file that was measured"):
        likelihoods.load(unit)


def test_codes_of_another_network_are_learned_anew_where_one_says_so(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    first = likelihoods.train(unit, limit=20)
    likelihoods.measure(unit, limit=10)
    monkeypatch.setattr(
        records, "load", lambda _, name, *seed: (networks[name], {"weights_sha256": "trained anew"})
    )
    with pytest.raises(ValueError, match=r"trained anew since .* likelihoods mnist q-base --seed 0 --again"):
        likelihoods.train(unit, limit=20)
    rows = []
    anew = likelihoods.train(unit, limit=20, again=True, report=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert (first["network_sha256"], anew["network_sha256"]) == ("q-base", "trained anew")
    assert likelihoods.measure(unit, limit=10)["sets"].keys() == set(likelihoods.set_names(unit))
    assert likelihoods.train(unit, limit=20, again=True)["sets"]  # of today's network nothing is left


@pytest.mark.parametrize(("name", "goes_on"), [("pixels", True), ("q-base", False)])
def test_training_goes_on_from_a_checkpoint_of_the_same_codes_alone(
    name, goes_on, networks, places, monkeypatch
):
    unit = likelihoods.Unit("mnist", name, settings=TINY)
    likelihoods.train(unit, limit=20, until=1)
    unit.record.unlink()
    monkeypatch.setattr(records, "load", lambda *_: (networks["q-base"], {"weights_sha256": "trained anew"}))
    rows = []
    likelihoods.train(unit, limit=20, report=rows.append)
    assert [row["epoch"] for row in rows] == ([2] if goes_on else [1, 2])


def test_what_is_trained_is_not_trained_again_and_what_is_scored_not_thrown_away(networks, places):
    unit = likelihoods.Unit("mnist", settings=TINY)
    likelihoods.train(unit, limit=20)
    record = likelihoods.measure(unit, limit=5)
    for path in unit.folder.glob("checkpoint*"):
        path.unlink()  # as in a clone, where nothing lies under runs/
    rows = []
    assert likelihoods.train(unit, limit=20, report=rows.append) == record and not rows
    unit.weights.unlink()
    with pytest.raises(ValueError, match=r"holds \d+ scored sets, and nothing is left of that training"):
        likelihoods.train(unit, limit=20)
    with pytest.raises(ValueError, match="until is 0; it must be a whole number, at least 1"):
        likelihoods.train(unit, limit=20, until=0)
    assert likelihoods.read(unit) == record


def test_a_trial_never_lies_where_a_result_does(networks, places):
    trial, result = likelihoods.Unit("mnist", settings=TINY), likelihoods.Unit("mnist")
    assert trial.record != result.record and trial.folder != result.folder
    assert trial.record.parent == trial.folder, "it stays under runs/"
    with pytest.raises(ValueError, match="seed is -1; it must be at least 0"):
        likelihoods.Unit("mnist", seed=-1)
    with pytest.raises(ValueError, match="name is 'pixel'; give 'pixels' or a model with a layer"):
        likelihoods.Unit("mnist", "pixel")


def test_a_trial_on_few_images_has_settings_of_its_own(networks, places):
    with pytest.raises(ValueError, match=r"limit is 20: .*would pass for it; give the unit other ones"):
        likelihoods.train(likelihoods.Unit("mnist"), limit=20)


def beside(monkeypatch, step: str, other) -> None:
    """Let ``other`` run while ``step`` of the PixelCNN goes on for the first time."""
    alone = getattr(pixelcnn, step)

    def beside_another(*given, **options):
        monkeypatch.setattr(pixelcnn, step, alone)
        other()
        return alone(*given, **options)

    monkeypatch.setattr(pixelcnn, step, beside_another)


@pytest.mark.parametrize("step", ["log_likelihood", "sample"])
def test_what_another_call_adds_to_the_record_stays(step, networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    likelihoods.train(unit, limit=20, until=1)

    def other():
        record = likelihoods.read(unit)
        record["sets"]["of another call"] = {"n": 5}
        likelihoods._write(unit, record)

    beside(monkeypatch, step, other)
    record = likelihoods.measure(unit, limit=5)
    assert list(record["sets"]).count("of another call") == 1
    assert set(record["sets"]) > set(likelihoods.set_names(unit)) and record == likelihoods.read(unit)


def test_two_calls_that_write_at_once_wait_for_each_other(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    likelihoods.train(unit, limit=20, until=1)
    write = likelihoods._write

    def other():
        with files.alone(unit.folder / "lock"):
            record = likelihoods.read(unit)
            write(unit, record | {"sets": record["sets"] | {"of another call": {"n": 5}}})

    thread = threading.Thread(target=other)

    def slowly(*given):
        monkeypatch.setattr(likelihoods, "_write", write)
        thread.start()  # after this call read the record, before it writes
        thread.join(0.3)
        write(*given)

    monkeypatch.setattr(likelihoods, "_write", slowly)
    likelihoods.measure(unit, limit=5)
    thread.join()
    assert set(likelihoods.read(unit)["sets"]) == {*likelihoods.set_names(unit), "of another call"}


def test_a_call_that_scores_more_images_goes_first(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    likelihoods.train(unit, limit=20, until=1)
    beside(monkeypatch, "log_likelihood", lambda: likelihoods.measure(unit, limit=8))
    record = likelihoods.measure(unit, limit=5)
    assert {scored["n"] for scored in record["sets"].values()} == {8} and record == likelihoods.read(unit)


def test_scores_of_weights_that_were_trained_further_meanwhile_are_dropped(networks, places, monkeypatch):
    unit = likelihoods.Unit("mnist", "q-base", settings=TINY)
    likelihoods.train(unit, limit=20, until=1)
    further = likelihoods.read(unit) | {"weights_sha256": "further"}
    beside(monkeypatch, "log_likelihood", lambda: likelihoods._write(unit, further))
    with pytest.raises(ValueError, match="q-base was trained further while it scored: start again"):
        likelihoods.measure(unit, limit=5)
    assert likelihoods.read(unit) == further


def test_weights_of_seed_0_are_released(networks, places):
    unit = likelihoods.Unit("mnist", settings=TINY)
    with pytest.raises(FileNotFoundError, match="is missing"):
        likelihoods.release(unit)
    likelihoods.train(unit, limit=20, until=1)
    likelihoods.release(unit)
    (unit.folder / "weights.safetensors").unlink()  # a reader has no runs
    model, _, _ = likelihoods.load(unit)
    assert model.values == 256
    with pytest.raises(ValueError, match="only seed 0"):
        likelihoods.release(dataclasses.replace(unit, seed=1))


def test_a_model_without_codes_is_refused():
    with pytest.raises(ValueError, match="model with a layer"):
        likelihoods.Unit("mnist", "cnn")


def test_a_released_model_is_under_four_megabytes():
    with torch.device("meta"):
        sizes = {
            "pixels": pixelcnn.PixelCNN(torch.empty(1, 256, 1)),
            "q-large": pixelcnn.PixelCNN(torch.empty(4, 64, 64)),
        }
    for model in sizes.values():
        halved = sum(p.numel() * (2 if p.numel() > 10_000 else 4) for p in model.state_dict().values())
        assert halved < 4e6
