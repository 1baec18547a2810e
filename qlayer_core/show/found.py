"""What was found, in sentences that anyone can read, written from what is recorded.

Each sentence follows from outcomes of `study.evidence.judge`, and says so where something isn't measured yet. Shares
are rounded to whole digits of a hundred; what stands behind them unfolds on the page of verdicts.
"""

import pandas as pd

from qlayer_core.show import against, control, verdict
from qlayer_core.show.against import LAYER, PLAIN, SMALL
from qlayer_core.show.page import Markup, folded, joined, listed, paragraph, typeset, upper, whole
from qlayer_core.study import claims, evidence, experiments, ladder, paper
from qlayer_core.study.evidence import Comparison, Outcome, Value, worst_case
from qlayer_core.study.statements import CLAIMS

BETWEEN = "q-inner"


def blind(frame: pd.DataFrame) -> str:
    """Return what the layer does against images that were made without looking at the network."""
    (claim,) = (claim for claim in CLAIMS if claim.name == "black box, MNIST")
    found = against.outcomes(claim.protocol, frame)
    if not (known := against.known_of(found)):
        return "Whether the Q-Layer helps against images made on another network has not been measured yet."
    helps = {
        "holds": "the Q-Layer helps",
        "fails": "the Q-Layer does not help",
        "mixed": "the Q-Layer helps in part",
        "undecided": "the Q-Layer makes no measurable difference",
    }
    hardest = next((one for one in known if _is(one, LAYER, "bim", 0.3)), known[-1])
    eps = hardest.comparison.first.eps
    text = (
        f"On handwritten digits {helps[_together(known)]} against images that were made on another network. Where"
        f" each pixel moved by up to {eps:g} (black is 0, white is 1), a network with the layer still reads"
        f" {whole(hardest.first)} of 100 digits, and the plain network without it {whole(hardest.second)}"
    )
    text += control.bracket(hardest, frame)
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
    if twin.result != "not measured":
        text += (
            ". A stronger attack, whose images are made on another network that was trained like the plain one,"
            f" leaves {whole(twin.first)} with the layer and {whole(twin.second)} without"
        )
    if asked.result != "not measured":
        text += (
            f". An attacker who asks the network itself for its scores, up to"
            f" {ladder.ASKING.options['queries']:,} times per image, and never for a gradient, leaves"
            f" {whole(asked.first)} with the layer and {whole(asked.second)} without{control.bracket(asked, frame)};"
            f" here each pixel moves by up to {SMALL[0]:g}"
        )
    return f"{text}."


def seeing(frame: pd.DataFrame) -> str:
    """Return what the layer does against the strongest attack by someone who sees all of the network."""
    if not (known := against.against_all(frame)):
        return "Whether it helps against an attacker who knows it has not been measured yet."
    what = _blamed(known, against.against_all(frame, plain=experiments.CONTROL))
    says = {
        "no help": "the layer does not help against an attacker who knows it",
        "helps": "the layer helps against an attacker who knows it, too"
        + ("" if _together(known) == "holds" else ", in part"),
        "harms": "the layer does not help against an attacker who knows it, and even harms",
        "neither": "the layer makes no measurable difference against an attacker who knows it",
        "both": "the layer helps in one case and harms in the other against an attacker who knows it",
        "luck": "what the layer does against an attacker who knows it depends on the single training run",
    }[what]
    end, dropout = against.with_dropout(frame, "", what)
    says += end
    if (between := _between(frame)) and what != "helps":
        says = (
            f"behind the convolutions, its usual place, {says}; placed between the two convolutions, it helps"
        )
    return f"{upper(says)}. {upper(_left(known, frame))}.{between}{dropout}"


def _between(frame: pd.DataFrame) -> str:
    """Return as a sentence where a layer between the convolutions is clearly ahead of none; "" where it is not."""
    ahead = [one for one in against.against_all(frame, layer=BETWEEN) if one.result == "holds"]
    if not ahead:
        return ""
    pairs = [
        f"{whole(one.first)} against {whole(one.second)} at {one.comparison.first.eps:g}" for one in ahead
    ]
    whose = against.networks(frame, BETWEEN)
    text = f" Between the convolutions, with settings of its own ({whose}), it keeps {listed(pairs)}"
    alike = against.known_of([control.alike(one, frame) for one in ahead])
    if len(alike) == len(ahead):
        kept = listed([whole(one.first) for one in alike])
        text += f" (the plain network keeps {kept} if trained like the one with the layer)"
    if any(map(evidence.turned_by_seeds, ahead)):
        text += ". With so few trained networks of each, others might turn this"
    return f"{text}."


