"""Each sanity check of the adaptive evaluation, on made-up records in which its answer is known."""

import json
import re

import numpy as np
import pytest
import torch
import website

from qlayer_core.show import flags
from qlayer_core.study import records, sanity
from qlayer_core.study.ladder import Rung


def cell_of(name: str, eps: float, right: np.ndarray, kind: str = "white-box", **how) -> dict:
    rung = Rung(name, kind, how.pop("attack", "apgd"), **how)
    return {
        "rung": name,
        "eps": eps,
        "how": json.loads(json.dumps(vars(rung))),
        "n": 100,
        "attacked": 100,
        "correct": int(right.sum()),
        "unmoved": 0,
        "right": records.pack(torch.from_numpy(right)),
    }


def first(count: int) -> np.ndarray:
    """Of 100 images the first so many are right."""
    return np.arange(100) < count


def record_with(*cells: dict, **more) -> dict:
    return {"n": 100, "clean": records.pack(torch.from_numpy(first(98))), "cells": list(cells)} | more


def raised(record: dict, name: str) -> bool | None:
    (flag,) = [flag for flag in sanity.flags(record) if flag.name == name]
    return flag.raised


@pytest.mark.parametrize("purpose, name", [("steps", "more steps"), ("restarts", "more restarts")])
def test_an_attack_that_has_not_converged_is_flagged(purpose, name):
    base = cell_of("through", 0.2, first(50), surrogate="latent")
    for count, expected in ((50, False), (49, False), (30, True)):
        more = cell_of("through, twice", 0.2, first(count), surrogate="latent", purpose=purpose)
        assert raised(record_with(base, more), name) is expected
    assert raised(record_with(base), name) is None


def test_an_attack_that_fools_other_images_with_twice_the_effort_is_flagged():
    """Alone it leaves as many right; but of those that the whole ladder leaves it fools clearly more."""
    base = cell_of("through", 0.2, first(50), surrogate="latent")
    for spared, expected in ((first(50), False), (np.arange(100) % 98 >= 48, True)):
        more = cell_of("through, twice", 0.2, spared, surrogate="latent", purpose="steps")
        (flag, *_) = sanity.flags(record_with(base, more))
        assert spared.sum() == 50 and flag.raised is expected
    assert "0.0 points fewer right than through, and of the whole ladder 48.0 points fewer" in flag.message


def test_what_the_whole_ladder_leaves_has_settled_where_twice_the_effort_takes_nothing_from_it():
    base = cell_of("through", 0.2, first(50), surrogate="latent")
    more = cell_of("through, twice", 0.2, first(30), surrogate="latent", purpose="steps")
    assert sanity.unconverged(record_with(base, more)).keys() == {0.2}
    others = cell_of("another", 0.2, (np.arange(100) < 30) | (np.arange(100) >= 50))
    record = record_with(base, others, more)  # it had fooled these twenty before
    assert raised(record, "more steps") and sanity.unconverged(record) == {}


def test_twice_the_effort_says_nothing_where_nothing_is_left():
    """Fooling two more images of a hundred would be no sign: the check could not be raised."""
    base = cell_of("through", 0.3, first(2), surrogate="latent")
    more = cell_of("through, twice", 0.3, first(0), surrogate="latent", purpose="steps")
    (flag, *_) = sanity.flags(record_with(base, more))
    assert flag.raised is None and flag.message.endswith("that leaves 2 of 100 images, too few to tell")


def test_twice_the_effort_is_judged_on_the_strongest_attack_if_it_was_tried_there():
    strong, weak = (cell_of(name, 0.2, first(left), surrogate=name) for name, left in (("a", 50), ("b", 80)))
    other = cell_of("b, twice", 0.2, first(80), surrogate="b", purpose="steps")
    (flag, *_) = sanity.flags(record_with(weak, strong, other))
    assert flag.raised is None and flag.message.endswith("; a is stronger, and was not tried with more")
    own = cell_of("a, twice", 0.2, first(30), surrogate="a", purpose="steps")
    (flag, *_) = sanity.flags(record_with(weak, strong, other, own))
    assert flag.raised is True and "not tried" not in flag.message


