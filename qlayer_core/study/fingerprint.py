"""Which code a number was made with: a hash of each stage's modules, without comments, docstrings and error texts.

A stage is what a number depends on, and no more: a new attack, a new model in the grid or a new chapter leaves the
others' fingerprints alone. An attack's options are in none: those of the ladder stand in its cells, those of the
tables in `attacks.REGISTRY`, under names that must change with them.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

from qlayer_core.specs import RunSpec

PACKAGE = Path(__file__).parent.parent
NETWORK = ("layer", "models", "fast", "machine")
GRADIENT = (*NETWORK, "attacks/contract", "attacks/losses")
STAGES = {
    "training": (*GRADIENT, "attacks/steps", "data", "loop", "training"),
    "scoring": (*NETWORK, "data", "evaluation"),
    "steps": (*GRADIENT, "attacks/steps"),
    "carlini_wagner": (*GRADIENT, "attacks/carlini_wagner"),
    "apgd": (*GRADIENT, "attacks/apgd"),
    "targeted": (*GRADIENT, "attacks/apgd", "attacks/targeted"),
    "square": (*GRADIENT, "attacks/square"),
    "surrogates": (*NETWORK, "attacks/surrogates"),
    "averaging": ("attacks/averaging",),
    "rungs": ("study/making",),
    "quantizers": (*NETWORK, "quantizers", "baselines"),
    "pixelcnn": (*NETWORK, "data", "loop", "pixelcnn"),
}
ATTACK_STAGES = {  # by the name's first word
    "fgsm": "steps",
    "bim": "steps",
    "pgd": "steps",
    "apgd": "apgd",
    "targeted": "targeted",
    "square": "square",
    "cw": "carlini_wagner",
}
WITHOUT = ("none", "noise", "ls")  # clean images and noise; LS-PGA is among the quantizers


def stage_of(attack: str) -> str | None:
    """Return the stage that makes an attack's images, by its recorded name; None where they depend on none.

    The name's first word says which: ``"bim-clipped"`` is made as ``"bim"`` is.

    Raises:
        ValueError: the attack has no stage yet, so that its records would not tell when its code has changed.
    """
    name = attack.split("-")[0]
    if name not in (*ATTACK_STAGES, *WITHOUT):
        raise ValueError(
            f"the attack {attack!r} has no stage: add one to STAGES in study/fingerprint.py, with the modules that"
            f" its images depend on, and {name!r} to ATTACK_STAGES"
        )
    return ATTACK_STAGES.get(name)


def stages(spec: RunSpec | None, *made: str) -> tuple[str, ...]:
    """Return the stages that a score of a run's network depends on, and those by which the images were ``made``."""
    return ("scoring", *made, *(["quantizers"] if spec and spec.quantizer else []))


@cache
def of(stage: str) -> str:
    """Return the fingerprint of a stage, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for module in STAGES[stage]:
        digest.update(of_source((PACKAGE / f"{module}.py").read_text()).encode())
    return digest.hexdigest()[:12]


def of_source(source: str) -> str:
    """Return a hash of what makes numbers: the syntax tree without docstrings, and without what errors say."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise):
            node.exc = node.cause = None
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(tree: ast.AST) -> str:
    """Return a syntax tree as text, the same from every Python: as 3.11 writes it."""
    whole = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **whole).replace(", type_params=[]", "")
