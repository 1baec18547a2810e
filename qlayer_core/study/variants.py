"""What the paper leaves open, settled and priced on validation images; test images have no part in it.

First a decision: which commitment term, which strategy for inactive codes and which place of dropout the grid has.
Then a study: what each setting costs, one change at a time from those of the grid. Each is a `Unit` with a variant's
name, recorded in ``data/results/<data set>/variants/<model>/<variant>/seed<k>.json``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from qlayer_core import checks
from qlayer_core.specs import COMMITMENTS, DROPOUTS, UPDATES, RunSpec
from qlayer_core.study import experiments, records
from qlayer_core.study.records import Unit

DECIDED_ON = ("q-base", "q-large", "q-base-adv", "q-large-adv")
TIE = 1.0  # points of the mixed validation score


@dataclass(frozen=True)
class Setting:
    """One way of settling what is open; the defaults are the paper's text."""

    commitment: str = "squared"
    raw: str = "pull"  # strategy for inactive codes in raw training
    adversarial: str = "pull"  # and in adversarial training
    dropout: str = "front"
    then: str | None = None  # the commitment of adversarial training; None: that of raw training

    def departures(self) -> int:
        """Return in how many ways it differs from the paper's text."""
        return sum(a != b for a, b in zip(vars(self).values(), vars(Setting()).values(), strict=True))

    def variant(self, adversarial: bool) -> str:
        """Return the variant's name: raw training does not depend on the settings of adversarial training."""
        then = [f"then-{self.then}"] if self.then else []
        strategies = [self.raw, *then, self.adversarial] if adversarial else [self.raw]
        return "-".join([self.commitment, *strategies, f"dropout-{self.dropout}"])

    def spec(self, name: str) -> RunSpec:
        """Return the run of that name with this setting."""
        base = experiments.spec(name)
        layer = replace(base.layer, dropout=self.dropout)
        if base.adversarial:
            commitment, inactive = self.then or self.commitment, self.adversarial
        else:
            commitment, inactive = self.commitment, self.raw
        return replace(base, commitment=commitment, inactive=inactive, layer=layer)

    def unit(self, dataset: str, name: str, seed: int = 0) -> Unit:
        """Return the unit that trains the run of that name with this setting."""
        spec = self.spec(name)
        return Unit(dataset, spec, seed, self.variant(spec.adversarial))


SETTINGS = {
    f"{setting.variant(True)}": setting
    for setting in (
        Setting(commitment, raw, adversarial, dropout, then)
        for dropout in DROPOUTS
        for commitment in COMMITMENTS
        for then in (None, *(form for form in COMMITMENTS if form != commitment))
        for raw in UPDATES
        for adversarial in UPDATES
    )
}
# Those that the rule chose from, and what was tried later of the other places of dropout.
TRIED = (
    Setting("squared", "pull", "pull", "off"),
    Setting("linear", "pull", "reinitialize", "off"),
    Setting("none", "pull", "reinitialize", "off"),
    Setting("squared", "pull", "pull", "off", "none"),
    *(Setting("squared", "pull", "reinitialize", dropout, "none") for dropout in DROPOUTS),
)
# What the rule chooses of all of these by their first seed. Everything had been trained and measured when its last
# runs came in, so the grid kept its setting. This one was measured on test images later, to see what hangs on it.
LATER = Setting("squared", "pull", "reinitialize", "behind", "none")


def later(name: str) -> str:
    """Return what frames call a network of the decision with `LATER`."""
    return f"{name}/later"


WITH_DROPOUT = {later(name): name for name in DECIDED_ON}

# One change at a time from the settings of the grid, by name; those on "layer" are changes of the `LayerSpec`.
CHANGES: dict[str, dict] = {
    "chosen": {},
    "framework-initialisation": {"initialisation": "framework"},
    "rate-halves-every-epoch": {"decay": 0.5**10, "staircase": False},
    "dropout-off": {"layer": {"dropout": "off"}},
    "dropout-front": {"layer": {"dropout": "front"}},
    "dropout-behind": {"layer": {"dropout": "behind"}},
    "commitment-squared": {"commitment": "squared"},
    "commitment-linear": {"commitment": "linear"},
    "commitment-none": {"commitment": "none"},
    "inactive-pull": {"inactive": "pull"},
    "inactive-reinitialize": {"inactive": "reinitialize"},
    "no-gate": {"layer": {"gate": False}},
    "k-means-start": {"layer": {"start": "k-means"}},
    "losses-x-10": {"alpha": 0.01, "beta": 0.01},
    "alpha-x-10": {"alpha": 0.01},
    "beta-x-10": {"beta": 0.01},
    "exact-gradients": {"adversarial_loss": "ce"},
    "without-l2": {"l2": 0.0},
}
_LAYERED = tuple(name for name in CHANGES if name not in ("exact-gradients", "without-l2"))
STUDIED: dict[str, tuple[str, ...]] = {  # which changes are tried on which model
    "cnn": ("chosen", "without-l2", "framework-initialisation", "rate-halves-every-epoch"),
    "cnn-adv": ("chosen", "exact-gradients"),
    "q-base": _LAYERED,
    "q-large": _LAYERED,
    "q-base-adv": ("chosen", "exact-gradients"),
    "q-large-adv": ("chosen", "exact-gradients"),
}
SEEDS = (0, 1, 2)


