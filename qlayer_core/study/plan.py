"""The paper's grid as jobs: what is left of it, what each job waits for, how long it takes, and running one.

Whether a job is done is read from its record, never from the time of a file: in a fresh clone, where all files are of
the same minute, what was recorded counts. `workflow/Snakefile` gives the jobs that are left to Snakemake, which
starts them in order, on the cores of this machine or on a cluster; `study.outlook` is what it starts.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from qlayer_core import data, datasets
from qlayer_core.specs import Attack
from qlayer_core.study import (
    adaptive,
    experiments,
    likelihoods,
    paper,
    records,
    replaced,
    standing,
    trails,
    units,
    variants,
    wanted,
)
from qlayer_core.study.jobs import ADAPTIVE, SETTINGS, SMOKE, TRAILS, TRIAL, Job

NOTHING = {"cells": [], "environments": []}  # what is recorded of a network that is not


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
        """Return the tables whose cells an evaluation measures; () for all.

        All, too, where a training has replaced measured cells: those that are not asked for would stay lost.
        """
        if job.model == SMOKE:
            return tuple(self.smoke["tables"])
        asked = self._tables_of(job.dataset, job.model) or ()
        unit = self.unit(job)
        if asked and (before := replaced.attacks(unit)):
            record = standing.tried(records.read_unit, unit)
            return () if before & {*units.left_to_measure(record or NOTHING, unit)} else asked
        return asked

    def attacks(self, job: Job, anew: bool = False) -> list[Attack]:
        """Return the attacks that an evaluation has left.

        With ``anew`` its network is trained before: then they are all that were asked for, and where any was
        measured, all that there are.
        """
        unit, tables = self.unit(job), self.tables(job)
        record = standing.tried(records.read_unit, unit) or NOTHING
        if anew:
            tables, record = () if record["cells"] and job.model != SMOKE else tables, NOTHING
        return units.left_to_measure(record, unit, tables, images=self.images(job))

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
        own = job.training
        if job.stage == "adapt":
            others = (adaptive.other(self.unit(job), rung) for rung in adaptive.ladder(spec))
            # A sibling of another seed is taken where it is, and waited for where its seed is asked for, too.
            found = {
                Job("train", job.dataset, one.spec.name, one.seed)
                for one in others
                if one and one.spec.name != spec.name
            }
            found |= {dataclasses.replace(own, seed=one.seed) for one in self._sibling(job)}
            return sorted({own, *found}, key=lambda one: (one.model, one.seed))
        if job.stage == "evaluate":
            attacks = self.attacks(job, anew=not self.done(own))
            return [own, *(sources if any(attack.source for attack in attacks) else [])]
        raw = [Job("train", job.dataset, spec.raw_name, job.seed)] if spec.adversarial else []
        if first := variants.start(self.unit(job)):
            raw = [Job("vary", job.dataset, f"{spec.raw_name}/{first.variant}", job.seed)]
        judge = (
            [Job("train", job.dataset, experiments.VALIDATION_SOURCE)] if spec.selection == "mixed" else []
        )
        return [*judge, *raw]

    def _sibling(self, job: Job) -> list[records.Unit]:
        """Return the network of another seed that a ladder waits for: asked for, and not there yet."""
        unit = self.unit(job)
        first = next(
            (one for one in adaptive.siblings(unit) if records.there(one) or one.seed in self.seeds), None
        )
        lacks = first and not records.there(first) and standing.sibling_left(unit)
        return [first] if lacks else []

    def done(self, job: Job) -> bool:
        """Return whether the record says that a job is done, with the settings of today."""
        if job.stage == "likelihoods":
            return standing.scored(likelihoods.Unit(job.dataset, job.model, job.seed))
        unit = self.unit(job)
        if job.stage == "trail":
            record = standing.tried(records.read_file, trails.path_of(unit))
            return record is not None and record["finished"] and records.spec_of(record) == unit.spec
        # A change may be the same run as another; a setting is compared by its own record.
        same = job.stage == "vary" and unit.variant in variants.CHANGES
        record = standing.tried(variants.recorded if same else records.read_unit, unit)
        if record is None or records.spec_of(record) != unit.spec:
            return False
        if not record["history"]:
            return False
        if job.stage == "vary" and not (unit.folder / "checkpoint.pt").exists():
            return True  # recorded, if only until it was stopped: nothing is left to go on from
        if not records.finished(record):
            return False
        if job.stage == "evaluate":
            return not self.attacks(job)
        if job.stage == "adapt":
            climbed = standing.tried(adaptive.read, unit)
            return (
                climbed is not None
                and climbed["weights_sha256"] == record["weights_sha256"]
                and climbed["n"] >= adaptive.IMAGES
                and not standing.rungs_left(unit, climbed)
                and not self._sibling(job)
            )
        return job.stage == "vary" or records.there(unit)

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
            for again in self.again(job, True):
                add(again)

        for job in open_ones:
            add(job)
        for job in self._rests_on():
            for again in self.again(job, job in found):
                add(again)
        return found

    def again(self, job: Job, anew: bool) -> Iterator[Job]:
        """Yield what was measured of a network, and must be once more: if it is trained ``anew``, or since it was.

        Another machine gives other weights, of which nothing is measured. Whatever a call asks for, what it replaces
        it measures again.
        """
        if job.stage not in ("train", "vary"):
            return
        unit = self.unit(job)
        record = standing.tried(records.read_unit, unit) or NOTHING
        evaluate, adapt = (dataclasses.replace(job, stage=stage) for stage in ("evaluate", "adapt"))
        before, climbed = replaced.attacks(unit), replaced.rungs(unit)
        measured = before | {records.attack_of(cell) for cell in record["cells"] if anew}
        if measured and measured & {*self.attacks(evaluate, anew)}:
            yield evaluate
        recorded = standing.tried(adaptive.read, unit)
        if (anew and recorded) or (climbed and climbed & standing.rungs_left(unit, recorded)):
            yield adapt
        if job.stage == "train" and job.seed == 0:  # whose codes they are of
            for one in likelihoods.recorded(job.dataset, job.model):
                if anew or (before and not standing.scored(one)):
                    yield Job("likelihoods", one.dataset, one.name, one.seed)

    def _rests_on(self) -> list[Job]:
        """Return the trainings that what is wanted rests on, done or not."""
        seen, new = {}, self.targets()
        while new:
            seen |= dict.fromkeys(new)
            new = [other for job in new for other in self.needs(job) if other not in seen]
        return list(seen)

    def _there(self, job: Job) -> bool:
        """Return whether what starts from a variant finds its weights, which no clone brings."""
        return job.stage != "vary" or self.unit(job).weights.exists()

    def run(self, job: Job, progress: bool = False) -> None:
        """Do a job, from wherever it stands."""
        if job.stage == "likelihoods":
            one = likelihoods.Unit(job.dataset, job.model, job.seed)
            likelihoods.train(one, again=True, progress=progress)
            likelihoods.measure(one, progress=progress)
            return
        limit = self.images(job) if job.model == SMOKE else None
        if job.stage == "adapt":
            adaptive.run(self.unit(job), report=_say_if_missing(job), progress=progress)
        elif job.stage == "trail":
            trails.measure(self.unit(job), again=True, progress=progress)
        elif job.stage != "evaluate":
            unit = self.unit(job)
            units.train(unit, start=variants.start(unit), limit=limit, again=True, progress=progress)
        else:
            units.evaluate(self.unit(job), self.tables(job), limit=limit, progress=progress)


def _say_if_missing(job: Job) -> Callable[[dict], None]:
    """Return what prints each rung that was left out for want of another network, once."""
    said = set()

    def say(cell: dict) -> None:
        if "missing" in cell and cell["rung"] not in said:
            said.add(cell["rung"])
            print(f"Left out of {job}: {cell['rung']}. {cell['missing']}", flush=True)

    return say
