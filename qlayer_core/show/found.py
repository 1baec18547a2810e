"""What was found, in sentences that anyone can read, written from what is recorded.

Each sentence follows from outcomes of `study.evidence.judge`, and says so where something isn't measured yet. Shares
are rounded to whole digits of a hundred; what stands behind them unfolds on the page of verdicts.
"""

from typing import NamedTuple

import pandas as pd

from qlayer_core.show import against, control, verdict
from qlayer_core.show.against import LAYER, PLAIN, SMALL
from qlayer_core.show.page import Markup, folded, joined, listed, paragraph, typeset, upper, whole
from qlayer_core.study import claims, evidence, experiments, ladder, paper
from qlayer_core.study.evidence import Comparison, Outcome, Value, worst_case
from qlayer_core.study.statements import CLAIMS

BETWEEN = "q-inner"
MORE = "More numbers"
WHAT_IT_IS = "the Q-Layer, a defence that is built into the network,"  # for who reads nothing else


class Finding(NamedTuple):
    """What was found in one sentence, the numbers that carry it, and what else a careful reader should know."""

    short: str
    numbers: str = ""
    more: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


def blind(frame: pd.DataFrame) -> Finding:
    """Return what the layer does against images that were made without looking at the network."""
    (claim,) = (claim for claim in CLAIMS if claim.name == "black box, MNIST")
    found = against.outcomes(claim.protocol, frame)
    if not (known := against.known_of(found)):
        return Finding(
            "Whether the Q-Layer helps against images made to fool another network has not been measured yet."
        )
    helps = {
        "holds": "the Q-Layer helps",
        "fails": "the Q-Layer does not help",
        "mixed": "the Q-Layer helps in part",
        "undecided": "the Q-Layer makes no measurable difference",
    }
    hardest = next((one for one in known if _is(one, LAYER, "bim", 0.3)), known[-1])
    eps = hardest.comparison.first.eps
    numbers = (
        f"When each pixel of such an image may move by up to {eps:g} (black is 0, white is 1), a network with the"
        f" layer still reads {whole(hardest.first)} of 100 digits, and the plain network without it"
        f" {whole(hardest.second)}.{control.aside(hardest, frame)}"
    )
    twin, asked = against.outcomes(
        [
            Comparison(
                Value("mnist", LAYER, "ladder", first, at), Value("mnist", PLAIN, "ladder", second, at)
            )
            for first, second, at in (
                ("transfer from the undefended twin", "transfer from another seed", eps),
                (ladder.ASKING.name, ladder.ASKING.name, SMALL[0]),
            )
        ],
        frame,
    )
    more = []
    if twin.result != "not measured":
        more.append(
            "A stronger attack makes its images on another network that was trained like the plain one. When pixels"
            f" may move by up to {eps:g}, it leaves {whole(twin.first)} of 100 digits right with the layer, and"
            f" {whole(twin.second)} without."
        )
    if asked.result != "not measured":
        more.append(
            "Another attacker needs no gradient, but asks the network itself for its scores, up to"
            f" {ladder.ASKING.options['queries']:,} times per image. When pixels may move by up to {SMALL[0]:g}, this"
            f" leaves {whole(asked.first)} with the layer, and {whole(asked.second)} without."
            f"{control.aside(asked, frame)}"
        )
    short = f"On handwritten digits {helps[_together(known)]} against images that were made to fool another network."
    return Finding(short, numbers, " ".join(more))


