"""One unit of work per call: ``python -m qlayer_core runs|train|evaluate|adapt|vary|likelihoods|...``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qlayer_core import datasets, files
from qlayer_core.study import experiments, paper, printing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error that the user can mend is printed in one line, with exit status 1.

    One that was interrupted ends with status 130, as in a shell.
    """
    options = _parser().parse_args(arguments)
    try:
        if not files.DATA.is_dir():  # the package was installed without the repository
            raise ValueError(
                f"There is no {files.DATA}: the command line works in a clone of the repository alone."
            )
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has enough of it, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = options.run in (_train, _evaluate, _adapt, _vary, _trail, _likelihoods)
        kept = kept and getattr(options, "check", None) is None
        more = ": the same command goes on from the last finished epoch or attack" if kept else ""
        print(f"Interrupted{more}.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qlayer_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            run.__name__.strip("_"), help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        added.set_defaults(run=run)
        return added

    def of_a_model(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("dataset", choices=tuple(datasets.DATASETS), help="whose images")
        listed = "one of those that `python -m qlayer_core runs` lists"
        added.add_argument("model", choices=tuple(experiments.RUNS), metavar="model", help=listed)
        seeded(added)
        return added

    def seeded(added: argparse.ArgumentParser) -> None:
        added.add_argument("--seed", type=int, default=0, help="of which training, 0 if left out")

    command(_runs, "list every model of the paper and what is recorded of it")
    one = of_a_model(command(_train, "train one model; continues where an interrupted run stopped"))
    one.add_argument("--until", type=int, help="pause after so many epochs")
    one.add_argument(
        "--again",
        action="store_true",
        help="train anew what was measured, where its weights are gone and no checkpoint is left to continue",
    )
    one = of_a_model(command(_evaluate, "attack one trained model and record its accuracies"))
    one.add_argument(
        "--table", action="append", default=[], choices=tuple(paper.TABLES), help="only its cells"
    )
    one.add_argument(
        "--images",
        type=_at_least(1),
        help="only the first so many test images, where not as many are measured yet",
    )
    one.add_argument(
        "--again",
        action="store_true",
        help="measure anew what other code, another machine or other threads measured",
    )
    one.add_argument(
        "--check",
        type=_at_least(1),
        metavar="N",
        help="attack the first N test images anew and compare with the recorded answers; writes nothing",
    )
    one = of_a_model(
        command(_adapt, "attack one trained model with all that an attacker who knows it would try")
    )
    one.add_argument(
        "--images", type=_at_least(1), help="how many of the first test images, unless more are recorded"
    )
    one.add_argument(
        "--again",
        action="store_true",
        help="climb anew what other code, another machine or other threads climbed",
    )
    of_a_model(command(_release, "copy a trained model's weights to data/weights, for chapters to load"))
    one = of_a_model(command(_vary, "train a variant of a model, scored on validation images"))
    one.add_argument(
        "variant", help="its name; a wrong one, such as list, is answered with all that the model has"
    )
    one.add_argument("--until", type=int, help="pause after so many epochs")
    one.add_argument(
        "--again",
        action="store_true",
        help="train anew, where no checkpoint is left or it is of other code, another raw network or unknown origin",
    )
    one = of_a_model(
        command(_trail, "train a model once more, and attack it after every epoch on validation images")
    )
    one.add_argument("--until", type=int, help="pause after so many epochs")
    one.add_argument(
        "--again",
        action="store_true",
        help="begin anew, where the checkpoint is of something else or none is left",
    )
    one = command(_likelihoods, "train a PixelCNN over pixels or a network's codes, and score images with it")
    one.add_argument("dataset", choices=tuple(datasets.DATASETS), help="whose images")
    one.add_argument("model", help="pixels, or a model with the layer")
    seeded(one)
    one.add_argument("--until", type=int, help="pause after so many epochs, and score with what is learned")
    one.add_argument("--images", type=_at_least(0), help="score the first so many test images; 0: none")
    one.add_argument("--again", action="store_true", help="begin anew, where its network was trained anew")
    one = command(_table, "print one of the paper's tables beside ours")
    one.add_argument("number", choices=tuple(paper.TABLES), help="of the paper's table")
    one.add_argument(
        "--seed",
        type=_seed_or_all,
        default=0,
        help="a number (0 if left out) or all: mean and range over seeds, and which of them validation images prefer",
    )
    command(_claims, "print every claim of the paper with its verdict, from what is recorded")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value} is given; it must be at least {least}")
        return value

    return number


def _seed_or_all(text: str) -> int | None:
    """Return a seed, or None for all."""
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is given; it must be a whole number, or all") from None


def _runs(options: argparse.Namespace) -> None:
    starred = False
    for dataset in datasets.DATASETS:
        for name in experiments.RUNS:
            found = sorted((files.RESULTS / dataset / name).glob("seed*.json"))
            words = [path.stem + "*" * _weights_are_here(path) for path in found]
            starred |= any(word.endswith("*") for word in words)
            print(f"{dataset:14}{name:24}{', '.join(words) or '-'}")
    if starred:
        print("* its weights are here, so that it can be attacked; the others must be trained again first")


def _weights_are_here(record: Path) -> bool:
    """Return whether the weights that a record is of are released, or under runs/."""
    dataset, name = record.parts[-3:-1]
    if not (found := files.read_json(record).get("weights_sha256")):  # `study.records` would bring torch
        raise ValueError(f"{record} is damaged (it names no weights): restore it from the repository")
    places = (
        files.WEIGHTS / dataset / f"{name}.safetensors",
        files.RUNS / dataset / name / record.stem / "weights.safetensors",
    )
    return any(place.exists() and files.sha256(place) == found for place in places)


def _train(options: argparse.Namespace) -> None:
    units, records = _study()
    unit = records.unit(options.dataset, options.model, options.seed)
    progress = sys.stderr.isatty()
    show = _Counting(printing.epoch)
    record = units.train(unit, until=options.until, again=options.again, report=show, progress=progress)
    show.nothing(_no_epoch(options, len(record["history"]), records.finished(record)))


def _evaluate(options: argparse.Namespace) -> None:
    if options.check is not None and (options.images is not None or options.again):
        images = [] if options.images is None else [f"--images {options.images}"]
        given = " and ".join([*images, *(["--again"] if options.again else [])])
        raise ValueError(
            f"--check {options.check} is given with {given}, but it attacks the first {options.check} images anew and"
            " records nothing: leave out one or the other"
        )
    units, records = _study()
    unit = records.unit(options.dataset, options.model, options.seed)
    if options.check is not None:
        from qlayer_core.study import rechecking

        differ, every = rechecking.against_records(
            unit, options.table, limit=options.check, report=printing.difference, progress=True
        )
        print(f"In all {differ:,} of {every:,} answers differ from the recorded ones.")
        return
    show = _Counting(printing.accuracy)
    units.evaluate(unit, options.table, limit=options.images, again=options.again, report=show, progress=True)
    fewer = "cells of more images are recorded, and fewer never replace them; --check N compares the first N"
    again = "--again measures anew what other code, another machine or other threads measured"
    anew = f"{again}; --check N compares the first N"
    show.nothing(f"nothing is left to measure of {_which(options)}; {fewer if options.images else anew}")


def _adapt(options: argparse.Namespace) -> None:
    from qlayer_core.study import adaptive

    _, records = _study()
    unit = records.unit(options.dataset, options.model, options.seed)
    images = adaptive.IMAGES if options.images is None else options.images
    show = _Counting(printing.rung)
    record = adaptive.run(unit, images=images, again=options.again, report=show, progress=True)
    fewer = (
        f"{record['n']:,} images are recorded of {_which(options)}, and fewer never replace them;"
        f" --images {record['n']} climbs what is left"
    )
    whole = (
        f"no rung is left to climb for {_which(options)}; --again climbs anew what other code, another machine or"
        " other threads climbed"
    )
    show.nothing(fewer if record["n"] > images else whole)


def _likelihoods(options: argparse.Namespace) -> None:
    from qlayer_core.study import likelihoods

    _study()
    one = likelihoods.Unit(options.dataset, options.model, options.seed)
    show = _Counting(print)
    record = likelihoods.train(one, until=options.until, again=options.again, report=show, progress=True)
    scored = ""
    if options.images != 0:
        record = likelihoods.measure(one, limit=options.images, report=show, progress=True)
        if one.seed == 0 and record["finished"] and one.weights != one.released:
            likelihoods.release(one)
        scored = "no set of images is left to score, and "
    show.nothing(scored + _no_epoch(options, len(record["history"]), record["finished"]))


def _claims(options: argparse.Namespace) -> None:
    from qlayer_core.study import claims

    print(claims.report())


def _release(options: argparse.Namespace) -> None:
    units, records = _study()
    units.release(records.unit(options.dataset, options.model, options.seed))


def _vary(options: argparse.Namespace) -> None:
    from qlayer_core.study import variants

    units, records = _study()
    unit = variants.unit(options.dataset, options.model, options.variant, options.seed)
    show = _Counting(printing.epoch)
    record = units.train(
        unit,
        start=variants.start(unit),
        until=options.until,
        again=options.again,
        report=show,
        progress=sys.stderr.isatty(),
    )
    show.nothing(_no_epoch(options, len(record["history"]), records.finished(record)))


def _trail(options: argparse.Namespace) -> None:
    from qlayer_core.study import trails

    _, records = _study()
    unit = records.unit(options.dataset, options.model, options.seed)
    show, progress = _Counting(printing.trail), sys.stderr.isatty()
    record = trails.measure(unit, until=options.until, again=options.again, report=show, progress=progress)
    show.nothing(_no_epoch(options, len(record["rows"]), record["finished"]))


def _table(options: argparse.Namespace) -> None:
    from qlayer_core.study import tables

    print(tables.report(options.number, options.seed))


class _Counting:
    """Print what is reported, and say so if nothing was."""

    def __init__(self, printed: Callable[[dict], None]):
        self.printed, self.count = printed, 0

    def __call__(self, row: dict) -> None:
        self.count += 1
        self.printed(row)

    def nothing(self, why: str) -> None:
        if not self.count:
            print(f"Done before: {why}.", file=sys.stderr)


def _which(options: argparse.Namespace) -> str:
    variant = f" {options.variant}" if "variant" in options else ""
    return f"{options.model}{variant} on {options.dataset}, seed {options.seed}"


def _no_epoch(options: argparse.Namespace, trained: int, over: bool) -> str:
    """Return why no epoch was trained."""
    if over:
        return f"no epoch is left to train of {_which(options)}"
    until = f"{options.until} epoch{'s' if options.until > 1 else ''} or more"
    return f"{until} are trained already of {_which(options)}, {trained} in all; without --until it goes on"


def _study():
    """Return the modules that work; listing the grid needs none of them, and no torch."""
    from qlayer_core import fast
    from qlayer_core.study import records, units

    fast.keep_memory()
    return units, records


if __name__ == "__main__":
    sys.exit(main())
