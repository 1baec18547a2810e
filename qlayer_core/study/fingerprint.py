"""Which code a number was made with: a hash of each stage's modules, without comments, docstrings and refusals.

A stage is what a number depends on, and no more: a new attack, a new model in the grid or a new chapter leaves the
others' fingerprints alone. An attack's options are in none: those of the ladder stand in its cells, those of the
tables in `attacks.REGISTRY`, under names that must change with them. Nor is an attack's epsilon or a run's settings,
which are recorded; the bound of adversarial training and those of its validation images are not, so `datasets` is in
its stage.
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
    "training": (*GRADIENT, "attacks/steps", "data", "datasets", "loop", "training"),
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
TIMED = ("training", "steps", "carlini_wagner")  # what the benchmark runs
# Read once, with the code that runs: what is edited while it runs has made none of its numbers.
SOURCES = {
    module: (PACKAGE / f"{module}.py").read_text() for modules in STAGES.values() for module in modules
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
        digest.update(of_source(SOURCES[module]).encode())
    return digest.hexdigest()[:12]


def of_source(source: str) -> str:
    """Return a hash of what makes numbers: the syntax tree without docstrings and without what only refuses.

    What errors say is left out, and so are a call of `checks` and an ``if`` or a loop that does nothing but raise:
    whoever gets a number was not refused. One whose condition names a value (``:=``) stays, since others may use it.
    """
    return hashlib.sha256(_dump(_Numbers().visit(ast.parse(source))).encode()).hexdigest()


class _Numbers(ast.NodeTransformer):
    """Take from a syntax tree what changes no number."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        return ast.Raise()

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        value = node.value
        text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        check = isinstance(value, ast.Call) and ast.unparse(value.func).startswith("checks.")
        return None if text or check else self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        node.names = [one for one in node.names if one.name != "checks"]
        return node if node.names else None

    def visit_If(self, node: ast.If) -> ast.If | None:
        return self._unless_it_refuses(node)

    def visit_For(self, node: ast.For) -> ast.For | None:
        return self._unless_it_refuses(node)

    def _unless_it_refuses(self, node: ast.If | ast.For) -> ast.If | ast.For | None:
        self.generic_visit(node)
        *before, last = node.body
        ends = isinstance(last, ast.Raise) or (isinstance(last, ast.Pass) and not before)
        kept = (ast.NamedExpr, ast.Return, ast.Break, ast.Continue)
        refuses = ends and not node.orelse and not any(isinstance(part, kept) for part in ast.walk(node))
        return None if refuses else node


def _dump(tree: ast.AST) -> str:
    """Return a syntax tree as text, the same from every Python: as 3.11 writes it."""
    whole = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **whole).replace(", type_params=[]", "")
