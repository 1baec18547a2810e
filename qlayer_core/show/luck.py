"""What the luck of the seed may turn among the outcomes of comparisons."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from qlayer_core.show import names
from qlayer_core.show.page import Markup, paragraph
from qlayer_core.study import adaptive, claims, evidence, experiments, ladder, measured, records
from qlayer_core.study.evidence import Outcome
from qlayer_core.study.statements import CLAIMS

Spreads = Mapping[tuple[str, str], float]  # see `claims.spreads`


def near_luck(one: Outcome, apart: Spreads) -> bool:
    """Return whether other seeds alone might turn an outcome.

    That is where two networks, one of them with a single seed, are told apart by less than two seeds of one network
    are known to differ by under the same attack or, where that is not known, under any; or where the 95 % interval
    over several seeds of both allows the opposite, see `intervals.over_seeds`.
    """
    if one.over_seeds is not None:
        return evidence.turned_by_seeds(one)
    what = one.comparison
    if one.result not in ("holds", "fails") or one.seeds != 1 or np.isnan(one.images):
        return False
    gap = abs(one.difference) if what.near else one.difference
    largest = max(apart.values(), default=0.0)
    reach = max(apart.get(claims.kind(value), largest) for value in (what.first, what.second))
    # Two settings of one model are two networks; two numbers of one network share its luck.
    one_network = what.first.model == what.second.model and what.first.setting != "validation"
    return not one_network and min(abs(gap - what.by), abs(gap - what.most)) < reach


class Turnable(NamedTuple):
    """All outcomes, and how many another seed might turn: of those with one seed, and with several."""

    every: list[Outcome]
    single: int
    several: int
    apart: Spreads

    def __str__(self) -> str:
        told = sum(one.result in ("holds", "fails") for one in self.every)
        turned = self.single + self.several
        return f"Of the {told} comparisons that hold or fail here, another seed might turn {turned}."


def turnable(frame: pd.DataFrame) -> Turnable:
    """Return how many outcomes another seed might turn; as text, a sentence."""
    known = measured.numbers(frame)
    apart = claims.spreads(known)
    every = [evidence.judge(one, known) for claim in CLAIMS for one in (*claim.protocol, *claim.strongest)]
    several = sum(map(evidence.turned_by_seeds, every))
    return Turnable(every, sum(near_luck(one, apart) for one in every) - several, several, apart)


def luck(frame: pd.DataFrame) -> Markup:
    """Return which outcomes another seed might turn and why, and that intervals err, as a paragraph."""
    found = turnable(frame)
    judged = sum(one.result != "not measured" for one in found.every)
    return paragraph(
        "The seeds. An interval says how much the choice of test images matters, and not how much the seed does."
        f" {_moved(found.apart)} {found} They are marked ¹: {found.single} have one seed and a small difference,"
        f" {found.several} have two or three seeds that lie far apart.{_versions()}{_unequal()}"
        " The blind attacker has one trained network of each architecture, so everything that is measured with its"
        f" images shares the luck of that network. And this page reads {judged} intervals of 95 %, not corrected for"
        " their number, so a few will be wrong by chance."
    )


def _versions() -> str:
    """Return as a sentence where seeds were not trained by the same version of the training's code; "" if nowhere."""
    every = (records.runs(dataset, model) for dataset in names.DATASETS for model in experiments.RUNS)
    several = [
        {one["environments"][one["trained_in"]]["code"]["training"] for one in found}
        for found in every
        if len(found) > 1
    ]
    mixed = sum(len(codes) > 1 for codes in several)
    if not mixed:
        return ""
    return (
        f" Of {len(several)} networks that have several seeds, {mixed} were not trained by one version of this"
        " package alone. If that changed anything, it counts here as the seed's."
    )


def _unequal() -> str:
    """Return as a sentence how many complete ladders lack rungs for whoever still stands; "" if none does."""
    short = [record for record in adaptive.recorded() if ladder.complete(record) and ladder.lacking(record)]
    if not short:
        return ""
    return (
        f" {len(short)} ladders lack some of the last rungs, which attack once more the images that still stand. If"
        " these rungs change anything, all attacks together leave less of these networks than is said here."
    )


def _moved(apart: Spreads) -> str:
    """Return in a sentence how far another seed has moved a number, by the attack under which it moved most."""
    attacked = {how: points for how, points in apart.items() if how[1] not in ("", "none")}
    if not attacked:
        return "No network has a second seed yet, so that nobody knows what another would do."
    (setting, attack), points = max(attacked.items(), key=lambda one: one[1])
    blind = [points for (setting, _), points in attacked.items() if setting == "black-box"]
    text = f"Another seed of the same network has moved a number by up to {points:.1f} points"
    text += f" ({names.attack(attack)}, {setting.replace('-', ' ')})"
    return text + (f", under blind attacks by up to {max(blind):.1f}." if blind else ".")
