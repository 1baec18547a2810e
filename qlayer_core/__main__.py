"""One unit of work a call: ``python -m qlayer_core runs|train|evaluate|table ...``."""

import argparse
import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence

from safetensors.torch import load_file, save_file
from torch import Tensor

from qlayer_core import (
    data,
    evaluation,
    experiments,
    files,
    machine,
    models,
    paper,
    results,
    settings,
    training,
)
from qlayer_core.paths import RUNS, WEIGHTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error that the user can mend is printed in one line, with exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m qlayer_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("runs", help="list every model of the paper and what is recorded of it")
    for name, text in (
        ("train", "train one model; continues where an interrupted run stopped"),
        ("evaluate", "attack one trained model and record its accuracies"),
        ("release", "copy a trained model's weights to data/weights, for chapters to load"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("dataset", choices=data.DATASETS)
        command.add_argument("model", choices=tuple(experiments.RUNS), metavar="model")
        command.add_argument("--seed", type=int, default=0)
        if name == "evaluate":
            command.add_argument(
                "--table", action="append", choices=tuple(paper.TABLES), help="only its cells"
            )
            command.add_argument(
                "--again",
                action="store_true",
                help="measure anew what other code or another machine measured",
            )
    command = commands.add_parser("table", help="print one of the paper's tables beside ours")
    command.add_argument("number", choices=tuple(paper.TABLES))
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser(
        "compare", help="train a variant of a model briefly, scored on validation images"
    )
    command.add_argument("dataset", choices=data.DATASETS)
    command.add_argument("model", choices=tuple(settings.COMPARED))
    command.add_argument("change", choices=tuple(settings.CHANGES))
    command.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _runs(options: argparse.Namespace) -> None:
    for dataset in data.DATASETS:
        for name in experiments.RUNS:
            seeds = sorted(path.stem for path in results.record_path(dataset, name).parent.glob("seed*.json"))
            print(f"{dataset:14}{name:24}{', '.join(seeds) or '-'}")


def _train(options: argparse.Namespace) -> None:
    dataset, name, seed = options.dataset, options.model, options.seed
    spec, device = experiments.run(name), machine.device()
    if spec.adversarial:
        model, _ = results.load(dataset, experiments.raw_name(spec), seed)
    else:
        model = models.build(name, seed)
    source = None
    if spec.selection == "mixed":
        # Every seed is judged by the same validation images.
        source = results.load(dataset, experiments.VALIDATION_SOURCE)[0].to(device)
    folder = results.run_folder(dataset, name, seed)
    state = training.train(
        spec,
        model.to(device),
        data.load(dataset, "train").to(device),
        training.validation_sets(dataset, source, device=device),
        seed=experiments.seed_of(name, seed),
        adversarial_eps=experiments.ADVERSARIAL_TRAINING_EPS[dataset],
        checkpoint=folder / "checkpoint.pt",
        report=_print_row,
    )
    weights = folder / "weights.safetensors"
    results.save_weights(model, weights)
    record = results.new_record(dataset, spec, seed, device)
    record["history"], record["chosen"] = state.history, state.best
    record["seconds"]["training"] = round(state.seconds, 1)
    record["weights_sha256"] = results.sha256(weights)
    if results.record_path(dataset, name, seed).exists():
        before = results.read(dataset, name, seed)
        if before["weights_sha256"] == record["weights_sha256"]:  # what was measured is of these weights
            if before["history"] == record["history"]:
                return
            record["cells"], record["environments"] = before["cells"], before["environments"]
            record["seconds"] = before["seconds"] | record["seconds"]
    results.write(record)


def _evaluate(options: argparse.Namespace) -> None:
    dataset, name, seed = options.dataset, options.model, options.seed
    device = machine.device()
    model, record = results.load(dataset, name, seed)
    model, (images, labels) = model.to(device), data.load(dataset, "test").to(device)
    if (here := results.environment(device)) not in record["environments"]:
        record["environments"].append(here)
    environment = record["environments"].index(here)
    for attack in _left_to_measure(record, options.table, environment if options.again else None):
        started = time.perf_counter()
        if attack.setting == "black-box":
            made = _black_box(dataset, attack, images)
        else:
            made = evaluation.adversarial(model, images, attack)
        cells = [
            cell | {"environment": environment} for cell in evaluation.cells(model, made, labels, attack)
        ]
        before = [cell for cell in record["cells"] if _attack_of(cell) != attack]
        record["cells"] = before + cells
        record["seconds"][str(attack)] = round(time.perf_counter() - started, 1)
        results.write(record)
        print(attack, *(f"{cell['path'] or ''} {cell['accuracy']:.2f}" for cell in cells), flush=True)


def _left_to_measure(
    record: dict, tables: list[str] | None, environment: int | None = None
) -> list[experiments.Attack]:
    """Return the attacks without a recorded cell, or without one of that environment where one is given.

    All of them, or only those that the named tables show.
    """
    spec = experiments.run(record["model"])
    done = {
        _attack_of(cell)
        for cell in record["cells"]
        if environment is None or cell["environment"] == environment
    }
    shown = {
        _attack_of(dataclasses.asdict(cell))
        for number in tables or ()
        for cell in paper.TABLES[number].cells
        if (cell.dataset, cell.model) == (record["dataset"], spec.name)
    }
    left = []
    for attack in experiments.attacks_on(record["dataset"], spec):
        in_paper = dataclasses.replace(attack, attack="cw") if attack.attack == "cw-softmax" else attack
        if attack not in done and (not tables or in_paper in shown):
            left.append(attack)
    return left


def _attack_of(cell: dict) -> experiments.Attack:
    """Return the attack that a recorded cell, or one of the paper's, is about."""
    return experiments.Attack(
        **{field.name: cell[field.name] for field in dataclasses.fields(experiments.Attack)}
    )


def _black_box(dataset: str, attack: experiments.Attack, images: Tensor) -> Tensor:
    """Return the images that the attacker's model makes of the test images, kept under runs/ for the next target.

    Their file's name says of which weights they are made, with which code and in which number format.
    """
    source, record = results.load(dataset, experiments.SOURCES[attack.source])
    here = results.environment(images.device)
    code = "".join(here["code"][name][:4] for name in ("attacks", "evaluation", "machine", "models"))
    made_with = f"{record['weights_sha256'][:12]} {code} {here['number_format']}"
    path = RUNS / dataset / "black-box" / f"{attack} {made_with}.safetensors"
    if not path.exists():
        made = {"images": evaluation.adversarial(source.to(images.device), images, attack)}
        files.write_atomically(path, lambda temporary: save_file(made, temporary))
    return load_file(path)["images"].to(images.device)


def _release(options: argparse.Namespace) -> None:
    """Copy weights where chapters find them; only seed 0, since released weights have no seed in their name."""
    if options.seed != 0:
        raise ValueError(f"seed is {options.seed}; only seed 0 is released")
    source = results.run_folder(options.dataset, options.model) / "weights.safetensors"
    if not source.exists():
        raise FileNotFoundError(f"{source} is missing: train the model first")
    target = WEIGHTS / options.dataset / f"{options.model}.safetensors"
    files.write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def _table(options: argparse.Namespace) -> None:
    frame = results.table(options.number, options.seed)
    for value in ("paper", "ours", "difference"):
        print(f"\n{value}: {paper.TABLES[options.number].caption}")
        wide = frame.pivot(index="row", columns="column", values=value)
        print(wide.loc[frame.row.unique(), frame.column.unique()].to_string(na_rep="-"))


def _print_row(row: dict) -> None:
    accuracy = "  ".join(
        f"{path} " + " ".join(f"{value:.2f}" for value in sets.values())
        for path, sets in row["accuracy"].items()
    )
    losses = " ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
    print(
        f"epoch {row['epoch']:g}  score {row['score']:.2f}  {accuracy}  losses {losses}  {row.get('inactive', '')}",
        flush=True,
    )


def _compare(options: argparse.Namespace) -> None:
    row = settings.compare(options.dataset, options.model, options.change, options.seed)
    print(options.change, row["chosen"]["accuracy"], row["bim"])


COMMANDS = {
    "compare": _compare,
    "runs": _runs,
    "train": _train,
    "evaluate": _evaluate,
    "release": _release,
    "table": _table,
}


if __name__ == "__main__":
    sys.exit(main())