def test_what_attacks_survivors_alone_is_no_stronger_attack_though_it_counts_the_others_as_wrong():
    base = cell_of("through", 0.2, first(50), surrogate="latent")
    more = cell_of("through, twice", 0.2, first(50), surrogate="latent", purpose="steps")
    last = cell_of("last", 0.2, first(20), surrogate="soft", survivors=True)
    (flag, *_) = sanity.flags(record_with(base, last, more))
    assert flag.raised is False and "stronger" not in flag.message


def test_more_than_chance_far_away_is_flagged():
    for count, expected in ((3, False), (14, False), (40, True)):
        cell = cell_of("far", 0.5, first(count), purpose="chance")
        assert raised(record_with(cell), "chance") is expected


def test_an_attack_that_weakens_with_its_budget_is_flagged():
    for larger, expected in ((30, False), (41, False), (70, True)):
        cells = [
            cell_of("through", eps, first(count)) for eps, count in ((0.3, larger), (0.1, 60), (0.2, 40))
        ]
        assert raised(record_with(*cells), "monotone") is expected


def test_noise_is_no_attack_that_weakens_with_its_budget():
    noise = [
        cell_of("noise", eps, first(count), "control", attack="noise")
        for eps, count in ((0.1, 40), (0.2, 70))
    ]
    for kind in ("white-box", "black-box"):
        through = [cell_of("through", eps, first(30), kind) for eps in (0.1, 0.2)]
        assert raised(record_with(*noise, *through), "monotone") is False
        weaker = [cell_of("through", eps, first(count), kind) for eps, count in ((0.1, 30), (0.2, 60))]
        assert raised(record_with(*noise, *weaker), "monotone") is True


def test_what_attacks_survivors_alone_may_leave_more_with_a_larger_budget():
    """It leaves what all others left, who may have left less at the smaller one."""
    last = [cell_of("last", eps, first(count), survivors=True) for eps, count in ((0.1, 20), (0.2, 60))]
    through = [cell_of("through", eps, first(70)) for eps in (0.1, 0.2)]
    assert raised(record_with(*through, *last), "monotone") is False


def test_a_black_box_stronger_than_the_white_boxes_is_flagged():
    for blind, expected in ((70, False), (49, False), (20, True)):
        cells = (cell_of("through", 0.2, first(50)), cell_of("transfer", 0.2, first(blind), "black-box"))
        assert raised(record_with(*cells), "order") is expected


def test_the_strongest_black_box_is_held_against_the_strongest_white_box():
    for blind, seeing, expected in (((20, 70), (50, 60), True), ((20, 70), (10, 60), False)):
        cells = [cell_of(f"blind {left}", 0.2, first(left), "black-box") for left in blind]
        cells += [cell_of(f"seeing {left}", 0.2, first(left)) for left in seeing]
        assert raised(record_with(*cells), "order") is expected


def test_what_only_a_search_without_gradients_finds_is_flagged():
    for left, expected in ((50, False), (49, False), (40, True)):
        square = cell_of("square", 0.2, first(left), "black-box", attack="square", survivors=True)
        record = record_with(cell_of("through", 0.2, first(50)), square | {"attacked": 50})
        assert raised(record, "square") is expected


def test_of_several_budgets_the_one_where_the_search_finds_most_is_named():
    how = {"attack": "square", "survivors": True}
    cells = [
        cell_of("square", eps, first(left), "black-box", **how) | {"attacked": 50}
        for eps, left in ((0.1, 50), (0.2, 40))
    ]
    (flag,) = [flag for flag in sanity.flags(record_with(*cells)) if flag.name == "square"]
    assert flag.raised and "at eps 0.2, the Square attack alone fools 10.0 %" in flag.message


def test_an_attack_no_better_than_noise_is_flagged():
    for left, expected in ((30, False), (90, True), (91, True), (87, None)):
        cells = (
            cell_of("noise", 0.2, first(90), "control", attack="noise"),
            cell_of("through", 0.2, first(left)),
        )
        assert raised(record_with(*cells), "noise") is expected


def test_a_ladder_of_which_only_the_noise_is_climbed_raises_no_flag():
    noise = [cell_of("noise", eps, first(90), "control", attack="noise") for eps in (0.1, 0.2)]
    assert raised(record_with(*noise), "noise") is None
    assert raised(record_with(*noise, cell_of("through", 0.2, first(30))), "noise") is False


