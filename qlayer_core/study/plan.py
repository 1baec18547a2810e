"""The paper's grid as jobs: what is left of it, what each job waits for, how long it takes, and running one.

Whether a job is done is read from its record, never from the time of a file: in a fresh clone, where all files are of
the same minute, what was recorded counts. `workflow/Snakefile` gives the jobs that are left to Snakemake, which
starts them in order, on the cores of this machine or on a cluster.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from qlayer_core import checks, data, datasets, files
from qlayer_core.study import experiments, likelihoods, paper, records, units

STAGES = ("train", "evaluate", "likelihoods")
SMOKE = "smoke"
EVALUATED = {(cell.dataset, cell.model) for table in paper.TABLES.values() for cell in table.cells}


@dataclass(frozen=True)
class Job:
    """One piece of work: a stage of a network, or the PixelCNN over its codes (over "pixels" without one)."""

    stage: str
    dataset: str
    model: str
    seed: int = 0

    def __str__(self) -> str:
        """Return for example ``train mnist q-base seed 0``."""
        return f"{self.stage} {self.dataset} {self.model} seed {self.seed}"

    @property
    def marker(self) -> str:
        """The file that tells Snakemake that the job ended well, relative to the root.

        It is not the record itself: Snakemake deletes what a job was to write when the job fails.
        """
        return f"runs/workflow/{self.dataset}/{self.model}/seed{self.seed}.{self.stage}"


@dataclass(frozen=True)
class Plan:
    """Which part of the grid is wanted.

    Args:
        seeds: of every network.
        only: parts of it: ``"table:8a"``, ``"figure:2"``, ``"cnn"``, ``"mnist/cnn"``, ``"smoke"``; all if empty.
        smoke: a trial: ``{"dataset", "model", "spec": changes of its RunSpec, "images", "tables"}``.
    """

    seeds: tuple[int, ...] = (0,)
    only: tuple[str, ...] = ()
    smoke: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        names = {name for _, name in EVALUATED} | set(experiments.RUNS)
        known = [f"table:{number}" for number in paper.TABLES] + ["figure:2", SMOKE, *names]
        known += [f"{dataset}/{name}" for dataset in datasets.DATASETS for name in names]
        for part in self.only:
            if part not in known:
                raise ValueError(
                    f"only is {part!r}; give table:1a to table:11, figure:2, smoke, or a model such as cnn or"
                    " mnist/cnn"
                )

    @classmethod
    def of(cls, config: Mapping) -> "Plan":
        """Return the plan of a configuration: lists, or words with commas as the command line gives them."""

        def words(value: object) -> list[str]:
            given = (
                value if isinstance(value, list | tuple) else str("" if value is None else value).split(",")
            )
            return [str(word).strip() for word in given if str(word).strip()]

        seeds = tuple(int(seed) for seed in words(config.get("seeds", 0)))
        return cls(seeds or (0,), tuple(words(config.get("only"))), config.get("smoke") or {})

    # ---- What is wanted ----

    def targets(self) -> list[Job]:
        """Return the jobs whose results are wanted, not those that they wait for."""
        wanted = []
        for seed in self.seeds:
            for name in experiments.RUNS:  # networks that others start from come first
                for dataset in datasets.DATASETS:
                    if (dataset, name) in EVALUATED and self._tables_of(dataset, name) is not None:
                        wanted.append(Job("evaluate", dataset, name, seed))
                    elif self.only and {name, f"{dataset}/{name}"} & set(self.only):
                        wanted.append(Job("train", dataset, name, seed))
        if not self.only or "figure:2" in self.only:
            wanted += [
                Job("likelihoods", "mnist", name, seed)
                for name in likelihoods.SUBJECTS
                for seed in self.seeds
                if seed == 0
                or name != likelihoods.PIXELS  # pixels belong to no network: one model of them will do
            ]
        if SMOKE in self.only:
            wanted.append(Job("evaluate", self.smoke["dataset"], SMOKE, 0))
        return wanted

    def _tables_of(self, dataset: str, name: str) -> tuple[str, ...] | None:
        """Return the tables whose cells are wanted of a network; () for all of its cells, None for none."""
        if not self.only or {name, f"{dataset}/{name}"} & set(self.only):
            return ()
        asked = [part.removeprefix("table:") for part in self.only if part.startswith("table:")]
        tables = tuple(
            number
            for number in asked
            if any((cell.dataset, cell.model) == (dataset, name) for cell in paper.TABLES[number].cells)
        )
        return tables or None

    def tables(self, job: Job) -> tuple[str, ...]:
        """Return the tables whose cells an evaluation measures; () for all."""
        return (
            tuple(self.smoke["tables"])
            if job.model == SMOKE
            else self._tables_of(job.dataset, job.model) or ()
        )

    def unit(self, job: Job) -> records.Unit:
        """Return the network that a job is about."""
        if job.model != SMOKE:
            return records.unit(job.dataset, job.model, job.seed)
        spec = dataclasses.replace(experiments.spec(self.smoke["model"]), **self.smoke["spec"])
        return records.Unit(job.dataset, spec, job.seed, SMOKE)

    def images(self, job: Job) -> int:
        """Return how many test images the cells of a job must be of."""
        return self.smoke["images"] if job.model == SMOKE else data.TEST_IMAGES

    # ---- What is left ----

    def needs(self, job: Job) -> list[Job]:
        """Return the jobs that must be done before this one."""
        sources = [Job("train", job.dataset, name) for name in experiments.SOURCES.values()]
        if job.stage == "likelihoods":
            own = [] if job.model == likelihoods.PIXELS else [Job("train", job.dataset, job.model, job.seed)]
            return [sources[0], *own]
        spec = self.unit(job).spec
        if job.stage == "evaluate":
            own = Job("train", job.dataset, job.model, job.seed)
            attacks = units.left_to_measure({"cells": []}, self.unit(job), self.tables(job))
            return [own, *(sources if any(attack.source for attack in attacks) else [])]
        raw = [Job("train", job.dataset, spec.raw_name, job.seed)] if spec.adversarial else []
        judge = (
            [Job("train", job.dataset, experiments.VALIDATION_SOURCE)] if spec.selection == "mixed" else []
        )
        return [*judge, *raw]

    def done(self, job: Job) -> bool:
        """Return whether the record says that a job is done, with the settings of today."""
        if job.stage == "likelihoods":
            return _scored(likelihoods.Unit(job.dataset, job.model, job.seed))
        unit = self.unit(job)
        record = _tried(records.read_unit, unit)
        if record is None or record["spec"] != dataclasses.asdict(unit.spec):
            return False
        if not record["history"] or not records.finished(record):
            return False
        if job.stage == "evaluate":
            return not units.left_to_measure(record, unit, self.tables(job), images=self.images(job))
        return unit.weights.exists() and files.sha256(unit.weights) == record["weights_sha256"]

    def left(self) -> dict[Job, list[Job]]:
        """Return the jobs that are not done, those that others wait for first, each with what it waits for."""
        found: dict[Job, list[Job]] = {}
        open_ones = [job for job in self.targets() if not self.done(job)]

        def add(job: Job) -> None:
            if job in found:
                return
            waits = [other for other in self.needs(job) if not self.done(other)]
            for other in waits:
                add(other)
            found[job] = waits
            # Training anew gives other weights, of which nothing is measured yet.
            again = dataclasses.replace(job, stage="evaluate")
            if job.stage == "train" and (job.dataset, job.model) in EVALUATED and self.done(again):
                add(again)

        for job in open_ones:
            add(job)
        return found

    def run(self, job: Job, progress: bool = False) -> None:
        """Do a job, from wherever it stands."""
        if job.stage == "likelihoods":
            one = likelihoods.Unit(job.dataset, job.model, job.seed)
            likelihoods.train(one, progress=progress)
            likelihoods.measure(one, progress=progress)
            return
        limit = self.images(job) if job.model == SMOKE else None
        if job.stage == "train":
            units.train(self.unit(job), limit=limit, progress=progress)
        else:
            units.evaluate(self.unit(job), self.tables(job), limit=limit, progress=progress)


def _scored(unit: likelihoods.Unit) -> bool:
    record = _tried(likelihoods.read, unit)
    return (
        record is not None
        and record["finished"]
        and record["settings"] == dataclasses.asdict(unit.settings)
        and all(
            record["sets"].get(name, {}).get("n", 0) >= data.TEST_IMAGES
            for name in likelihoods.set_names(unit)
        )
    )


def _tried(read: Callable[[object], dict], what: object) -> dict | None:
    """Return what ``read`` finds; None if nothing is there, or a file of another format, or none that is whole."""
    try:
        return read(what)
    except (FileNotFoundError, ValueError):
        return None


# ---- How long it takes ----


def seconds(plan: Plan, jobs: Iterable[Job]) -> dict[Job, float | None]:
    """Return how long jobs will take in seconds, by what is recorded of the same stage and attacks, None if not.

    The same model's times count first, then those of models of its kind, then any.
    """
    times: dict[tuple, list[float]] = {}
    for path in files.RESULTS.glob("*/*/seed*.json"):
        if record := _tried(records.read_file, path):
            kind = (record["spec"]["layer"] is not None, record["spec"]["adversarial"])
            shares = {str(units.attack_of(cell)): data.TEST_IMAGES / cell["n"] for cell in record["cells"]}
            for what, value in record["seconds"].items():
                value *= shares.get(what, 1)
                for key in (record["model"], kind, None):
                    times.setdefault((key, what), []).append(value)
    for dataset in datasets.DATASETS:
        for name in likelihoods.SUBJECTS:
            if record := _tried(likelihoods.read, likelihoods.Unit(dataset, name)):
                times.setdefault((name, "likelihoods"), []).append(sum(record["seconds"].values()))

    def typical(job: Job, what: str) -> float | None:
        unit = None if job.stage == "likelihoods" else plan.unit(job)
        kind = unit and (unit.spec.layer is not None, unit.spec.adversarial)
        for key in (job.model, kind, None):
            if (key, what) in times:
                return median(times[key, what])
        return None

    def total(job: Job) -> float | None:
        if job.stage != "evaluate":
            return typical(job, "training" if job.stage == "train" else "likelihoods")
        record = _tried(records.read_unit, plan.unit(job)) or {"cells": []}
        attacks = units.left_to_measure(record, plan.unit(job), plan.tables(job))
        parts = [typical(job, str(attack)) for attack in attacks]
        known = [part for part in parts if part is not None]
        return sum(known) * len(parts) / len(known) if known else None

    return {job: total(job) for job in jobs}


def outlook(estimates: Mapping[Job, float | None], at_a_time: int, pace: float = 1.0) -> str:
    """Return one line on how much is left.

    Args:
        estimates: seconds of each job that is left.
        at_a_time: how many run side by side.
        pace: how much longer jobs take here than the estimates say.
    """
    if not estimates:
        return "Nothing is left to do: everything that was asked for is recorded."
    known = [value for value in estimates.values() if value is not None]
    stages = Counter(job.stage for job in estimates)
    what = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    line = f"{len(estimates)} {'job is' if len(estimates) == 1 else 'jobs are'} left ({what})"
    if not known:
        return f"{line}; how long they take is not known, since no time of their kind is recorded"
    hours = sum(known) / len(known) * len(estimates) * pace / at_a_time / 3600
    return f"{line}: about {hours:.1f} hours with {at_a_time} at a time, by recorded times"


def start(plan: Plan, jobs: Iterable[Job], at_a_time: int, root: Path = files.ROOT) -> None:
    """Forget the markers of jobs that are left, and note how long they should take, for `finish`."""
    for job in jobs:
        (root / job.marker).unlink(missing_ok=True)
    estimates = seconds(plan, jobs)
    rows = [dataclasses.asdict(job) | {"seconds": estimate} for job, estimate in estimates.items()]
    content = json.dumps({"at_a_time": at_a_time, "jobs": rows})
    files.write_atomically(_started(root), lambda temporary: temporary.write_text(content))


def finish(job: Job, took: float, root: Path = files.ROOT) -> str:
    """Write the marker of a job that took so many seconds, and return the `outlook` at the pace of this machine."""
    note = json.dumps({"seconds": round(took, 1)})
    files.write_atomically(root / job.marker, lambda temporary: temporary.write_text(note))
    if not _started(root).exists():
        return ""
    content = json.loads(_started(root).read_text())
    estimates, expected, actual = {}, 0.0, 0.0
    for fields in content["jobs"]:
        estimate = fields.pop("seconds")
        one = Job(**fields)
        marker = root / one.marker
        if not marker.exists():
            estimates[one] = estimate
        elif estimate is not None:
            expected, actual = expected + estimate, actual + json.loads(marker.read_text())["seconds"]
    return outlook(estimates, content["at_a_time"], actual / expected if expected else 1.0)


def _started(root: Path) -> Path:
    return root / "runs" / "workflow" / "started.json"


def main(arguments: list[str] | None = None) -> int:
    """Run one job: what the workflow starts on whatever machine it has."""
    from qlayer_core import fast

    parser = argparse.ArgumentParser(prog="python -m qlayer_core.study.plan", description=main.__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("dataset", choices=tuple(datasets.DATASETS))
    parser.add_argument("model")
    parser.add_argument("seed", type=int)
    parser.add_argument("--config", type=json.loads, default={}, help="the workflow's configuration, as JSON")
    options = parser.parse_args(arguments)
    job = Job(options.stage, options.dataset, options.model, options.seed)
    if job.model not in (likelihoods.PIXELS, SMOKE):
        checks.one_of("model", job.model, tuple(experiments.RUNS))
    fast.keep_memory()
    began = time.perf_counter()
    Plan.of(options.config).run(job)
    print(f"Done: {job}. {finish(job, time.perf_counter() - began)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
