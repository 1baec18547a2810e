"""The claims of the paper as traffic lights that unfold to their numbers, and where the paper contradicts itself."""

import re
from collections import Counter
from collections.abc import Iterable
from html import escape

import numpy as np
import pandas as pd

from qlayer_core.show import names
from qlayer_core.show.ladder import rung_name
from qlayer_core.show.luck import Spreads, near_luck
from qlayer_core.show.page import DASH, Markup, decimal, listed, struck, table, typeset, upper
from qlayer_core.show.plot import MUTED, SERIES, VARIABLES, WRONG
from qlayer_core.show.results import column_name, row_name
from qlayer_core.study import claims, evidence, measured, paper
from qlayer_core.study.evidence import Value
from qlayer_core.study.statements import CLAIMS, Claim

GREEN, HALF, MIXED, AMBER, PALE, RED, OPEN, GREY, NONE = (
    ("●", names.COLOURS["q-large"]),
    ("◑", names.COLOURS["q-large"]),
    ("◒", SERIES[1]),
    ("◐", SERIES[1]),
    ("◔", SERIES[1]),
    ("○", WRONG),
    ("◎", VARIABLES[MUTED]),
    ("◌", VARIABLES[MUTED]),
    ("◇", VARIABLES[MUTED]),
)
"""Sign and colour of a light: the sign alone tells them apart, too."""

PROTOCOL = {
    "reproduced": (GREEN, "reproduced"),
    "partly": (AMBER, "reproduced in part"),
    "mixed": (MIXED, "mixed"),
    "not": (RED, "not reproduced"),
    "undecided": (OPEN, "undecided"),
    "not measured yet": (GREY, "not measured yet"),
    "no numbers": (NONE, "no numbers in the paper"),
}
STRONGEST = {
    "holds": (GREEN, "holds"),
    "holds in part": (HALF, "holds in part"),
    "mixed": (MIXED, "mixed"),
    "holds for weak attacks only": (AMBER, "holds for weak attacks only"),
    "holds in part for weak attacks only": (PALE, "holds in part for weak attacks only"),
    "does not hold": (RED, "does not hold"),
    "undecided": (OPEN, "undecided"),
    "not measured yet": (GREY, "not measured yet"),
    "not put to it": (NONE, "not put to it"),
}
PUBLISHED = "published "  # before images that were scored as those of the published figure
MEASURES = {
    "kl published": "KL divergence by the published formula",
    "kl histogram": "KL divergence by histogram",
    "kl gaussian": "KL divergence by normal curves",
}
SIDES = ("first_value", "second_value", "by", "near", "most")
COUNTED = ("protocol", "strongest")  # the sides of a claim that have a light
KINDS = {
    "value": "one measurement, two values",
    "caption": "a caption",
    "claim": "the text against the tables",
    "exception": "an exception to a rule of the text",
    "order": "an attacker who sees more does worse",
}


# ---- the claims ----


def groups(frame: pd.DataFrame | None = None) -> dict[str, list[dict]]:
    """Return the claims, as `claims.verdicts` rows with their ``"claim"``, by how far they can be judged.

    Returns:
        ``"judged"``, those with a verdict on one side or the other; ``"begun"``, those of which some comparisons are
        measured and not enough; ``"open"``, those of which none is.
    """
    found: dict[str, list[dict]] = {"judged": [], "begun": [], "open": []}
    for claim, row in zip(CLAIMS, claims.verdicts(frame).to_dict("records"), strict=True):
        row["claim"] = claim
        done, of = _measured(row)
        judged = row["protocol"] in claims.PROTOCOL[:-2] or row["strongest"] in claims.STRONGEST[:-2]
        found["judged" if judged else "begun" if done else "open"].append(row | {"done": done, "of": of})
    return found


def _measured(row: dict) -> tuple[int, int]:
    """Return how many comparisons of a claim are measured, and how many there are."""
    done = of = 0
    for side, comparisons in (("protocol", row["claim"].protocol), ("strongest", row["claim"].strongest)):
        absent = [part for part in row[f"{side}_numbers"].split(", ") if part.endswith(" not measured")]
        of += len(comparisons)
        done += len(comparisons) - sum(int(part.split()[0]) for part in absent)
    return done, of


def lights(rows: Iterable[dict], frame: pd.DataFrame) -> Markup:
    """Return claims as lines with two lights each, which unfold to sentence, section and numbers.

    Args:
        rows: claims of one of the `groups`.
        frame: recorded numbers, as `measured.frame` gives them.
    """
    rows, known = list(rows), measured.numbers(frame)
    apart = claims.spreads(known)
    parts = []
    for row in rows:
        judged = (
            (side, evidence.judge(one, known)) for side in COUNTED for one in getattr(row["claim"], side)
        )
        turned = Counter(side for side, one in judged if near_luck(one, apart))
        parts.append(_claim(row, frame, apart, turned))
    words = [f"{row['name']}: {row['protocol']}, {row['strongest']}" for row in rows]
    return Markup("".join(parts) or "<p>None.</p>", "; ".join(words) or "None.")


