"""Every model of the paper as a frozen `RunSpec`, and every attack on it: the one place that knows the grid."""

import zlib
from dataclasses import dataclass, replace

EPSILONS = {"mnist": (0.2, 0.3), "fashion-mnist": (0.1, 0.2)}  # section 4.1.1
ADVERSARIAL_TRAINING_EPS = {"mnist": 0.2, "fashion-mnist": 0.1}
SOURCES = {"cnn-a": "source-a", "cnn-b": "source-b"}  # the attackers' models, by their name in the tables
VALIDATION_SOURCE = "validation-a"


@dataclass(frozen=True)
class LayerSpec:
    """Where the Q-Layer sits and how it is built; see `models.q_net`."""

    heads: int = 1
    codebook_size: int = 64
    position: str = "after"
    shared_tail: bool = False
    dropout: str = "before"
    gate: bool = True
    gate_norm: bool = True
    start: str = "random"


@dataclass(frozen=True)
class RunSpec:
    """One trained model: its network and how it is trained (appendix B)."""

    name: str
    architecture: str = "a"  # Table 4
    layer: LayerSpec | None = None
    adversarial: bool = False  # train on FGSM images, from the raw-trained weights
    selection: str = "mixed"  # validation set that picks the weights: "mixed" or "clean"
    alpha: float = 0.001  # weight of the codebook loss, eq. 7
    beta: float = 0.001  # weight of the commitment loss
    inactive: str = "pull"  # strategy for inactive codes, section 3.5
    estimate_statistics: bool = True  # of the gate's normalisation, without dropout, before each validation
    batch_size: int = 128
    learning_rate: float = 0.001
    # Robustness peaks within two epochs and then falls, while accuracy goes on rising. A learning rate that halves
    # every epoch lets both settle; the paper does not give its schedule. `settings` compares.
    decay: float = 0.5  # of the learning rate over an epoch, step by step
    epochs: int = 6
    patience: int = 10  # epochs without a better validation accuracy before training stops
    checks: int = 3  # validations an epoch


def _grid() -> dict[str, RunSpec]:
    """Return every model of Tables 1 to 11, raw-trained before adversarially trained."""
    cnn = RunSpec("cnn")
    source = replace(cnn, selection="clean", decay=0.8, epochs=10, checks=1)
    raw = [
        cnn,
        RunSpec("q-base", layer=LayerSpec()),
        RunSpec("q-large", layer=LayerSpec(heads=4)),
        # Appendix B: between the convolutions it only converged with smaller losses and strategy 2.
        RunSpec(
            "q-inner",
            layer=LayerSpec(heads=4, position="between"),
            alpha=1e-4,
            beta=1e-4,
            inactive="reinitialize",
        ),
        RunSpec("q-large-shared", layer=LayerSpec(heads=4, shared_tail=True)),
        *(
            RunSpec(f"q-k{heads}-n{codes}", layer=LayerSpec(heads=heads, codebook_size=codes))
            for heads in (1, 2, 4)
            for codes in (16, 64, 128)
            if (heads, codes) not in ((1, 64), (4, 64))  # these are q-base and q-large
        ),
    ]
    specs = [
        # The paper is silent on these: good classifiers, chosen by clean accuracy, as an attacker would.
        *(replace(source, name=name) for name in (VALIDATION_SOURCE, "source-a")),
        replace(source, name="source-b", architecture="b"),
        replace(source, name="cnn-clean-selected"),
        *raw,
        # The networks with the layer still got better when a rate that halves every epoch had died down. All have
        # the same schedule, so that they can be compared; the best epoch of the plain CNN is its first. Forty epochs
        # at most, and ten without a gain, are the authors' rule.
        *(
            replace(spec, name=f"{spec.name}-adv", adversarial=True, decay=0.85, epochs=40, checks=1)
            for spec in raw
        ),
    ]
    return {spec.name: spec for spec in specs}


RUNS = _grid()


def run(name: str) -> RunSpec:
    """Return the run of that name.

    Raises:
        ValueError: there is no such model; the message lists those that there are.
    """
    if name not in RUNS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(RUNS)}")
    return RUNS[name]


def raw_name(spec: RunSpec) -> str:
    """Return the name of the raw-trained model that an adversarially trained one starts from."""
    return spec.name.removesuffix("-adv")


def seed_of(name: str, seed: int) -> int:
    """Return the seed of everything random in one run: different for each model and each ``seed``."""
    return zlib.crc32(f"{name}/{seed}".encode())


@dataclass(frozen=True)
class Attack:
    """One way of making the images that a model is scored on; the fields are those of a recorded cell."""

    setting: str  # "clean", "black-box" or "white-box"
    attack: str  # "none", "fgsm", "bim", "cw" (on logits) or "cw-softmax" (on probabilities)
    eps: float
    source: str | None = None  # black-box: "cnn-a" or "cnn-b"
    attacked_path: str | None = None  # white-box, with a Q-Layer: "e" or "shortcut"

    def __str__(self) -> str:
        """Return for example ``white-box bim 0.2 e``."""
        parts = (self.setting, self.attack, f"{self.eps:g}", self.source, self.attacked_path)
        return " ".join(part for part in parts if part)


CURVE = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)  # epsilons of the FGSM curves


def attacks_on(dataset: str, spec: RunSpec) -> list[Attack]:
    """Return every attack of the paper on this model, cheap ones first, and FGSM for a curve over epsilon."""
    epsilons = EPSILONS[dataset]
    paths = (None,) if spec.layer is None else ("e", "shortcut")
    found = [Attack("clean", "none", 0.0)]
    found += [Attack("black-box", "fgsm", eps, source) for source in SOURCES for eps in CURVE]
    found += [Attack("white-box", "fgsm", eps, None, path) for path in paths for eps in CURVE]
    found += [Attack("black-box", "bim", eps, source) for source in SOURCES for eps in epsilons]
    for name in ("cw", "cw-softmax", "bim"):
        found += [Attack("white-box", name, eps, None, path) for path in paths for eps in epsilons]
    return found