def seeing(frame: pd.DataFrame) -> Finding:
    """Return what the layer does against the strongest attack by someone who sees all of the network."""
    if not (known := against.against_all(frame)):
        return Finding("Whether it helps against an attacker who knows it has not been measured yet.")
    what = _blamed(known, against.against_all(frame, plain=experiments.CONTROL))
    does = {
        "no help": "does not help",
        "helps": "helps, too" if _together(known) == "holds" else "helps, too, in part",
        "harms": "makes the network easier to fool",
        "neither": "makes no measurable difference",
        "both": "helps in one case and harms in the other",
        "luck": "helps or harms, depending on the single training run",
    }[what]
    between = _between(frame)
    if what != "helps" and between:
        does += f" in its usual place, late in the network; {between.short}"
    end, dropout = against.with_dropout(frame, "", what)
    numbers = _left(known) + "".join(
        control.aside(one, frame, f" at {one.comparison.first.eps:g}") for one in _clear(known)[:1]
    )
    return Finding(
        f"Against an attacker who knows it, the layer {does}{end}.",
        " ".join(filter(None, (numbers, between and between.numbers))),
        " ".join(filter(None, (between and between.more, dropout))),
    )


def _between(frame: pd.DataFrame) -> Finding | None:
    """Return where a layer between the convolutions is clearly ahead, as half a sentence and more; else None."""
    ahead = [one for one in against.against_all(frame, layer=BETWEEN) if one.result == "holds"]
    if not ahead:
        return None
    pairs = [
        f"{whole(one.first)} against {whole(one.second)} at {one.comparison.first.eps:g}" for one in ahead
    ]
    text = f"In an earlier place, between the two convolutions, the layer keeps {listed(pairs)}."
    short = "in an earlier place, it makes the network harder to fool"
    if any(map(evidence.turned_by_seeds, ahead)):
        short = short.replace("makes", "seems to make")
        text += " So few networks of each kind were trained that others might turn this."
    more = f"The layer between the convolutions has settings of its own ({against.networks(frame, BETWEEN)})."
    alike = against.known_of([control.alike(one, frame) for one in ahead])
    if len(alike) == len(ahead):
        kept, where = (
            listed(some)
            for some in zip(
                *((whole(one.first), f"{one.comparison.first.eps:g}") for one in alike), strict=True
            )
        )
        more += f" Beside it, a plain network that is trained like the one with the layer keeps {kept} at {where}."
    return Finding(short, text, more)


def trained(frame: pd.DataFrame) -> Finding:
    """Return what the layer does against the strongest attack where both networks are trained adversarially."""
    if not (known := against.against_all(frame, "-adv")):
        return Finding(
            "Whether it helps where both networks are trained on attacked digits has not been measured yet."
        )
    usual = "the usual plain one"
    says = {
        "helps": f"the one with the layer is harder to fool than {usual}",
        "no help": f"the one with the layer is no harder to fool than {usual}",
        "harms": f"the one with the layer is easier to fool than {usual}",
        "neither": f"the one with the layer cannot be told apart from {usual}",
        "both": f"the one with the layer is harder to fool than {usual} in one case, and easier in the other",
        "luck": "which of them is easier to fool depends on the single training run",
    }
    what = _blamed(known, against.against_all(frame, "-adv", plain=experiments.CONTROL))
    end, dropout = against.with_dropout(frame, "-adv", what)
    rising = [f"{one.comparison.first.eps:g}" for one in known if one.doubts[0]]
    more = (
        f"At {listed(rising)} twice the effort still fooled more digits of the network with the layer, so its true"
        " number may be lower."
        if rising
        else "",
        dropout,
        _beside_alike(frame),
        against.by_the_text(frame),
    )
    return Finding(
        f"Where both networks are trained on attacked digits, {says[what]}{end}.",
        _left(known),
        " ".join(filter(None, more)),
    )


