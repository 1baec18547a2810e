"""What describes a run, in plain values: networks, training and attacks as frozen records. Imports no torch."""

from dataclasses import dataclass

DROPOUTS = ("off", "front", "behind")
INITIALISATIONS = ("glorot", "framework")
COMMITMENTS = ("squared", "linear", "none")
UPDATES = ("pull", "reinitialize")
PRINTED = "-printed"  # ends the name of a run by the paper's text, beside one that departs from it


@dataclass(frozen=True)
class LayerSpec:
    """Where the Q-Layer sits and how it is built; see `models.q_net` and `layer.QLayer`."""

    heads: int = 1  # K
    codebook_size: int = 64  # n_c
    position: str = "after"  # "after" the convolutions, or "between" them (Q-inner)
    shared_tail: bool = False  # N_Q = N_E, appendix G
    # "off": none in the whole network, as the authors' later code computed. "front" and "behind": Table 4's dropouts,
    # the first of them in front of the layer or behind it.
    dropout: str = "off"
    gate: bool = True  # eq. 4
    start: str = "random"  # or "k-means"


@dataclass(frozen=True)
class RunSpec:
    """One trained model: its network and how it is trained (appendix B, and the authors' later public code)."""

    name: str
    architecture: str = "a"  # Table 4
    layer: LayerSpec | None = None
    quantizer: str | None = (
        None  # of the input, a name of `baselines.QUANTIZERS`; none of the paper's has one
    )
    initialisation: str = "glorot"  # or "framework": what PyTorch draws by itself
    adversarial: bool = False  # train on FGSM images, from the raw-trained weights
    adversarial_loss: str = "clipped"  # whose gradient makes those images; "ce" is the exact one
    selection: str = "mixed"  # validation set that picks the weights: "mixed" or "clean"
    alpha: float = 0.001  # weight of the codebook loss, eq. 7
    beta: float = 0.001  # weight of the commitment loss
    commitment: str = "squared"  # eq. 8 as printed; "linear" and "none": see `layer.QLayer.losses`
    inactive: str = "pull"  # strategy for inactive codes, section 3.5
    batch_size: int = 128
    optimizer: str = "radam"
    learning_rate: float = 0.001
    decay: float = 0.3  # of the learning rate over ten epochs
    staircase: bool = False  # let it fall once every ten epochs, instead of with every step
    dropout: bool = True  # Table 4's, in a plain network; one with the layer has `LayerSpec.dropout`
    l2: float = 0.0  # times the squared norm of the first linear layer's matrix, added to the loss
    epochs: int = 40
    patience: int = 10  # epochs without a better validation score before training stops

    @property
    def raw_name(self) -> str:
        """Name of the raw-trained model: its own, or the one that an adversarially trained model starts from."""
        return self.name.removesuffix("-adv").removesuffix(PRINTED)


@dataclass(frozen=True)
class Attack:
    """One way of making the images that a model is scored on; the fields are those of a recorded cell."""

    setting: str  # "clean", "black-box" or "white-box"
    attack: str  # "none", or a name of `attacks.REGISTRY`
    eps: float
    source: str | None = None  # black-box: "cnn-a" or "cnn-b"
    # White-box, with a Q-Layer: "e", "shortcut", ...; with a quantizer of the input "adaptive", or None: as it is.
    attacked_path: str | None = None

    def __str__(self) -> str:
        """Return for example ``white-box bim 0.2 e``."""
        parts = (self.setting, self.attack, f"{self.eps:g}", self.source, self.attacked_path)
        return " ".join(part for part in parts if part)
