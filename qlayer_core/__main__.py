"""One unit of work a call: ``python -m qlayer_core runs|train|evaluate|table ...``."""

import argparse
import sys
import time
from collections.abc import Sequence

from qlayer_core import data, experiments, models, paper, results, training


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
    command = commands.add_parser("table", help="print one of the paper's tables beside ours")
    command.add_argument("number", choices=tuple(paper.TABLES))
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
    spec = experiments.run(name)
    model = models.build(name, seed)
    if spec.adversarial:
        results.load_weights(model, _finished_weights(dataset, experiments.raw_name(spec), seed))
    source = None
    if name != experiments.VALIDATION_SOURCE:
        # Every seed is judged by the same validation images.
        source = models.build(experiments.VALIDATION_SOURCE)
        results.load_weights(source, _finished_weights(dataset, experiments.VALIDATION_SOURCE, 0))
    folder = results.run_folder(dataset, name, seed)
    state = training.train(
        spec,
        model,
        data.load(dataset, "train"),
        training.validation_sets(dataset, source),
        seed=experiments.seed_of(name, seed),
        adversarial_eps=experiments.ADVERSARIAL_TRAINING_EPS[dataset],
        checkpoint=folder / "checkpoint.pt",
        report=_print_row,
    )
    weights = folder / "weights.safetensors"
    results.save_weights(model, weights)
    record = results.new_record(dataset, spec, seed)
    record["history"], record["chosen"] = state.history, state.best
    record["seconds"]["training"] = round(state.seconds, 1)
    record["weights_sha256"] = results.sha256(weights)
    results.write(record)


def _evaluate(options: argparse.Namespace) -> None:
    dataset, name, seed = options.dataset, options.model, options.seed
    record = results.read(dataset, name, seed)
    for cell in evaluation.missing_cells(dataset, experiments.run(name), record["cells"]):
        model, _ = results.load(dataset, name, seed)
        started = time.perf_counter()
        record["cells"] += evaluation.measure(dataset, model, cell, _sources(dataset))
        record["seconds"][str(cell)] = round(time.perf_counter() - started, 1)
        results.write(record)
        for done in record["cells"][-2:]:
            print(f"{cell}  path {done['path']}: {done['accuracy']:.2f}", flush=True)


def _finished_weights(dataset: str, name: str, seed: int):
    path = results.weights_path(dataset, name, seed)
    if not path.exists():
        raise FileNotFoundError(f"this needs the trained {name}: python -m qlayer_core train {dataset} {name} --seed {seed}")
    return path


def _print_row(row: dict) -> None:
    accuracy = "  ".join(
        f"{path} " + " ".join(f"{value:.2f}" for value in sets.values()) for path, sets in row["accuracy"].items()
    )
    losses = " ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
    print(f"epoch {row['epoch']:g}  score {row['score']:.2f}  {accuracy}  losses {losses}  {row.get('inactive', '')}", flush=True)


COMMANDS = {"runs": _runs, "train": _train}


if __name__ == "__main__":
    sys.exit(main())
