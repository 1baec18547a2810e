"""What becomes of the paper's claims: a verdict under its own protocol, and one under the strongest attack.

The claims are those of `statements`; both verdicts follow from records by the rules of `protocol_verdict`,
`strongest_verdict` and `evidence.judge`.
"""

import itertools
from collections.abc import Mapping

import pandas as pd

from qlayer_core import datasets
from qlayer_core.study import evidence, experiments, measured, records, tables
from qlayer_core.study.evidence import Number, Outcome, Value
from qlayer_core.study.statements import CLAIMS, Claim

PROTOCOL = ("reproduced", "partly", "mixed", "not", "undecided", "not measured yet", "no numbers")
"""Verdicts under its protocol; the last two judge nothing."""
STRONGEST = (
    "holds",
    "holds in part",
    "mixed",
    "holds for weak attacks only",
    "holds in part for weak attacks only",
    "does not hold",
    "undecided",
    "not measured yet",
    "not put to it",
)
"""Verdicts under the strongest attack; the last two judge nothing."""


def verdicts(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return every claim with its verdicts, one row each, in the order of `CLAIMS`.

    Args:
        frame: recorded numbers as `measured.frame` gives them; left out, all that are recorded.

    Returns:
        Columns name, section, sentence; in_paper ("8 of 8": how many comparisons the paper's own numbers bear out, or
        ""); protocol (one of `PROTOCOL`) and protocol_numbers ("7 of 8 hold, 1 undecided"); strongest (one of
        `STRONGEST`) and strongest_numbers; of both, with _decided in the place of _numbers how many hold or fail, and
        with _doubted how many of these rest on an attack that failed a check; missing (what is not measured, or "").
    """
    numbers = measured.numbers(measured.frame() if frame is None else frame)
    return pd.DataFrame([_row(claim, numbers) for claim in CLAIMS])


def report(frame: pd.DataFrame | None = None) -> str:
    """Return every claim with its verdicts as text, three lines each; of what is recorded, if no frame is given."""
    parts = []
    for row in verdicts(frame).itertuples():
        lines = [f"{row.name} (section {row.section}): {row.sentence}"]
        for under, verdict, count in (
            ("in the paper's own numbers", row.in_paper and "", row.in_paper),
            ("under the paper's protocol", row.protocol, row.protocol_numbers),
            ("under the strongest attack", row.strongest, row.strongest_numbers),
        ):
            if words := ": ".join(word for word in (verdict, count) if word):
                lines.append(f"    {under}  {words}")
        parts.append("\n".join(lines))
    networks = itertools.product(datasets.DATASETS, experiments.RUNS) if frame is None else ()
    found = (run for one in networks for run in records.runs(*one) if run["cells"])
    if paused := tables.paused(found):
        parts.append(tables.provisional(paused))
    return "\n\n".join(parts)


def outcomes(claim: Claim, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return every comparison of a claim with its numbers: what a verdict unfolds to.

    Returns:
        Columns under ("the paper's protocol" or "the strongest attack"), comparison, paper_first, paper_second,
        first, second, difference, low, high, seeds, images (of the one that is of fewer) and result; first_value and
        second_value are the `evidence.Value` that are compared, near, by and most the relation, and outcome the
        whole `evidence.Outcome`.
    """
    frame = measured.frame() if frame is None else frame
    numbers = measured.numbers(frame)
    rows = []
    for under, comparisons in (
        ("the paper's protocol", claim.protocol),
        ("the strongest attack", claim.strongest),
    ):
        for comparison in comparisons:
            found = evidence.judge(comparison, numbers)
            published = comparison.published or (float("nan"),) * 2
            rows.append(
                {
                    "under": under,
                    "outcome": found,
                    "comparison": str(comparison),
                    "first_value": comparison.first,
                    "second_value": comparison.second,
                    "by": comparison.by,
                    "near": comparison.near,
                    "most": comparison.most,
                    "paper_first": published[0],
                    "paper_second": published[1],
                    "first": found.first,
                    "second": found.second,
                    "difference": found.difference,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.seeds,
                    "images": found.images,
                    "result": found.result,
                }
            )
    return pd.DataFrame(rows)


def protocol_verdict(results: list[str], most: bool = False) -> str:
    """Return the verdict on outcomes under the paper's protocol.

    *Reproduced* if all comparisons hold, *partly* if some do and none fails, *mixed* if some do and some fail. Where
    none does it is *not* if one fails, and *undecided* if none fails either. It is *not measured yet* while a number
    is missing, except where it is mixed already. A claim of what is so for the ``most`` part is *reproduced* if more
    than half of its comparisons hold, whatever the missing ones say, and *not* if more fail than hold.
    """
    if not results:
        return "no numbers"
    if most:
        held, failed = results.count("holds"), results.count("fails")
        if 2 * held > len(results):
            return "reproduced"
        if "not measured" in results:
            return "not measured yet"
        if failed > held:
            return "not"
    if "holds" in results and "fails" in results:
        return "mixed"
    if "not measured" in results:
        return "not measured yet"
    if all(result == "holds" for result in results):
        return "reproduced"
    return "partly" if "holds" in results else "not" if "fails" in results else "undecided"


def strongest_verdict(results: list[str], protocol: str) -> str:
    """Return the verdict on outcomes under the strongest attack.

    The claim *holds* if all comparisons hold, *in part* if some do and none fails, is *mixed* if some do and some
    fail, and *undecided* where none fails and none holds. If not it *holds for weak attacks only* where it
    is reproduced under the paper's protocol, *holds in part for weak attacks only* where a part of it is, and *does
    not hold* where none is, where the paper gives no numbers, or where it compares attacks. It is *not measured yet*
    while a number is missing, except where it is mixed already, and *not put to it* where there is no comparison.
    """
    if not results:
        return "not put to it"
    if all(result == "holds" for result in results):
        return "holds"
    if "not measured" in results and not {"holds", "fails"} <= set(results):
        return "not measured yet"  # the missing one decides whether it is mixed
    if "holds" in results:
        return "mixed" if "fails" in results else "holds in part"
    if protocol == "not measured yet":
        return "not measured yet"
    if "fails" not in results:
        return "undecided"
    in_part = "holds in part for weak attacks only"
    weak = {"reproduced": "holds for weak attacks only", "partly": in_part, "mixed": in_part}
    return weak.get(protocol, "does not hold")


def kind(value: Value) -> tuple[str, str]:
    """Return the setting of a number and its attack, whatever its gradient: what `spreads` are told apart by."""
    cell = value.setting in ("clean", "black-box", "white-box")
    return value.setting, value.attack.split("-")[0] if cell else ""


def spreads(numbers: Mapping[Value, Mapping[int, Number]]) -> dict[tuple[str, str], float]:
    """Return how many points two seeds of one network are apart at most, on the same images, by `kind`."""
    found: dict[tuple[str, str], float] = {}
    for value, seeds in numbers.items():
        if len(seeds) > 1 and all(number.n for number in seeds.values()):
            alike = [number.value for number, _ in evidence.opposed(seeds, seeds, by_seed=True)]
            found[kind(value)] = max(max(alike) - min(alike), found.get(kind(value), 0.0))
    return found


def _row(claim: Claim, numbers: Mapping[Value, Mapping[int, Number]]) -> dict:
    own = [evidence.judge(comparison, numbers) for comparison in claim.protocol]
    worst = [evidence.judge(comparison, numbers) for comparison in claim.strongest]
    in_paper = [comparison.in_the_paper() for comparison in claim.protocol]
    printed = [borne_out for borne_out in in_paper if borne_out is not None]
    protocol = protocol_verdict([outcome.result for outcome in own], claim.most)
    of_attacks = all(one.first.model == one.second.model for one in claim.strongest)
    absent = [str(outcome.comparison) for outcome in own + worst if outcome.result == "not measured"]
    return {
        "name": claim.name,
        "section": claim.section,
        "sentence": claim.sentence,
        "in_paper": f"{sum(printed)} of {len(printed)}" if printed else "",
        "protocol": protocol,
        "protocol_numbers": _count(own),
        "strongest": strongest_verdict([outcome.result for outcome in worst], "" if of_attacks else protocol),
        "strongest_numbers": _count(worst),
        **{f"protocol_{what}": count for what, count in _decided(own).items()},
        **{f"strongest_{what}": count for what, count in _decided(worst).items()},
        "missing": "; ".join(absent),
    }


def _decided(found: list[Outcome]) -> dict[str, int]:
    """Return how many outcomes say yes or no, and how many of these rest on an attack that failed a check."""
    decided = [outcome for outcome in found if outcome.result in ("holds", "fails")]
    return {"decided": len(decided), "doubted": sum(any(outcome.doubts) for outcome in decided)}


def _count(found: list[Outcome]) -> str:
    """Return for example ``5 of 8 hold, 1 undecided, 2 fail``."""
    if not found:
        return ""
    number = {result: sum(outcome.result == result for outcome in found) for result in evidence.OUTCOMES}
    rest = [f"{many} {result}" for result in evidence.OUTCOMES[1:] if (many := number[result])]
    text = ", ".join([f"{number['holds']} of {len(found)} hold", *rest])
    return text if number["fails"] == 1 else text.replace("fails", "fail")
