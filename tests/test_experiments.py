"""The grid: every number of the paper has its model and its attack, and no two runs are alike by accident."""

import dataclasses
from dataclasses import replace

import pytest

from qlayer_core.machine import seed_of
from qlayer_core.specs import Attack
from qlayer_core.study import experiments, paper
from qlayer_core.study.experiments import RUNS, attacks_on


def test_every_cell_of_the_paper_is_measured():
    fields = [field.name for field in dataclasses.fields(Attack)]
    for table in paper.TABLES.values():
        for cell in table.cells:
            wanted = Attack(**{field: getattr(cell, field) for field in fields})
            measured = attacks_on(cell.dataset, RUNS[cell.model])
            assert wanted in measured, cell
            clipped = replace(wanted, attack=f"{wanted.attack}-clipped")
            along_a_step = cell.setting == "white-box" and cell.attack in ("fgsm", "bim")
            assert (clipped in measured) == along_a_step, cell


@pytest.mark.parametrize(
    "dataset, epsilons, of_a_layer",
    [("mnist", (0.2, 0.3), {"e", "shortcut"}), ("fashion-mnist", (0.1, 0.2), {"e"})],
)
def test_white_box_attacks_follow_the_papers_paths_of_a_layer_and_none_of_a_plain_network(
    dataset, epsilons, of_a_layer
):
    for name, paths in (("q-large", of_a_layer), ("cnn", {None})):
        found = attacks_on(dataset, RUNS[name])
        assert len(set(found)) == len(found)
        white = [attack for attack in found if attack.setting == "white-box"]
        assert {attack.attacked_path for attack in white} == paths
        for kind in ("bim", "cw", "cw-softmax"):
            assert {attack.eps for attack in white if attack.attack == kind} == set(epsilons)


def test_a_network_is_attacked_as_the_tables_that_show_it_say():
    """Seven codebook sizes, each also adversarially trained, are shown under one attack: others would take a day."""

    def kinds(dataset: str, name: str) -> set[tuple[str, str, str | None]]:
        return {(one.setting, one.attack, one.source) for one in attacks_on(dataset, RUNS[name])}

    blind = {("clean", "none", None), ("black-box", "fgsm", "cnn-a")}
    assert kinds("mnist", "q-k2-n16") == kinds("mnist", "q-k2-n16-adv") == blind  # Table 8
    assert kinds("mnist", "cnn-clean-selected") == blind | {("black-box", "bim", "cnn-a")}  # Table 5
    assert kinds("mnist", "q-base-b") == blind | {("black-box", "bim", "cnn-a"), ("black-box", "cw", "cnn-a")}
    inner = kinds("mnist", "q-inner")  # Table 3
    assert ("white-box", "bim-clipped", None) in inner and not any(source == "cnn-b" for *_, source in inner)
    assert {one.attacked_path for one in attacks_on("mnist", RUNS["q-inner"])} == {None, "e"}
    unknown = {one.attacked_path for one in attacks_on("fashion-mnist", RUNS["q-inner"])}
    assert unknown == {None, "e", "shortcut"}, "no table shows it: everything is measured"


@pytest.mark.parametrize("name", experiments.QUANTIZED)
def test_quantizers_of_the_input_stand_before_the_plain_cnn_and_are_attacked_as_they_are_and_adaptively(name):
    assert replace(RUNS[name], name="cnn", quantizer=None, epochs=40) == RUNS["cnn"]
    found = attacks_on("mnist", RUNS[name])
    assert len(set(found)) == len(found)
    white = [attack for attack in found if attack.setting == "white-box"]
    assert {(attack.attack, attack.eps, attack.attacked_path) for attack in white} == {
        (kind, eps, path) for kind in ("fgsm", "bim") for eps in (0.2, 0.3) for path in (None, "adaptive")
    }


def test_the_control_is_the_plain_cnn_with_the_training_of_q_base():
    """What the layer does is told from what its networks' training does."""
    control, q_base = RUNS["cnn-same-training"], RUNS["q-base"]
    assert replace(control, name="q-base", layer=q_base.layer, dropout=True) == q_base
    assert not control.dropout and q_base.layer.dropout == "off"
    for name in ("cnn", "cnn-adv"):
        for dataset in ("mnist", "fashion-mnist"):
            same = RUNS[name.replace("cnn", "cnn-same-training")]
            assert attacks_on(dataset, same) == attacks_on(dataset, RUNS[name])


