"""Which sanity checks of `study.sanity` raise a flag over a network's ladder, and where its gradients are zero."""

from collections.abc import Mapping
from html import escape

from qlayer_core.show import names
from qlayer_core.show.ladder import rung_name
from qlayer_core.show.page import Markup, decimal, listed, table, upper, wrapped
from qlayer_core.study import adaptive, sanity

ROADS = names.PATHS | {  # what an attacker differentiates, see `making.stand_in`
    "soft 0.1": "soft codes",
    "latent": "runner-up codes",
    "ensemble": "both paths",
    "itself": "its own gradient",
}
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


def gradient_table(found: Mapping[str, dict]) -> Markup:
    """Return the shares of images and of pixels that have no gradient, a row per road and a column per loss.

    Roads of one network that have all numbers in common share a row.
    """
    rows = []
    for name, record in found.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for road, by_loss in record["health"]["gradients"].items():
            shares = (
                decimal(by_loss[loss][what], 1) for what in ("images", "pixels") for loss in ("ce", "clipped")
            )
            alike.setdefault(tuple(shares), []).append(ROADS.get(road, road))
        rows.append([names.label(name)])
        rows += [[wrapped(upper(listed(roads))), *shares] for shares, roads in alike.items()]
    images = sorted({min(record["n"], adaptive.HEALTH) for record in found.values()})
    return table(
        rows,
        ["road", "images, exact", "images, clipped", "pixels, exact", "pixels, clipped"],
        "Images and single pixels (%) whose gradient is exactly zero, by the road that an attacker follows, with the"
        f" exact loss and with the clipped one. Of the first {listed([str(n) for n in images])} test images.",
    )