def trained(frame: pd.DataFrame) -> str:
    """Return what the layer does against the strongest attack where both networks are trained adversarially."""
    if not (known := against.against_all(frame, "-adv")):
        return (
            "Whether it helps where both networks are trained on attacked digits has not been measured yet."
        )
    usual = " compared with the usual plain network"
    says = {
        "helps": f"the layer helps{usual}",
        "no help": f"the layer does not help{usual}",
        "harms": f"the layer does not help, and even harms,{usual}",
        "neither": f"the layer makes no measurable difference{usual}",
        "both": f"the layer helps in one case and harms in the other{usual}",
        "luck": "what the layer does depends on the single training run",
    }
    what = _blamed(known, against.against_all(frame, "-adv", plain=experiments.CONTROL))
    end, dropout = against.with_dropout(frame, "-adv", what)
    text = f"Where both networks are trained on attacked digits, {says[what]}{end}."
    text += f" {upper(_left(known))}."
    if rising := [f"{one.comparison.first.eps:g}" for one in known if one.doubts[0]]:
        text += (
            f" At {listed(rising)} twice the effort still fooled more digits of the network with the layer, so its"
            " true number may be lower."
        )
    return text + dropout + _beside_alike(frame) + against.by_the_text(frame)


def _beside_alike(frame: pd.DataFrame) -> str:
    """Return as a sentence what is left of both where the plain network is trained alike, and on attacks."""
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
    says = [f"it {' and '.join(clear)}"] if clear else []
    if open_ones:
        places = listed([f"{one.comparison.first.eps:g}" for one in open_ones])
        says.append(f"it is not shown to help at {places}, since more effort lowers its number there")
    return (
        " A plain network that is trained like the one with the layer"
        f" ({against.networks(frame, alike)}) keeps {bare} of 100 digits at {where}. Compared with it, the one with"
        f" the layer keeps {kept}: {'; '.join(says) or 'it makes no measurable difference'}."
    )


def _blamed(known: list[Outcome], alike: list[Outcome]) -> str:
    """Return `against.direction`; "no help" for a loss that the plain network trained alike does not confirm."""
    direction = against.direction(known)
    return "no help" if direction == "harms" and alike and against.direction(alike) != "harms" else direction


def _left(known: list[Outcome], frame: pd.DataFrame | None = None) -> str:
    """Return what all attacks together leave of both networks, by budget, where they differ.

    With the recorded numbers, also of the plain network that is trained alike.
    """
    clear = [one for one in known if one.result in ("holds", "fails")]
    alike = [one for one in known if one not in clear and not against.hangs(one)]
    luck = [one for one in known if against.hangs(one)]
    spread = [
        f"at {one.comparison.first.eps:g} the result depends on the training run: the one with the layer keeps from"
        f" {_signed(one.low)} to {_signed(one.high)}"
        for one in luck
    ]
    if not clear and luck:
        return _and_alike("; ".join(spread), alike)
    first, *others = clear or known
    text = (
        f"of 100 digits, all attacks together leave the network with the layer {whole(first.first)}, and the"
        f" one without it {whole(first.second)}{'' if frame is None else control.bracket(first, frame)}, when pixels"
        f" move by up to {first.comparison.first.eps:g}"
    )
    text += "".join(
        f"; at {one.comparison.first.eps:g} they leave {whole(one.first)} and {whole(one.second)}"
        for one in others
    )
    return "; ".join([_and_alike(text, alike if clear else []), *spread])


def _and_alike(text: str, alike: list[Outcome]) -> str:
    """Return a text with the budgets at which two networks cannot be told apart."""
    where = [f"{one.comparison.first.eps:g}" for one in alike]
    return f"{text}; at {listed(where)} the two cannot be told apart" if where else text


