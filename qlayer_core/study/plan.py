"""The paper's grid as jobs: what is left of it, what each job waits for, how long it takes, and running one.

Whether a job is done is read from its record, never from the time of a file: in a fresh clone, where all files are of
the same minute, what was recorded counts. `workflow/Snakefile` gives the jobs that are left to Snakemake, which
starts them in order, on the cores of this machine or on a cluster; `study.outlook` is what it starts.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qlayer_core import data, datasets, files
from qlayer_core.study import (
    adaptive,
    experiments,
    likelihoods,
    paper,
    records,
    trails,
    units,
    variants,
    wanted,
)

STAGES = ("train", "evaluate", "adapt", "likelihoods", "vary", "trail")
SMOKE = "smoke"
TRIAL = ("dataset", "model", "spec", "images", "tables")  # what the configuration of a smoke run says
ADAPTIVE, SETTINGS, TRAILS = "adaptive", "settings", "trails"


@dataclass(frozen=True)
class Job:
    """One piece of work: a stage of a network, or the PixelCNN over its codes (over "pixels" without one).

    The model of a variant is both names, ``q-base/no-gate``.
    """

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
        only: parts of it: ``"table:8a"``, ``"figure:2"``, ``"adaptive"``, ``"cnn"``, ``"mnist/cnn"``, ``"smoke"``;
            all of these if empty, and beside them ``"settings"`` and ``"trails"``, the studies on validation images.
            A network that no table shows on a data set, such as your own, is measured if it is named with it, and
            only trained if it is named alone.
        smoke: a trial: ``{"dataset", "model", "spec": changes of its RunSpec, "images", "tables"}``.
    """

    seeds: tuple[int, ...] = (0,)
    only: tuple[str, ...] = ()
    smoke: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        names = {name for _, name in wanted.EVALUATED} | set(experiments.RUNS)
        known = [f"table:{number}" for number in paper.TABLES] + [
            "figure:2",
            ADAPTIVE,
            SETTINGS,
            TRAILS,
            SMOKE,
            *names,
        ]
        known += [f"{dataset}/{name}" for dataset in datasets.DATASETS for name in names]
        for part in self.only:
            if part not in known:
                raise ValueError(
                    f"only is {part!r}; give table:1a to table:11, figure:2, adaptive, settings, trails, smoke,"
                    " or a model such as cnn or mnist/cnn"
                )
        if SMOKE in self.only:
            self._trial()

    def _trial(self) -> Mapping:
        """Return the configuration of the smoke run; refuse one that lacks something."""
        if missing := [name for name in TRIAL if name not in self.smoke]:
            raise ValueError(
                f"{SMOKE!r} is asked for, but its configuration has no {', '.join(missing)}: give what"
                " workflow/config.yaml has, such as"
                " smoke={'dataset': 'mnist', 'model': 'cnn', 'spec': {}, 'images': 16, 'tables': ['2a']}"
            )
        return self.smoke

    @classmethod
    def of(cls, config: Mapping) -> "Plan":
        """Return the plan of a configuration: lists, or words with commas as the command line gives them."""

        def words(value: object) -> list[str]:
            given = (
                value if isinstance(value, list | tuple) else str("" if value is None else value).split(",")
            )
            return [str(word).strip() for word in given if str(word).strip()]

        given = words(config.get("seeds", 0))
        if wrong := [word for word in given if not word.isdecimal()]:
            raise ValueError(f"seeds are {', '.join(wrong)}; give whole numbers from 0, such as SEEDS=0,1")
        seeds = tuple(map(int, given))
        return cls(seeds or (0,), tuple(words(config.get("only"))), config.get("smoke") or {})

    # ---- What is wanted ----

    def targets(self) -> list[Job]:
        """Return the jobs whose results are wanted, not those that they wait for."""
        found = []
        for seed in self.seeds:
            for name in experiments.RUNS:  # networks that others start from come first
                for dataset in datasets.DATASETS:
                    shown = (dataset, name) in wanted.EVALUATED and self._tables_of(dataset, name) is not None
                    if shown or (f"{dataset}/{name}" in self.only and name not in wanted.OWN):
                        found.append(Job("evaluate", dataset, name, seed))
                    elif name in self.only or f"{dataset}/{name}" in self.only:
                        found.append(Job("train", dataset, name, seed))
        for seed in self.seeds if not self.only or ADAPTIVE in self.only else ():
            for name in experiments.RUNS:
                for dataset in datasets.DATASETS:
                    if (dataset, name) in wanted.ADAPTED:
                        found.append(Job("adapt", dataset, name, seed))
        if not self.only or "figure:2" in self.only:
            found += [
                Job("likelihoods", "mnist", name, seed)
                for name in likelihoods.SUBJECTS
                for seed in self.seeds
                if seed == 0
                or name != likelihoods.PIXELS  # pixels belong to no network: one model of them will do
            ]
        for seed in self.seeds if SETTINGS in self.only else ():
            found += [Job("vary", "mnist", name, seed) for name in variants.all_of_them()]
            for stage in ("evaluate", "adapt"):
                found += [Job(stage, "mnist", name, seed) for name in wanted.OTHERWISE]
        if TRAILS in self.only:
            found += [Job("trail", *one) for one in trails.SHOWN]
        if SMOKE in self.only:
            found.append(Job("evaluate", self.smoke["dataset"], SMOKE, 0))
        return found

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
            name, _, variant = job.model.partition("/")
            if variant:
                return variants.unit(job.dataset, name, variant, job.seed)
            return records.unit(job.dataset, name, job.seed)
        trial = self._trial()
        spec = dataclasses.replace(experiments.spec(trial["model"]), **trial["spec"])
        return records.Unit(job.dataset, spec, job.seed, SMOKE)

    def images(self, job: Job) -> int:
        """Return how many test images the cells of a job must be of."""
        return self.smoke["images"] if job.model == SMOKE else data.TEST_IMAGES

    # ---- What is left ----

    def needs(self, job: Job) -> list[Job]:
        """Return the jobs that must be done before this one."""
        sources = [Job("train", job.dataset, name) for name in experiments.SOURCES.values()]
        if job.stage == "likelihoods":
            own = [] if job.model == likelihoods.PIXELS else [Job("train", job.dataset, job.model)]
            return [sources[0], *own]
        spec = self.unit(job).spec
        own = dataclasses.replace(job, stage="vary" if "/" in job.model else "train")
        if job.stage == "adapt":
            others = (adaptive.other(self.unit(job), rung) for rung in adaptive.ladder(spec))
            # A sibling of another seed is taken where it is, and not trained for this.
            found = {
                Job("train", job.dataset, one.spec.name, one.seed)
                for one in others
                if one and one.spec.name != spec.name
            }
            return sorted({own, *found}, key=lambda one: (one.model, one.seed))
        if job.stage == "evaluate":
            attacks = units.left_to_measure({"cells": []}, self.unit(job), self.tables(job))
            return [own, *(sources if any(attack.source for attack in attacks) else [])]
        raw = [Job("train", job.dataset, spec.raw_name, job.seed)] if spec.adversarial else []
        if first := variants.start(self.unit(job)):
            raw = [Job("vary", job.dataset, f"{spec.raw_name}/{first.variant}", job.seed)]
        judge = (
            [Job("train", job.dataset, experiments.VALIDATION_SOURCE)] if spec.selection == "mixed" else []
        )
        return [*judge, *raw]

    def done(self, job: Job) -> bool:
        """Return whether the record says that a job is done, with the settings of today."""
        if job.stage == "likelihoods":
            return _scored(likelihoods.Unit(job.dataset, job.model, job.seed))
        unit = self.unit(job)
        if job.stage == "trail":
            record = tried(records.read_file, trails.path_of(unit))
            return record is not None and record["finished"] and records.spec_of(record) == unit.spec
        # A change may be the same run as another; a setting is compared by its own record.
        same = job.stage == "vary" and unit.variant in variants.CHANGES
        record = tried(variants.recorded if same else records.read_unit, unit)
        if record is None or records.spec_of(record) != unit.spec:
            return False
        if not record["history"]:
            return False
        if job.stage == "vary" and not (unit.folder / "checkpoint.pt").exists():
            return True  # recorded, if only until it was stopped: nothing is left to go on from
        if not records.finished(record):
            return False
        if job.stage == "evaluate":
            return not units.left_to_measure(record, unit, self.tables(job), images=self.images(job))
        if job.stage == "adapt":
            climbed = tried(adaptive.read, unit)
            return (
                climbed is not None
                and climbed["weights_sha256"] == record["weights_sha256"]
                and climbed["n"] >= adaptive.IMAGES
                and not any(_can(unit, rung) for rung, _ in adaptive.left(climbed, unit))
            )
        there = unit.weights.exists() and files.sha256(unit.weights) == record["weights_sha256"]
        return there or job.stage == "vary"

    def left(self) -> dict[Job, list[Job]]:
        """Return the jobs that are not done, those that others wait for first, each with what it waits for."""
        found: dict[Job, list[Job]] = {}
        open_ones = [job for job in self.targets() if not self.done(job)]

        def add(job: Job) -> None:
            if job in found:
                return
            waits = [other for other in self.needs(job) if not (self.done(other) and self._there(other))]
            for other in waits:
                add(other)
            found[job] = waits
            # Training anew gives other weights, of which nothing is measured yet.
            for stage, among in (("evaluate", wanted.EVALUATED), ("adapt", wanted.ADAPTED)):
                again = dataclasses.replace(job, stage=stage)
                measured = job.stage == "vary" or (job.stage == "train" and (job.dataset, job.model) in among)
                if measured and self.done(again):
                    add(again)

        for job in open_ones:
            add(job)
        return found

    def _there(self, job: Job) -> bool:
        """Return whether what starts from a variant finds its weights, which no clone brings."""
        return job.stage != "vary" or self.unit(job).weights.exists()

    def run(self, job: Job, progress: bool = False) -> None:
        """Do a job, from wherever it stands."""
        if job.stage == "likelihoods":
            one = likelihoods.Unit(job.dataset, job.model, job.seed)
            likelihoods.train(one, progress=progress)
            likelihoods.measure(one, progress=progress)
            return
        limit = self.images(job) if job.model == SMOKE else None
        if job.stage == "adapt":
            adaptive.run(self.unit(job), progress=progress)
        elif job.stage == "trail":
            trails.measure(self.unit(job), again=True, progress=progress)
        elif job.stage != "evaluate":
            unit = self.unit(job)
            units.train(unit, start=variants.start(unit), limit=limit, again=True, progress=progress)
        else:
            units.evaluate(self.unit(job), self.tables(job), limit=limit, progress=progress)


def _can(unit: records.Unit, rung: adaptive.Rung) -> bool:
    """Return whether the network that makes a rung's images is there."""
    one = adaptive.other(unit, rung)
    return one is None or (one.record.exists() and one.weights.exists())


def _scored(unit: likelihoods.Unit) -> bool:
    """Return whether all sets are scored, with today's settings, and codes are those of today's network."""
    record = tried(likelihoods.read, unit)
    of_pixels = unit.name == likelihoods.PIXELS
    network = None if of_pixels else tried(records.read_unit, records.unit(unit.dataset, unit.name))
    return (
        record is not None
        and record["network_sha256"] == (network and network["weights_sha256"])
        and record["finished"]
        and record["settings"] == dataclasses.asdict(unit.settings)
        and all(
            record["sets"].get(name, {}).get("n", 0) >= data.TEST_IMAGES
            for name in likelihoods.set_names(unit)
        )
    )


def tried(read: Callable[[object], dict], what: object) -> dict | None:
    """Return what ``read`` finds; None if nothing is there, or a file of another format, or none that is whole."""
    try:
        return read(what)
    except (FileNotFoundError, ValueError):
        return None