def changes(name: str) -> tuple[str, ...]:
    """Return the changes of a model that differ from the settings of the grid."""
    grid = experiments.spec(name)
    return tuple(change for change in STUDIED[name] if unit("mnist", name, change).spec != grid)


def unit(dataset: str, name: str, variant: str, seed: int = 0) -> Unit:
    """Return the unit of a variant by its name: a setting of the decision, or a change of the study.

    Raises:
        ValueError: there is no such variant of that model; the message lists those that there are.
    """
    settings = {
        setting.variant(experiments.spec(name).adversarial): setting
        for setting in SETTINGS.values()
        if name in DECIDED_ON
    }
    if variant in settings:
        return settings[variant].unit(dataset, name, seed)
    if not (known := (*settings, *STUDIED.get(name, ()))):
        tried = ", ".join(sorted({*DECIDED_ON, *STUDIED}))
        raise ValueError(f"{name} has no variants: choose a model that has, {tried}")
    checks.one_of("variant", variant, known)
    fields = dict(CHANGES[variant])
    spec = experiments.spec(name)
    if layer := fields.pop("layer", None):
        fields["layer"] = replace(spec.layer, **layer)
    return Unit(dataset, replace(spec, **fields), seed, variant)


def all_of_them() -> list[str]:
    """Return the variants of both studies as ``"q-base/no-gate"``, raw-trained ones before those that start there."""
    settings = {
        f"{name}/{setting.variant(experiments.spec(name).adversarial)}": setting.spec(name)
        for name in DECIDED_ON
        for setting in TRIED
        if not _is_the_grid_s(setting, name)
    }
    studied = [
        f"{name}/{change}"
        for name in STUDIED
        for change in changes(name)
        if unit("mnist", name, change).spec not in settings.values()
    ]
    return [*settings, *studied]


def _is_the_grid_s(setting: Setting, name: str) -> bool:
    """Return whether a setting trains a model as the grid does, from the same raw-trained network."""
    return all(setting.spec(one) == experiments.spec(one) for one in {name, experiments.spec(name).raw_name})


def start(one: Unit) -> Unit | None:
    """Return the raw-trained unit that an adversarially trained variant starts from; None for that of the grid.

    A raw setting that is the grid's own is not trained twice.
    """
    raw = one.spec.raw_name
    for setting in SETTINGS.values():
        if one.spec.adversarial and setting.variant(True) == one.variant:
            unit = setting.unit(one.dataset, raw, one.seed)
            return None if unit.spec == experiments.spec(raw) else unit
    return None


def recorded(unit: Unit) -> dict | None:
    """Return a variant's record, or that of another unit which is the same run; None if there is neither.

    The same run may be recorded as the grid's, or as a setting of the decision.
    """
    if unit.record.exists():
        return records.read_unit(unit)
    name = unit.spec.name
    grid = records.unit(unit.dataset, name, unit.seed)
    same = [grid] if grid.spec == unit.spec else []
    if name in DECIDED_ON:  # an adversarial training counts where it starts from the grid's raw network
        raw, place = unit.spec.raw_name, unit.spec.layer.dropout
        # By the place first: to make a run of each setting would take most of the time.
        like = [one for one in SETTINGS.values() if one.dropout == place and one.spec(name) == unit.spec]
        fitting = [one for one in like if name == raw or one.spec(raw) == experiments.spec(raw)]
        same += [one.unit(unit.dataset, name, unit.seed) for one in fitting]
    return next((records.read_unit(one) for one in same if one.record.exists()), None)


def scores(dataset: str, setting: Setting, seeds: Sequence[int] = (0,)) -> dict[str, float]:
    """Return the mean score of the Q-path, over seeds, of each of `DECIDED_ON` that is recorded with all of them.

    Where a setting is the grid's and has no record of its own, that of the grid counts.
    """
    found = {}
    for name in DECIDED_ON:
        units = [setting.unit(dataset, name, seed) for seed in seeds]
        if _is_the_grid_s(setting, name):
            units = [one if one.record.exists() else records.unit(dataset, name, one.seed) for one in units]
        if all(one.record.exists() for one in units):
            found[name] = mean(records.read_unit(one)["chosen"]["score"] for one in units)
    return found


def beside_the_grid(setting: Setting, name: str) -> list[tuple[float, float]]:
    """Return a model's scores on MNIST with a setting and with the grid's, for each seed that both have."""
    pairs = [
        [recorded(one) for one in (setting.unit("mnist", name, seed), unit("mnist", name, "chosen", seed))]
        for seed in SEEDS
    ]
    return [tuple(one["chosen"]["score"] for one in pair) for pair in pairs if None not in pair]


def of_the_grid() -> Setting:
    """Return the setting that the networks of the grid are trained with."""
    return next(
        setting
        for setting in SETTINGS.values()
        if all(setting.spec(name) == experiments.spec(name) for name in DECIDED_ON)
    )


def decide(scores: dict[Setting, float]) -> Setting:
    """Return the best setting; among those within `TIE` points of it, the one nearest to the paper's text."""
    best = max(scores.values())
    near = [setting for setting, score in scores.items() if score >= best - TIE]
    return min(near, key=lambda setting: (setting.departures(), -scores[setting]))