def _signed(points: float) -> str:
    """Return a difference in words: ``"34 of 100 digits fewer"``, ``"2 more"``."""
    return f"{whole(-points)} of 100 digits fewer" if points < 0 else f"{whole(points)} more"


def own_attack(frame: pd.DataFrame) -> str:
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
        return "How far the paper's own attack falls short of all together has not been measured yet."
    how = "too weak" if found.result == "holds" else "about as strong as all together"
    return (
        f"The paper's own attack on the layer is {how}. The attack by which the paper measured the network trained on"
        " clean digits walks around the layer: when pixels move by up to 0.2, it leaves"
        f" {whole(found.first)} of 100 digits right, all attacks together leave {whole(found.second)}."
    )


def symptom() -> str:
    """Return the sign in the paper's own tables that attacks failed."""
    table = paper.TABLES["6b"]
    same = {table.cell("q-base e", f"bim {eps}").accuracy for eps in (0.2, 0.3)}
    assert len(same) == 1  # it is what the sentence is about
    return (
        "Some of the paper's attacks had failed, and their failures were counted as robustness. In"
        f" {verdict.seeing_does_worse()} places of the paper's tables an attacker who sees the network does worse"
        " than one who does not, and in one place a larger change fools exactly as many images as a smaller one."
    )


def balance(frame: pd.DataFrame) -> str:
    """Return how many of the paper's claims can be judged, and how the verdicts fall."""
    rows = claims.verdicts(frame)
    words = {
        "reproduced": "as the paper says",
        "partly": "in part",
        "mixed": "with results on both sides",
        "not": "not as it says",
    }
    own = {name: int((rows.protocol == name).sum()) for name in words}
    tested, attacked = sum(own.values()), int(rows.strongest.isin(claims.STRONGEST[:-2]).sum())
    came_out = listed([f"{own[name]} {word}" for name, word in words.items() if own[name]] or ["none"])
    says = f"The paper's own tests, repeated, judge {tested} of its {len(rows)} claims so far: {came_out}."
    if not attacked:
        return f"{says} What the strongest attack leaves of them has not been measured yet."
    holding = int((rows.strongest == "holds").sum())
    stand = {0: "none holds", 1: "one holds"}.get(holding, f"{holding} hold")
    put = "One claim was" if attacked == 1 else f"{attacked} claims were"
    partly = int((rows.strongest == "holds in part").sum())
    rest = f", {'one' if partly == 1 else partly} in part" if partly else ""
    return f"{says} {put} also put to the strongest attack: {stand} in full{rest}."


def _split(text: str) -> tuple[str, str]:
    """Return the first sentence of a text, and the rest of it."""
    first, more, rest = text.partition(". ")
    return first + more.strip(), rest


def _item(text: str) -> str:
    """Return a finding as HTML: in short, then its first numbers, and what more there is unfolds."""
    first, rest = _split(text)
    number, more = _split(rest)
    said = f"<strong>{typeset(first)}</strong> {typeset(number)}".strip()
    return said + folded("and more", Markup(typeset(more), more)).html if more else said


def six(frame: pd.DataFrame) -> list[str]:
    """Return what was found: six findings, the first sentence of each in short."""
    return [blind(frame), seeing(frame), trained(frame), own_attack(frame), symptom(), balance(frame)]


def lead(frame: pd.DataFrame) -> Markup:
    """Return the verdict in three sentences as a page's first paragraph; then its numbers, and what more unfolds."""
    said = (blind(frame), seeing(frame), symptom())  # how many claims hold is for the reader to guess
    first, others = zip(*map(_split, said), strict=True)
    numbers, more = zip(*map(_split, others), strict=True)
    text, below, rest = (" ".join(filter(None, some)) for some in (first, numbers, more))
    parts = [Markup(f'<p class="lead">{typeset(text)}</p>', text), *([paragraph(below)] if below else [])]
    return joined(*parts, *([folded("and more", paragraph(rest))] if rest else []))


def start_page(frame: pd.DataFrame) -> str:
    """Return the six findings as HTML for the start page, and a link to the chapters behind them."""
    items = "\n".join(f"<li>{_item(finding)}</li>" for finding in six(frame))
    more = (
        '<p>How this was measured: <a href="13-adaptive-attacks.html">the attacker who knows</a>. Every claim, one by'
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