def test_an_attack_that_no_table_has_is_measured_on_every_network(monkeypatch):
    tables = {
        number: replace(table, cells=tuple(cell for cell in table.cells if cell.attack != "fgsm"))
        for number, table in paper.TABLES.items()
    }
    monkeypatch.setattr(experiments.paper, "TABLES", tables)
    for name in ("cnn", "q-base", "cnn-b", "q-k1-n16"):
        assert ("white-box", "fgsm") in {(one.setting, one.attack) for one in attacks_on("mnist", RUNS[name])}


def test_attacks_print_as_a_name():
    assert str(Attack("white-box", "bim", 0.2, None, "e")) == "white-box bim 0.2 e"
    assert str(Attack("black-box", "fgsm", 0.3, "cnn-b")) == "black-box fgsm 0.3 cnn-b"


def test_adversarial_training_changes_the_images_the_commitment_and_the_idle_codes_strategy():
    adversarial = [spec for spec in RUNS.values() if spec.adversarial]
    assert len(adversarial) > 5
    for spec in adversarial:
        raw, printed = RUNS[spec.raw_name], "printed" in spec.name
        same = {"name": raw.name, "adversarial": False, "commitment": "squared", "inactive": raw.inactive}
        assert replace(spec, **same) == raw
        if spec.layer is not None:
            assert (spec.commitment, spec.inactive) == (
                ("squared", raw.inactive) if printed else ("none", "reinitialize")
            )


def test_a_run_by_the_papers_text_begins_like_the_one_beside_it():
    assert RUNS["q-base-printed-adv"].raw_name == RUNS["q-base-adv"].raw_name == "q-base"
    assert seed_of("q-base-printed-adv", 1) == seed_of("q-base-adv", 1) != seed_of("q-base", 1)


def test_networks_are_trained_as_the_authors_frameworks_did():
    for spec in RUNS.values():
        if spec.raw_name == experiments.CONTROL:
            continue
        plain = ("adam", 0.5, True, 5e-4) if spec.layer is None else ("radam", 0.3, False, 0.0)
        assert spec.dropout, "a plain network has Table 4's"
        assert (spec.optimizer, spec.decay, spec.staircase, spec.l2) == plain, spec.name
        assert (spec.learning_rate, spec.batch_size, spec.patience) == (0.001, 128, 10)
        assert spec.initialisation == "glorot" and spec.adversarial_loss == "clipped"
        source = spec.name in ("validation-a", "source-a", "source-b")
        assert spec.epochs == (20 if source or spec.quantizer else 40)
        assert spec.selection == ("clean" if source or "clean" in spec.name else "mixed")


def test_the_papers_models():
    assert RUNS["cnn"].layer is None and RUNS["source-b"].architecture == "b"
    assert (RUNS["q-base"].layer.heads, RUNS["q-base"].layer.codebook_size) == (1, 64)
    assert (RUNS["q-large"].layer.heads, RUNS["q-large"].layer.codebook_size) == (4, 64)
    assert RUNS["q-inner"].layer.position == "between" and RUNS["q-large-shared"].layer.shared_tail
    assert (RUNS["q-k2-n128"].layer.heads, RUNS["q-k2-n128"].layer.codebook_size) == (2, 128)
    assert RUNS["q-large"].alpha == RUNS["q-large"].beta == 0.001
    assert RUNS["cnn-clean-selected"].selection == "clean" and RUNS["cnn"].selection == "mixed"
    assert all(name == spec.name for name, spec in RUNS.items())


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RUNS["cnn"].epochs = 1


def test_each_run_has_a_seed_of_its_own_that_never_changes():
    names = [name for name in RUNS if "printed" not in name]
    seeds = {seed_of(name, seed) for name in names for seed in range(3)}
    assert len(seeds) == 3 * len(names)
    assert seed_of("cnn", 0) == 0xB5C5945B  # crc32 of "cnn/0"


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"unknown model 'cnn2'; choose one of .*cnn.*q-large-adv"):
        experiments.spec("cnn2")
