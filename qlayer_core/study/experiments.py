"""Every model of the paper as a frozen `RunSpec`, and every attack on it: the one place that knows the grid."""

from dataclasses import replace

from qlayer_core import datasets
from qlayer_core.specs import PRINTED, Attack, LayerSpec, RunSpec
from qlayer_core.study import paper

SOURCES = {"cnn-a": "source-a", "cnn-b": "source-b"}  # the attackers' models, by their name in the tables
VALIDATION_SOURCE = "validation-a"
TARGETS = ("cnn", "q-base", "q-large")  # the models of Tables 1 and 2, each also adversarially trained
QUANTIZED = ("squeezing", "one-hot", "thermometer", "randomised")  # CNN A behind a quantizer of its input
ON_CNN_B = ("cnn-b", "q-base-b")  # the other architecture, without and with the layer
CONTROL = "cnn-same-training"  # the plain CNN, trained as networks with the layer are
CURVE = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)  # epsilons of the FGSM curves


# Adversarial training departs from the paper's text, under which Q-large collapses: see `study.variants`.
ADVERSARIAL = {"commitment": "none", "inactive": "reinitialize"}


def _grid() -> dict[str, RunSpec]:
    """Return every model of Tables 1 to 11 and those of `QUANTIZED`, raw-trained before adversarially trained."""
    # Plain networks were trained by their framework's own loop, with dropout, L2 and another schedule.
    cnn = RunSpec("cnn", optimizer="adam", decay=0.5, staircase=True, l2=5e-4)
    # The paper is silent on the sources: good classifiers, chosen by clean accuracy, as an attacker would.
    source = replace(cnn, selection="clean", epochs=20)
    raw = [
        cnn,
        # Not in the paper: the layer's networks and its plain CNN differ in how they are trained, too.
        RunSpec(CONTROL, dropout=False),
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
        # Not in the paper: what it sets itself apart from, trained as its plain CNN is.
        *(replace(cnn, name=name, quantizer=name, epochs=20) for name in QUANTIZED),
    ]
    specs = [
        *(replace(source, name=name) for name in (VALIDATION_SOURCE, "source-a")),
        replace(source, name="source-b", architecture="b"),
        replace(cnn, name="cnn-clean-selected", selection="clean"),
        # Not in the paper, which says "any CNN" and shows one.
        *(
            replace(base, name=name, architecture="b")
            for name, base in zip(ON_CNN_B, (cnn, RunSpec("q-base", layer=LayerSpec())), strict=True)
        ),
        *raw,
        *(
            replace(
                spec, name=f"{spec.name}-adv", adversarial=True, **({} if spec.layer is None else ADVERSARIAL)
            )
            for spec in raw
        ),
        *(
            replace(spec, name=f"{spec.name}{PRINTED}-adv", adversarial=True)
            for spec in raw
            if spec.name in ("q-base", "q-large")
        ),
    ]
    return {spec.name: spec for spec in specs}


RUNS = _grid()


def spec(name: str) -> RunSpec:
    """Return the run of that name.

    Raises:
        ValueError: there is no such model; the message lists those that there are.
    """
    if name not in RUNS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(RUNS)}")
    return RUNS[name]


def printed(name: str) -> str | None:
    """Return the run that trains a model by the paper's text, where the grid's departs from it; else None."""
    literal = name.replace("-adv", f"{PRINTED}-adv")
    return literal if literal in RUNS and literal != name else None


# Runs that train by the paper's text, and what they train otherwise.
BY_THE_TEXT = {literal: name for name in RUNS if (literal := printed(name))}


def attacks_on(dataset: str, spec: RunSpec) -> list[Attack]:
    """Return the attacks that are measured on this model, cheap ones first, and FGSM for a curve over epsilon.

    Of a model in a table of the paper they are those that its tables show, and images made on source A by FGSM and,
    where the paper has C&W in a white box, by C&W; of the control, those of the plain CNN; of a model on CNN B, all
    images made on source A; of any other model, everything. White box, FGSM and BIM come twice: with the exact
    gradient, and with that of clipped probabilities, by which the paper's numbers came about. An attack that no
    table of the paper has is measured on every model, but those of `_on_a_quantizer`, which has its own list.
    """
    epsilons = datasets.find(dataset).epsilons
    if spec.quantizer:
        return _on_a_quantizer(epsilons)
    paths = (None,) if spec.layer is None else ("e", "shortcut")
    found = [Attack("clean", "none", 0.0)]
    found += [Attack("black-box", "fgsm", eps, source) for source in SOURCES for eps in CURVE]
    found += [Attack("white-box", "fgsm", eps, None, path) for path in paths for eps in CURVE]
    found += [Attack("white-box", "fgsm-clipped", eps, None, path) for path in paths for eps in epsilons]
    found += [Attack("black-box", "bim", eps, source) for source in SOURCES for eps in epsilons]
    found += [Attack("black-box", "cw", eps, "cnn-a") for eps in epsilons]
    for name in ("cw", "cw-softmax", "bim"):
        found += [Attack("white-box", name, eps, None, path) for path in paths for eps in epsilons]
    found += [Attack("white-box", "bim-clipped", eps, None, path) for path in paths for eps in epsilons]
    cells = [cell for table in paper.TABLES.values() for cell in table.cells]
    kinds = {
        (cell.setting, cell.attack, cell.source, cell.attacked_path)
        for cell in cells
        if (cell.dataset, cell.model) == (dataset, spec.name.replace(CONTROL, "cnn"))
    }
    if spec.name in ON_CNN_B:
        kinds = {("black-box", name, "cnn-a", None) for name in ("fgsm", "bim", "cw")}
    if not kinds:
        return found
    kinds |= {("clean", "none", None, None), ("black-box", "fgsm", "cnn-a", None)}
    if ("white-box", "cw", None, paths[0]) in kinds:
        kinds.add(("black-box", "cw", "cnn-a", None))
    shown = {cell.attack for cell in cells} | {"none"}
    return [
        one
        for one in found
        if (name := one.attack.split("-")[0]) not in shown
        or (one.setting, name, one.source, one.attacked_path) in kinds
    ]


def _on_a_quantizer(epsilons: tuple[float, ...]) -> list[Attack]:
    """Return the attacks on a network behind a quantizer of its input: black box, as it is, and adaptive."""
    found = [Attack("clean", "none", 0.0)]
    found += [Attack("black-box", "fgsm", eps, "cnn-a") for eps in CURVE]
    found += [Attack("white-box", "fgsm", eps, None, path) for path in (None, "adaptive") for eps in epsilons]
    found += [Attack("black-box", "bim", eps, "cnn-a") for eps in epsilons]
    found += [Attack("white-box", "bim", eps, None, path) for path in (None, "adaptive") for eps in epsilons]
    return found
