"""Which sanity checks of `study.sanity` raise a flag over a network's ladder, as a table."""

from collections.abc import Mapping
from html import escape

from qlayer_core.show import names
from qlayer_core.show.ladder import rung_name
from qlayer_core.show.page import Markup, table, upper, wrapped
from qlayer_core.study import sanity

CHECKS = {  # when each raises its flag
    "more steps": "twice the steps fool clearly more",
    "more restarts": "twice the starts fool clearly more",
    "chance": "at half the pixel range more is right than by guessing",
    "monotone": "a larger budget fools fewer",
    "order": "who sees the network fools fewer than who does not",
    "square": "a search without gradients fools over 1 % more",
    "noise": "all attacks together are no better than noise",
    "unmoved": "images come back as they were",
    "zero gradients": "images have no gradient",
    "random answers": "two calls give two answers",
    "probabilities": "the network answers with probabilities",
    "optimized answers": "the network computes gradients to answer",
    "planted examples": "hidden adversarial examples are not found",
}


def flag_table(found: Mapping[str, dict]) -> Markup:
    """Return which sanity checks raise a flag, a row each and a column per network, and what the raised ones say."""
    by_name = {name: {flag.name: flag for flag in sanity.flags(record)} for name, record in found.items()}
    checks = list(dict.fromkeys(check for flags in by_name.values() for check in flags))
    rows = [
        [
            check,
            wrapped(CHECKS[check], 9),
            *(_light(flags[check]) if check in flags else "-" for flags in by_name.values()),
        ]
        for check in checks
    ]
    raised = [
        f"<li><strong>{upper(names.label(name))}, {flag.name}.</strong>"
        f" {upper(escape(rung_name(flag.message)))}.</li>"
        for name, flags in by_name.items()
        for flag in flags.values()
        if flag.raised
    ]
    shown = table(
        rows,
        ["check", "raised when", *map(names.label, by_name)],
        "The checks of the glossary, per network.",
    )
    reasons = f"<ul>{''.join(raised)}</ul>" if raised else "<p>No flag is raised.</p>"
    return Markup(shown.html + reasons, f"{shown.text} {len(raised)} raised.")


def _light(flag: sanity.Flag) -> str:
    if flag.raised is None:
        said = {sanity.TOO_FEW: sanity.TOO_FEW, sanity.NOT_TRIED: "not on the strongest"}
        return next((word for end, word in said.items() if flag.message.endswith(end)), "not measured")
    return "<strong>raised</strong>" if flag.raised else "clear"