def _beside_alike(frame: pd.DataFrame) -> str:
    """Return in sentences what is left of both where the plain network is trained alike, and on attacks."""
    alike = f"{experiments.CONTROL}-adv"
    known = against.against_all(frame, "-adv", plain=experiments.CONTROL)
    if not known:
        return ""
    kept, bare = (listed([whole(getattr(one, which)) for one in known]) for which in ("first", "second"))
    where = listed([f"{one.comparison.first.eps:g}" for one in known])
    clear = [
        f"{word} at {listed(places)}"
        for word, result in (("helps", "holds"), ("harms", "fails"))
        if (places := [f"{one.comparison.first.eps:g}" for one in known if one.result == result])
    ]
    open_ones = [one for one in known if one.doubts[0] and one.result == "undecided" and one.difference > 0]
    says = [f"Beside it, the layer {' and '.join(clear)}."] if clear else []
    if open_ones:
        places = listed([f"{one.comparison.first.eps:g}" for one in open_ones])
        says.append(
            f"That the layer helps at {places} is not shown, since more effort lowers its number there."
        )
    return (
        "A plain network that is trained like the one with the layer"
        f" ({against.networks(frame, alike)}) keeps {bare} of 100 digits at {where}; the one with the layer keeps"
        f" {kept}. {' '.join(says) or 'This is no measurable difference.'}"
    )


def _blamed(known: list[Outcome], alike: list[Outcome]) -> str:
    """Return `against.direction`; "no help" for a loss that the plain network trained alike does not confirm."""
    direction = against.direction(known)
    return "no help" if direction == "harms" and alike and against.direction(alike) != "harms" else direction


def _clear(known: list[Outcome]) -> list[Outcome]:
    """Return those that hold or fail; where none does, and no seed is to blame, all of them."""
    clear = [one for one in known if one.result in ("holds", "fails")]
    return clear or ([] if any(map(against.hangs, known)) else known)


def _left(known: list[Outcome]) -> str:
    """Return in sentences what all attacks together leave of both networks, by budget, where they differ."""
    clear, luck = _clear(known), [one for one in known if against.hangs(one)]
    level = [one for one in known if one not in clear + luck]
    text = ""
    if clear:
        first, *others = clear
        text = (
            f"When pixels may move by up to {first.comparison.first.eps:g}, all attacks together leave"
            f" {whole(first.first)} of 100 digits right with the layer, and {whole(first.second)} without it"
        )
        text += "".join(
            f"; at {one.comparison.first.eps:g} they leave {whole(one.first)} and {whole(one.second)}"
            for one in others
        )
    spread = [
        f"at {one.comparison.first.eps:g} the result depends on the training run: of 100 digits, the network with the"
        f" layer keeps from {_signed(one.low)} to {_signed(one.high)} than the plain one"
        for one in luck
    ]
    if level:
        where = listed([f"{one.comparison.first.eps:g}" for one in level])
        text += f"{'; at' if text else 'at'} {where} the two cannot be told apart"
    return " ".join(f"{upper(part)}." for part in (text, *spread) if part)


def _signed(points: float) -> str:
    """Return a difference in words: ``"34 fewer"``, ``"2 more"``."""
    return f"{whole(-points)} fewer" if points < 0 else f"{whole(points)} more"


def own_attack(frame: pd.DataFrame) -> Finding:
    """Return how far the paper's attack on the layer falls short of the strongest one."""
    (found,) = against.outcomes(
        [
            Comparison(
                Value("mnist", LAYER, "ladder", "bim on the e-path", 0.2), worst_case("mnist", LAYER, 0.2)
            )
        ],
        frame,
    )
    if found.result == "not measured":
        return Finding(
            "How far the paper's own attack falls short of all together has not been measured yet."
        )
    how = "too weak" if found.result == "holds" else "about as strong as all together"
    return Finding(
        f"The paper's own attack on the layer is {how}.",
        "With it the paper measured the network that was trained on clean digits. It does not go through the layer,"
        f" but round it: when pixels may move by up to 0.2, it leaves {whole(found.first)} of 100 digits right, and"
        f" all attacks together leave {whole(found.second)}.",
    )


def symptom() -> Finding:
    """Return the sign in the paper's own tables that attacks failed."""
    table = paper.TABLES["6b"]
    same = {table.cell("q-base e", f"bim {eps}").accuracy for eps in (0.2, 0.3)}
    assert len(same) == 1 and verdict.seeing_does_worse() > 0  # it is what the sentence is about
    return Finding(
        "Some of the paper's attacks had failed, and their failures were counted as robustness.",
        f"In {verdict.seeing_does_worse()} places of the paper's tables an attacker who sees the network does worse"
        " than one who does not see it, and in one place a larger change fools exactly as many images as a smaller"
        " one.",
    )