def test_images_left_alone_are_flagged():
    for still, expected in ((0, False), (1, False), (20, True)):
        assert (
            raised(record_with(cell_of("through", 0.2, first(50)) | {"unmoved": still}), "unmoved")
            is expected
        )


def test_images_left_alone_are_a_share_of_those_that_were_attacked():
    cell = cell_of("last", 0.2, first(40), survivors=True) | {"attacked": 50, "unmoved": 20}
    (flag,) = [flag for flag in sanity.flags(record_with(cell)) if flag.name == "unmoved"]
    assert flag.message == "last left 40.0 % of the images unchanged at eps 0.2"


def test_a_raised_flag_says_which_attack_left_what_at_which_budgets():
    still = [
        cell_of("as it is", eps, first(98)) | {"unmoved": share}
        for eps, share in ((0.1, 100), (0.2, 100), (0.3, 20))
    ]
    blunt = {"gradients": {"as it is": {"ce": {"images": 100.0}}, "itself": {"ce": {"images": 43.75}}}}
    health = blunt | {"random": False, "probabilities": False, "planted": 0, "found": 0}
    says = {flag.name: flag.message for flag in sanity.flags(record_with(*still, health=health))}
    assert says["unmoved"] == (
        "as it is left every image unchanged at eps 0.1 and 0.2;"
        " as it is left 20.0 % of the images unchanged at eps 0.3"
    )
    assert says["zero gradients"] == (
        "no gradient in 100 % of the images on the path as it is; no gradient in 43.8 % of the images"
    )


def test_what_is_known_of_the_network_is_flagged():
    good = {
        "gradients": {"e": {"ce": {"images": 0.5, "pixels": 20.0}}},
        "random": False,
        "probabilities": False,
        "optimizes": False,
        "planted": 10,
        "found": 10,
    }
    names = ("zero gradients", "random answers", "probabilities", "optimized answers", "planted examples")
    assert [raised(record_with(health=good), name) for name in names] == [False] * 5
    bad = {
        "gradients": {"e": {"ce": {"images": 43.7, "pixels": 60.0}}},
        "random": True,
        "probabilities": True,
        "optimizes": True,
        "planted": 10,
        "found": 9,
    }
    assert [raised(record_with(health=bad), name) for name in names] == [True] * 5
    assert raised(record_with(), "zero gradients") is None
    assert raised(record_with(health=good | {"planted": 0, "found": 0}), "planted examples") is None


def test_a_record_from_before_a_check_was_there_is_not_measured_rather_than_clear():
    old = {"random": False, "probabilities": False, "planted": 10, "found": 10}
    gradients = {"itself": {"ce": {"images": 0.0, "pixels": 0.0}}}
    record = record_with(cell_of("through", 0.2, first(50)), health={"gradients": gradients} | old)
    assert raised(record, "optimized answers") is None
    (row,) = re.findall(r"optimized answers</th>(.*?)</tr>", flags.flag_table({"cnn": record}).html)
    assert row.endswith("<td>not measured</td>")


def test_the_flags_are_those_of_the_table_and_of_the_glossary():
    health = {"gradients": {}, "random": False, "probabilities": False, "planted": 0, "found": 0}
    names = [flag.name for flag in sanity.flags(record_with(health=health))]
    glossary = (website.ROOT / "book" / "glossary.md").read_text()
    section = glossary.split("## Flags of an evaluation")[1].split("## ")[0]
    _, *rows = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    assert names == list(flags.CHECKS) == [re.sub(r"\{term\}`(.*)`", r"\1", row) for row in rows]


def test_a_check_of_what_is_not_recorded_is_neither_clear_nor_raised():
    alone = cell_of("through", 0.2, first(50))
    assert raised(record_with(alone), "monotone") is None  # one budget
    assert raised(record_with(alone), "order") is None  # no black box
    blind = cell_of("blind", 0.2, first(60), kind="black-box")
    assert raised(record_with(blind), "unmoved") is None
    assert raised(record_with(alone, blind), "order") is False