def _light(light: tuple[str, str]) -> str:
    sign, colour = light
    return f'<span aria-hidden="true" style="color: {colour}; font-weight: 700">{sign}</span>'


def _claim(row: dict, frame: pd.DataFrame, apart: Spreads, turned: Counter) -> str:
    own, worst = PROTOCOL[row["protocol"]], STRONGEST[row["strongest"]]
    line = f"{_light(own[0])} {own[1]}{_share(row, 'protocol', turned)}"
    if row["strongest"] != "not put to it":
        line += f" &nbsp; {_light(worst[0])} strongest attack: {worst[1]}{_share(row, 'strongest', turned)}"
    counts = []
    if row["in_paper"]:
        counts.append(typeset(f"The paper's own numbers: {_plural(row['in_paper'] + ' hold')}."))
    if row["protocol_numbers"]:
        counts.append(f"Our numbers, under its protocol: {_plural(row['protocol_numbers'])}.")
    if row["strongest_numbers"]:
        counts.append(f"Our numbers, under the strongest attack: {_plural(row['strongest_numbers'])}.")
    if row["claim"].note:
        counts.append(typeset(row["claim"].note))
    return (
        f'<details style="border-bottom: 1px solid var(--pst-color-border, #d4dae0); padding: 0.5rem 0">'
        f"<summary><strong>{typeset(row['sentence'])}</strong> <small>section {row['section']}</small><br>"
        f"<small>{line}</small></summary><p>{' '.join(counts)}</p>"
        f"{numbers(row['claim'], frame, apart).html}</details>"
    )


def _share(row: dict, side: str, turned: Counter) -> str:
    """Return how many comparisons hold, for the end of a line: ``", 7 of 8 hold"``; nothing where none is judged.

    Also how many fail and, of those that hold or fail, how many rest on an attack that failed a check, and how many
    another seed might turn.
    """
    if row[side] not in (*claims.PROTOCOL[:-2], *claims.STRONGEST[:-2]):
        return ""
    held, doubted = row[f"{side}_numbers"].split(" hold")[0], row[f"{side}_doubted"]
    says = f", {held} {'holds' if held.startswith('1 of') else 'hold'}"
    if failed := row[f"{side}_decided"] - int(held.split()[0]):
        says += f", {failed} {'fails' if failed == 1 else 'fail'}"
    if doubted:
        says += f"; {doubted} {'rests' if doubted == 1 else 'rest'} on an attack that failed a check"
    return says + (f"; another seed might turn {turned[side]}" if turned[side] else "")


def _plural(counts: str) -> str:
    """Return counts as a sentence has them: ``"0 of 4 hold, 2 fail"``, ``"1 of 2 holds, 1 fails"``."""
    return re.sub(r"\b(?!1 )(\d+) fails", r"\1 fail", re.sub(r"^1 of (\d+) hold", r"1 of \1 holds", counts))


def numbers(claim: Claim, frame: pd.DataFrame, apart: Spreads) -> Markup:
    """Return the comparisons of a claim that are measured, with the paper's two numbers and ours, as a table.

    Those that another seed might turn are marked: see `near_luck`; ``apart`` is from `claims.spreads`.
    """
    found = claims.outcomes(claim, frame)
    known = found[found.result != "not measured"] if len(found) else found
    if known.empty:
        return Markup("<p>None of its comparisons is measured yet.</p>", "None is measured yet.")
    rows, several = [], len({one.dataset for one in known.first_value}) > 1
    for one in known.to_dict("records"):
        share = not np.isnan(one["images"])  # or else a divergence
        images, digits = (f"{one['images']:,.0f}", 1) if share else (DASH, 2)
        gap = decimal(one["difference"], digits, True)
        if one["low"] < one["high"]:
            gap += f" ({decimal(one['low'], digits)} to {decimal(one['high'], digits)})"
        words = escape(compared(*(one[key] for key in SIDES)))
        words += f", {names.DATASETS[one['first_value'].dataset]}" if several else ""
        rows.append(
            [
                f'<span style="white-space: normal; font-weight: 400">{words}</span>',
                one["result"] + ("¹" if near_luck(one["outcome"], apart) else ""),
                f"{decimal(one['paper_first'])} | {decimal(one['paper_second'])}",
                " | ".join(
                    struck(decimal(one[which]), doubt or None)
                    for which, doubt in zip(("first", "second"), one["outcome"].doubts, strict=True)
                ),
                gap,
                f"{images}, {one['seeds']}",
            ]
        )
    left = len(found) - len(known)
    caption = f"{upper(claim.name)}: "
    caption += (
        "its one comparison is measured"
        if len(found) == 1
        else f"{len(rows)} of {len(found)} comparisons are measured"
        if left
        else f"all {len(found)} comparisons are measured"
    )
    heads = ["comparison", "result", "paper", "ours", "difference", "images, seeds"]
    caption += f", {left} are not yet." if left else "."
    caption += (
        " In brackets: of one pair of networks, the 95 % interval of the difference; of several pairs, the smallest"
        " and the largest difference."
    )
    if any("¹" in row[1] for row in rows):
        caption += (
            " ¹ Other seeds might turn it. Either there is a single seed, and the difference lies nearer to the"
            " threshold than two seeds of one network lie to each other there; or there are several seeds, too far"
            " apart for so few."
        )
    if any("<s " in row[3] for row in rows):
        caption += " Struck through: the attack failed a sanity check."
    return table(rows, heads, caption)


