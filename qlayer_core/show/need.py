"""Let a chapter skip the cells whose networks are not recorded."""

import html

from IPython import get_ipython
from IPython.display import display

from qlayer_core import files
from qlayer_core.show import ladder
from qlayer_core.show.page import note
from qlayer_core.study import likelihoods, records, variants


def need(*names: str, dataset: str = "mnist") -> None:
    """Check that these models' weights and records are there, for the cells that follow.

    A name such as ``"q-large/losses-x-10"`` asks for the record of a variant, which has no released weights, and
    ``"q-large/ladder"`` for a complete evaluation by adaptive attacks. Where one is missing, say so and how to get
    it, and skip the following cells up to the next call of this function: a chapter then shows what it can, and no
    empty figure. Nothing is loaded: the files must be there, and the weights must be those that were measured.

    Raises:
        ValueError: weights are not those of the record.
        FileNotFoundError: outside a notebook, where nothing can be skipped, something is missing.
    """
    missing = [reason for name in names if (reason := _missing(dataset, name))]
    shell = get_ipython()
    if shell is None:
        if missing:
            raise FileNotFoundError("\n".join(missing))
        return
    filters = shell.input_transformers_cleanup
    filters[:] = [one for one in filters if one is not _skip]
    if missing:
        filters.append(_skip)
        text = "".join(f"<p>{html.escape(message)}</p>" for message in missing)
        display(note("Not trained yet, so the cells below are skipped", text, "warning"))


def _missing(dataset: str, name: str) -> str | None:
    """Return what is missing of a model, with the command that makes it; None if nothing is."""
    model, _, variant = name.partition("/")
    if variant == "ladder":
        how = f"python -m qlayer_core adapt {dataset} {model}"
        if model in ladder.recorded(dataset, others=True):
            return None
        return f"There is no complete ladder of attacks on {model} on {dataset}. Make it with: {how}"
    if model == "pixelcnn":
        return _unscored(likelihoods.Unit(dataset, variant))
    if variant:
        unit = variants.unit(dataset, model, variant)
        return None if unit.record.exists() else f"There is no record of {name}. Make it with: {unit.how()}"
    unit = records.unit(dataset, name)
    if not unit.record.exists() or not unit.weights.exists():
        return f"There are no weights and results of {name} on {dataset}. Make them with: {unit.how()}"
    if files.sha256(unit.weights) != records.read_unit(unit)["weights_sha256"]:
        raise ValueError(
            f"{unit.weights} is not the file that the recorded results were measured with: restore both from the"
            f" repository, or start again with: {unit.how()}"
        )
    return None


def _skip(lines: list[str]) -> list[str]:
    """Empty a cell, unless it asks again whether what it needs is there."""
    return lines if any(line.lstrip().startswith("need(") for line in lines) else []


def _unscored(unit: likelihoods.Unit) -> str | None:
    """Return what a unit lacks of a scored and released PixelCNN, with the command that makes it; None if nothing."""
    if unit.record.exists() and unit.weights.exists():
        record = likelihoods.read(unit)
        if set(likelihoods.set_names(unit)) <= record["sets"].keys() and "samples" in record:
            return None
    return f"{unit.name} on {unit.dataset} has no PixelCNN that was scored. Make it with: {unit.how()}"