def balance(frame: pd.DataFrame) -> Finding:
    """Return how many of the paper's claims can be judged, and how the verdicts fall."""
    rows = claims.verdicts(frame)
    words = {
        "reproduced": "come out as the paper says",
        "partly": "in part",
        "mixed": "with results on both sides",
        "not": "not as it says",
    }
    own = {name: int((rows.protocol == name).sum()) for name in words}
    tested, attacked = sum(own.values()), int(rows.strongest.isin(claims.STRONGEST[:-2]).sum())
    came_out = listed([f"{own[name]} {word}" for name, word in words.items() if own[name]] or ["none"])
    short = f"Repeated, the paper's own tests decide {tested} of its {len(rows)} claims: {came_out}."
    if not attacked:
        return Finding(short, "What the strongest attack leaves of them has not been measured yet.")
    holding = int((rows.strongest == "holds").sum())
    stand = {0: "none holds", 1: "one holds"}.get(holding, f"{holding} hold")
    put = "One claim was" if attacked == 1 else f"{attacked} claims were"
    partly = int((rows.strongest == "holds in part").sum())
    rest = f", {'one' if partly == 1 else partly} in part" if partly else ""
    return Finding(short, f"{put} also put to the strongest attack: {stand} in full{rest}.")


def _item(found: Finding) -> str:
    """Return a finding as HTML: in short, then its first numbers, and what more there is unfolds."""
    said = f"<strong>{typeset(found.short)}</strong> {typeset(found.numbers)}".strip()
    return said + (folded(MORE, paragraph(found.more)).html if found.more else "")


def six(frame: pd.DataFrame) -> list[Finding]:
    """Return what was found: six findings."""
    return [blind(frame), seeing(frame), trained(frame), own_attack(frame), symptom(), balance(frame)]


def lead(frame: pd.DataFrame) -> Markup:
    """Return the verdict in three sentences as a page's first paragraph; then its numbers, and what more unfolds."""
    said = (blind(frame), seeing(frame), symptom())  # how many claims hold is for the reader to guess
    text = " ".join(one.short for one in said).replace("the Q-Layer", WHAT_IT_IS, 1)
    first, second, last = said
    other = trained(frame)
    numbers = (first.numbers, second.numbers, f"{other.short} {other.numbers}".strip(), last.numbers)
    rest = [paragraph(one.more) for one in (first, second, other) if one.more]
    return joined(
        Markup(f'<p class="lead">{typeset(text)}</p>', text),
        *(paragraph(one) for one in numbers if one),
        *([folded(MORE, *rest)] if rest else []),
    )


def start_page(frame: pd.DataFrame) -> str:
    """Return the six findings as HTML for the start page, and a link to the chapters behind them."""
    items = "\n".join(f"<li>{_item(finding)}</li>" for finding in six(frame))
    more = (
        '<p>How this was measured: <a href="13b-the-ladder.html">the ladder of attacks</a>. Every claim, one by'
        ' one: <a href="16-verdict.html">the verdict</a>.</p>'
    )
    return f'<ol id="found">\n{items}\n</ol>\n{more}\n'


def _together(found: list[Outcome]) -> str:
    """Return "holds" if all hold, "mixed" if some do, "fails" if one fails and none holds, else "undecided"."""
    results = [one.result for one in found]
    if "holds" in results:
        return "holds" if set(results) == {"holds"} else "mixed"
    return "fails" if "fails" in results else "undecided"


def _is(one: Outcome, model: str, attack: str, eps: float) -> bool:
    value = one.comparison.first
    return (value.model, value.attack, value.eps) == (model, attack, eps)