def compared(
    first: Value, second: Value, by: float = 0.0, near: bool = False, most: float = float("inf")
) -> str:
    """Return a comparison in words: ``"Q-base above CNN: BIM 0.3, black box from CNN A"``."""
    more = f"more than {by:g} points " if by else f"up to {most:g} points " if most < float("inf") else ""
    relation = f"within {by:g} points of" if near else f"{more}above"
    whose, other = subject(first), subject(second)
    if (how := condition(first)) == condition(second):
        return f"{whose} {relation} {other}: {how}"
    if whose == other:
        return f"{whose}: {how} {relation} {condition(second)}"
    return f"{whose} ({how}) {relation} {other} ({condition(second)})"


def subject(value: Value) -> str:
    """Return how the text calls what a number is of."""
    if value.setting == "divergence":
        if value.model == "pixels":
            return "pixels, scored as published" if value.attack.startswith(PUBLISHED) else "pixels"
        return f"codes of {names.label(value.model)}"
    return names.label(value.model, "e" if value.path == "e" else None)


def condition(value: Value) -> str:
    """Return how the text calls under what a number is measured."""
    eps = f" {value.eps:g}" if value.eps else ""
    if value.setting == "clean":
        return "clean images"
    if value.setting == "worst case":
        return f"all attacks{eps}"
    if value.setting == "ladder":
        return f"{rung_name(value.attack)}{eps}"
    if value.setting == "validation":
        return f"variant {value.attack}"
    if value.setting == "divergence":
        attack, *measure = value.attack.removeprefix(PUBLISHED).split()
        return f"{MEASURES[' '.join(measure)]}, {names.attack(attack)}{eps}"
    made = f"black box from CNN {value.source[-1].upper()}" if value.source else "white box"
    road = ", through the shortcut" if value.attacked_path == "shortcut" else ""
    attack = value.attack.removesuffix("-clipped")
    gradient = ", clipped gradient" if attack != value.attack else ""
    return f"{names.attack(attack)}{eps}{gradient}, {made}{road}"


def tally(rows: Iterable[dict]) -> Markup:
    """Return how many claims have which pair of verdicts, as a table."""
    counts = Counter((row["protocol"], row["strongest"]) for row in rows)
    columns = [verdict for verdict in STRONGEST if any(pair[1] == verdict for pair in counts)]
    lines = [
        [
            f"{_light(light)} {word}",
            *(str(counts[verdict, column]) if counts[verdict, column] else DASH for column in columns),
        ]
        for verdict, (light, word) in PROTOCOL.items()
        if any(pair[0] == verdict for pair in counts)
    ]
    heads = [f"{_light(STRONGEST[column][0])} {_narrow(STRONGEST[column][1])}" for column in columns]
    caption = (
        f"{sum(counts.values())} claims: a row per verdict under the paper's own protocol, a column per verdict under"
        " the strongest attack."
    )
    return table(lines, ["under the paper's protocol", *heads], caption)


def _narrow(words: str) -> str:
    """Return the head of a column with places where its long words may be parted: many columns share a line."""
    for word in ("unde cided", "meas ured"):
        words = words.replace(word.replace(" ", ""), word.replace(" ", "&shy;"))
    return words


# ---- the paper against itself ----


def contradictions() -> Markup:
    """Return the places where the paper disagrees with itself, each of which unfolds to its pairs of numbers."""
    parts, words = [], []
    for one in paper.INCONSISTENCIES:
        rows = [
            [
                f"{escape(row_name(first.row))}, {column_name(first.column)}",
                f"Table {first.table}: {decimal(first.accuracy)}",
                f"Table {second.table}, {escape(row_name(second.row))}: {decimal(second.accuracy)}",
            ]
            for first, second in one.pairs
        ]
        pairs = (
            table(rows, ["cell", "here", "there"], f"Accuracy (%): {KINDS[one.kind]}.").html if rows else ""
        )
        where = f"{'Table' if len(one.tables) == 1 else 'Tables'} {listed(one.tables)}"
        parts.append(
            '<details style="border-bottom: 1px solid var(--pst-color-border, #d4dae0); padding: 0.5rem 0">'
            f"<summary>{typeset(one.note)} <small>{KINDS[one.kind]}; {where}</small></summary>{pairs}</details>"
        )
        words.append(f"{one.note} ({where})")
    return Markup("".join(parts), " ".join(words))


def seeing_does_worse() -> int:
    """Return in how many pairs of its cells the paper's attacker who sees the network fools fewer images."""
    return sum(len(one.pairs) for one in paper.INCONSISTENCIES if one.kind == "order")
