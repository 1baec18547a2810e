"""The ladder of attacks of the adaptive evaluation, as data: rung by rung the attacker knows more of the network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from qlayer_core import attacks, baselines, datasets
from qlayer_core.specs import RunSpec
from qlayer_core.study import experiments

SMALL = (0.05, 0.1)  # epsilons beside those of the tables
FAR = 0.5  # an eps at which nothing but chance is left
AVERAGED = ", averaged"  # ends the name of such a surrogate, or is followed by the number of points
JUDGED = ", judged"  # ends the name of one whose answers are the Q-path's

ATTACKS = {
    "bim": attacks.bim,
    "pgd": attacks.pgd,
    "apgd": attacks.apgd,
    "targeted": attacks.apgd_targeted,
    "square": attacks.square,
    "ls-pga": baselines.ls_pga,
}


@dataclass(frozen=True)
class Rung:
    """One attack of the ladder: what it follows, on whose network, and with which options."""

    name: str
    kind: str  # "control", "black-box" or "white-box"
    attack: str  # a name of `ATTACKS`, or "noise"
    surrogate: str | None = None  # what stands for the network: see `making.stand_in`
    source: str | None = None  # whose network makes the images: "source-a", "twin", "sibling"; None: its own
    options: Mapping[str, object] = field(default_factory=dict)
    survivors: bool = False  # attack only what all rungs before left right; other images count as wrong
    only_eps: tuple[float, ...] = ()  # left out: every eps
    purpose: str = "ladder"  # or the name of the sanity check that it serves

    def __post_init__(self):
        if self.attack != "noise" and self.attack not in ATTACKS:
            raise ValueError(f"attack is {self.attack!r}; choose noise or one of {', '.join(ATTACKS)}")


_MARGIN = {"loss": "margin", "iterations": 100}
_SHORT = {"loss": "margin", "iterations": 50}  # where more steps are not what is missing
_TRANSFER = (
    Rung("noise", "control", "noise"),
    Rung("transfer from a stranger", "black-box", "apgd", None, "source-a", _SHORT),
)
# It asks for scores alone, and comes last: what it still finds, the gradients have missed.
_SQUARE = Rung("square", "black-box", "square", options={"queries": 1000}, survivors=True)
# The same as an attacker who has nothing else would make it: no weights, and no network of their own.
ASKING = replace(_SQUARE, name="square alone", survivors=False)
# After it, on whoever still stands, the dearest: each class has steps of its own.
_EACH = Rung("apgd towards each class", "white-box", "targeted", options={"iterations": 50}, survivors=True)

PLAIN = (
    *_TRANSFER,
    Rung("transfer from another seed", "black-box", "apgd", None, "sibling", _SHORT),
    ASKING,
    Rung("bim", "white-box", "bim"),
    Rung("pgd", "white-box", "pgd", options=_MARGIN | {"keep_best": True}),
    Rung("apgd on ce", "white-box", "apgd", options=_MARGIN | {"loss": "ce"}),
    Rung("apgd on dlr", "white-box", "apgd", options=_MARGIN | {"loss": "dlr"}),
    Rung("apgd on the margin", "white-box", "apgd", options=_MARGIN),
    _SQUARE,
    _EACH,
)
"""For a network whose gradient is its own."""

LAYER = (
    *_TRANSFER,
    Rung("transfer from the undefended twin", "black-box", "apgd", None, "twin", _SHORT),
    Rung("transfer from another seed", "black-box", "apgd", "soft 0.1", "sibling", _SHORT),
    ASKING,
    Rung("bim on the e-path", "white-box", "bim", "e"),  # the paper's own attack
    Rung("apgd on the e-path", "white-box", "apgd", "e, judged", options=_MARGIN),
    Rung("apgd on the shortcut", "white-box", "apgd", "shortcut, judged", options=_MARGIN),
    Rung("apgd on both paths", "white-box", "apgd", "ensemble, judged", options=_SHORT),
    Rung(
        "pgd straight through", "white-box", "pgd", "straight-through", options=_MARGIN | {"keep_best": True}
    ),
    Rung("apgd straight through", "white-box", "apgd", "straight-through", options=_MARGIN),
    Rung("apgd on softer codes", "white-box", "apgd", "soft 0.5", options=_SHORT),
    Rung("apgd on runner-up codes", "white-box", "apgd", "latent", options=_MARGIN),
    Rung("apgd on soft codes", "white-box", "apgd", "soft 0.1", options=_MARGIN),
    Rung("apgd on soft codes, ce", "white-box", "apgd", "soft 0.1", options=_MARGIN | {"loss": "ce"}),
    _SQUARE,
    replace(_EACH, name="apgd on soft codes towards each class", surrogate="soft 0.1"),
    Rung(
        "apgd on averaged softer codes",
        "white-box",
        "apgd",
        "soft 0.5, averaged",
        options={"loss": "ce", "iterations": 50},
        survivors=True,
    ),
    # Found by trying, on the first test images and three adversarially trained networks. An attack may be tuned so:
    # what it leaves is an upper bound. On raw-trained networks, too, it finds what nothing else did.
    Rung(
        "apgd on averaged runner-up codes",
        "white-box",
        "apgd",
        "latent 2, averaged 2",
        options={"loss": "ce", "iterations": 300},
        survivors=True,
    ),
)
"""For a network with the layer: rung by rung the attacker knows more of it."""

_LEVELS = Rung("ls-pga", "white-box", "ls-pga", "levels")
QUANTIZED = (
    *_TRANSFER,
    Rung("transfer from the undefended twin", "black-box", "apgd", None, "twin", _SHORT),
    Rung("bim as it is", "white-box", "bim", "as it is"),
    Rung("bim straight through", "white-box", "bim", "adaptive"),
    Rung("pgd straight through", "white-box", "pgd", "adaptive", options=_MARGIN | {"keep_best": True}),
    Rung("apgd straight through", "white-box", "apgd", "adaptive", options=_MARGIN),
    Rung("apgd straight through, ce", "white-box", "apgd", "adaptive", options=_MARGIN | {"loss": "ce"}),
    _LEVELS,
    _SQUARE,
    replace(_EACH, name="apgd straight through towards each class", surrogate="adaptive"),
)
"""For a network behind a quantizer of its input."""


def ladder(spec: RunSpec) -> tuple[Rung, ...]:
    """Return all rungs for the network of a run, and one at an eps at which only chance is left.

    What doubles the effort of the strongest of them is known once they are climbed: see `doubled`.
    """
    rungs, best = PLAIN, "apgd on the margin"
    if spec.layer is not None:
        rungs, best = LAYER, "apgd on soft codes"
    elif spec.quantizer:  # the attack in the space of levels needs some
        levels = spec.quantizer != "randomised"
        rungs, best = (
            tuple(rung for rung in QUANTIZED if levels or rung is not _LEVELS),
            "apgd straight through",
        )
    (near,) = (rung for rung in rungs if rung.name == best)
    options = {**near.options, "iterations": 50}
    far = replace(near, name=f"{best}, far away", options=options, only_eps=(FAR,), purpose="chance")
    return (*rungs, far)


def decisive(cells: Sequence[Mapping]) -> tuple[Rung, float] | None:
    """Return the rung on which the result hangs most, and its eps; None without one.

    Where an attack leaves next to nothing, or nearly all, a stronger one would not show. So of the strongest APGD
    that sees the network at each eps, it is the one that leaves nearest to half of the images.

    Args:
        cells: of a recorded evaluation, see `adaptive.run`.
    """
    strongest: dict[float, Mapping] = {}
    for cell in cells:
        how = cell["how"]
        if how["survivors"]:  # it saw the others not at all
            continue
        if (how["kind"], how["attack"], how["purpose"]) == ("white-box", "apgd", "ladder"):
            least = strongest.setdefault(cell["eps"], cell)
            strongest[cell["eps"]] = min(least, cell, key=lambda one: one["correct"])
    if not strongest:
        return None
    cell = min(strongest.values(), key=lambda one: abs(one["correct"] / one["n"] - 0.5))
    return Rung(**cell["how"] | {"only_eps": tuple(cell["how"]["only_eps"])}), cell["eps"]


def doubled(rung: Rung, eps: float) -> tuple[Rung, Rung]:
    """Return a rung with twice the steps, and with twice the restarts, at one ``eps``."""
    steps, restarts = rung.options["iterations"], rung.options.get("restarts", 1)
    return tuple(
        replace(
            rung,
            name=f"{rung.name}, twice the {what}",
            options={**rung.options, **more},
            only_eps=(eps,),
            purpose=what,
        )
        for what, more in (("steps", {"iterations": 2 * steps}), ("restarts", {"restarts": 2 * restarts}))
    )


def plain(rung: Rung) -> dict:
    """Return a rung as reading it back from JSON would give it."""
    return json.loads(json.dumps(asdict(rung)))


def unchanged(model: str, cell: Mapping) -> bool:
    """Return whether the rung that has a recorded cell's name today is still the attack that the cell is of.

    If not, the cell counts among all attacks together, but not beside the same rung of other networks.
    """
    found = [rung for rung in ladder(experiments.spec(model)) if rung.name == cell["rung"]]
    return all(plain(rung) == cell["how"] for rung in found)


def epsilons(dataset: str) -> tuple[float, ...]:
    """Return the budgets of the evaluation: those of the tables, and smaller ones."""
    return tuple(sorted({*SMALL, *datasets.find(dataset).epsilons}))


def complete(record: Mapping) -> bool:
    """Return whether enough of a ladder is recorded to speak of a worst case.

    These are the white-box rungs at every eps, but for one that only looks once more at whoever still stands.
    """
    wanted = {
        (rung.name, eps)
        for rung in ladder(experiments.spec(record["model"]))
        if (rung.kind, rung.purpose, rung.survivors) == ("white-box", "ladder", False)
        for eps in epsilons(record["dataset"])
    }
    return wanted <= {(cell["rung"], cell["eps"]) for cell in record["cells"]}


def lacking(record: Mapping) -> list[str]:
    """Return the last rungs, for whoever still stands, that are not recorded at every epsilon of a ladder."""
    have = {(cell["rung"], cell["eps"]) for cell in record["cells"]}
    return [
        rung.name
        for rung in ladder(experiments.spec(record["model"]))
        if rung.survivors
        and any((rung.name, eps) not in have for eps in rung.only_eps or epsilons(record["dataset"]))
    ]
