"""What is timed: each case as the same work done by several contestants, of which the first is this project.

A contestant is a function that prepares everything and returns the work as a function without arguments. Only
"ours" imports `qlayer_core`, and sets the memory allocator of the whole process as the project's programs do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import plain
import torch
from torch import Tensor, nn

Work = Callable[[], object]
EPS = 0.2  # of every attack


@dataclass(frozen=True)
class Sizes:
    """How much work there is."""

    rounds: int = 4
    fgsm_images: int = 1000
    bim_images: int = 64
    bim_rounds: int = 3
    bim_iterations: int = 100
    batch: int = 128
    models: tuple[str, ...] = ("cnn", "source-b", "q-base", "q-large", "q-inner")
    maps: tuple[tuple[int, int], ...] = ((1, 12), (4, 12), (1, 28), (4, 28))  # heads, side of the map
    slow_seconds: float = 20.0  # for the toolbox's C&W
    limit_size: int = 2048
    heads: tuple[int, ...] = (1, 2, 4, 8)
    codes: tuple[int, ...] = (16, 64, 256, 1024)
    images: tuple[int, ...] = (128, 256, 512, 1024)
    epochs: tuple[int, ...] = (1, 2, 4)
    alone: bool = True  # also time each contestant in a process of its own, with its peak memory


QUICK = Sizes(
    rounds=1,
    fgsm_images=32,
    bim_images=8,
    bim_rounds=1,
    bim_iterations=2,
    batch=16,
    models=("cnn", "q-base"),
    maps=((1, 12),),
    slow_seconds=0.0,
    limit_size=512,
    heads=(1, 2),
    codes=(16, 64),
    images=(16, 32),
    epochs=(1, 2),
    alone=False,
)


# ---- attacks: model, images and what else it takes -> adversarial images ----


def attack_ours(net: nn.Module, images: Tensor, kind: str, iterations: int) -> Work:
    """Attack the E-path, or a plain CNN, with the project's own attacks."""
    from qlayer_core import attacks, fast

    fast.keep_memory()
    target = attacks.surrogate(net.eval())
    if kind == "fgsm":
        return lambda: attacks.fgsm(target, images, eps=EPS)
    return lambda: attacks.bim(target, images, eps=EPS, iterations=iterations)


def attack_art(net: nn.Module, images: Tensor, kind: str, iterations: int) -> Work:
    """The same with the Adversarial Robustness Toolbox, in batches of 128 (its default is 32)."""
    from art.attacks.evasion import BasicIterativeMethod, FastGradientMethod

    classifier, pixels = art_classifier(net), images.numpy()
    if kind == "fgsm":
        attack = FastGradientMethod(classifier, eps=EPS, batch_size=128)
    else:
        options = {"max_iter": iterations, "batch_size": 128, "verbose": False}
        attack = BasicIterativeMethod(classifier, eps=EPS, eps_step=0.01, **options)
    return lambda: torch.from_numpy(attack.generate(pixels))


def attack_foolbox(net: nn.Module, images: Tensor, kind: str, iterations: int) -> Work:
    """The same with foolbox, in batches of 128; it asks for labels, so they are predicted first."""
    import foolbox

    target = toolbox_model(net)
    wrapped = foolbox.PyTorchModel(target, bounds=(0, 1), device="cpu")
    if kind == "fgsm":
        attack = foolbox.attacks.LinfFastGradientAttack()
    else:
        attack = foolbox.attacks.LinfBasicIterativeAttack(
            abs_stepsize=0.01, steps=iterations, random_start=False
        )

    def work() -> Tensor:
        found = []
        for batch in images.split(128):
            with torch.no_grad():
                labels = target(batch).argmax(1)
            found.append(attack(wrapped, batch, labels, epsilons=EPS)[1])
        return torch.cat(found)

    return work


def toolbox_model(net: nn.Module) -> nn.Module:
    return (plain.EPath(net) if isinstance(net, plain.QNet) else net).eval()


def art_classifier(net: nn.Module):
    from art.estimators.classification import PyTorchClassifier

    options = {"input_shape": (1, 28, 28), "nb_classes": 10, "clip_values": (0.0, 1.0), "device_type": "cpu"}
    return PyTorchClassifier(toolbox_model(net), loss=nn.CrossEntropyLoss(), **options)


# ---- the layer, forward and backward: heads and the side of the map -> gradients ----


def layer_ours(heads: int, side: int, batch: int, codes: int = 64) -> Work:
    """Projection, search, lookup and both losses."""
    from qlayer_core import fast
    from qlayer_core.layer import QLayer
    from qlayer_core.machine import autocast

    fast.keep_memory()
    layer, z = QLayer(64, codes, heads).train(), torch.rand(batch, 64, side, side, requires_grad=True)
    with autocast():
        out = layer(z)
    gradients = (torch.rand_like(out.quantized), torch.rand_like(out.projected), *torch.ones(2))

    def work() -> None:
        with autocast():
            out = layer(z)
            losses = layer.losses(out)
        torch.autograd.backward((out.quantized, out.projected, *losses), gradients)

    return work


def layer_vq(heads: int, side: int, batch: int, **options) -> Work:
    """vector-quantize-pytorch on a map that is already projected: search, lookup and its loss."""
    from vector_quantize_pytorch import VectorQuantize

    shape = {"dim": 64 * heads, "codebook_dim": 64, "codebook_size": 64, "heads": heads}
    layer = VectorQuantize(**shape, separate_codebook_per_head=True, accept_image_fmap=True, **options)
    z = torch.rand(batch, 64 * heads, side, side, requires_grad=True)
    gradient = torch.rand_like(z)

    def work() -> None:
        quantized, _, loss = layer(z)
        torch.autograd.backward((quantized, loss), (gradient, torch.ones_like(loss)))

    return work


# ---- one training step: a model's name -> a step ----


def step_ours(name: str, batch: int) -> Work:
    """One step as training takes it."""
    from qlayer_core import fast, models, training
    from qlayer_core.study import experiments

    fast.keep_memory()
    spec = experiments.spec(name)
    net, (images, labels) = models.build(spec).train(), random_batch(batch)
    optimizer = training.optimizer_of(spec, net)
    return lambda: training.step(spec, net, optimizer, images, labels)


def step_plain(name: str, batch: int) -> Work:
    """One step of the plain version."""
    net, (images, labels) = plain.build(name), random_batch(batch)
    optimizer = (torch.optim.RAdam if isinstance(net, plain.QNet) else torch.optim.Adam)(net.parameters())
    return lambda: plain.step(net, optimizer, images, labels)


def random_batch(n: int) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 28, 28), torch.randint(10, (n,))


# ---- by name, for a process of its own ----

LEARNED = {"learnable_codebook": True, "ema_update": False, "rotation_trick": False}
ATTACKS = {"ours": attack_ours, "ART": attack_art, "foolbox": attack_foolbox}
LAYERS = {
    "ours": layer_ours,
    "vector-quantize-pytorch": layer_vq,
    "vector-quantize-pytorch, learned codes": lambda *sizes: layer_vq(*sizes, **LEARNED),
}
STEPS = {"ours": step_ours, "plain": step_plain}


def alone(case: str, contestant: str) -> Work:
    """Return the work of one contestant, on untrained networks and random images.

    Args:
        case: ``"fgsm cnn"``, ``"bim q-large"``, ``"layer 4 28"`` or ``"step q-inner"``.
        contestant: a key of `ATTACKS`, `LAYERS` or `STEPS`.
    """
    kind, *which = case.split()
    if kind == "layer":
        heads, side = map(int, which)
        return LAYERS[contestant](heads, side, 128)
    if kind == "step":
        return STEPS[contestant](which[0], 128)
    if contestant == "ours":
        from qlayer_core import models
        from qlayer_core.study import experiments

        net = models.build(experiments.spec(which[0]))
    else:
        net = plain.build(which[0])
    images, iterations = (
        (torch.rand(512, 1, 28, 28), 1) if kind == "fgsm" else (torch.rand(64, 1, 28, 28), 10)
    )
    return ATTACKS[contestant](net, images, kind, iterations)
