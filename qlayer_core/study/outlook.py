"""How long the jobs of a plan take, by recorded times, and doing one of them: what the workflow starts."""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from statistics import median

from qlayer_core import checks, data, datasets, files
from qlayer_core.study import adaptive, experiments, fingerprint, likelihoods, records
from qlayer_core.study.jobs import ADAPTIVE, SMOKE, STAGES, Job
from qlayer_core.study.plan import Plan
from qlayer_core.study.standing import can, tried


def seconds(plan: Plan, jobs: Collection[Job]) -> dict[Job, float | None]:
    """Return how long jobs will take in seconds, by what is recorded of the same stage and attacks, None if not.

    Of a network that is trained among them, all attacks count that its evaluation may have to make. The same model's
    times count first, then those of models of its kind, then any.
    """
    times: dict[tuple, list[float]] = {}
    for path in files.RESULTS.glob("*/*/seed*.json"):
        if record := tried(records.read_file, path):
            kind = (record["spec"]["layer"] is not None, record["spec"]["adversarial"])
            shares = {str(records.attack_of(cell)): data.TEST_IMAGES / cell["n"] for cell in record["cells"]}
            for what, value in record["seconds"].items():
                value *= shares.get(what, 1)
                for key in (record["model"], kind, None):
                    times.setdefault((key, what), []).append(value)
    for path in files.RESULTS.glob("*/*/adaptive/seed*.json"):
        record = tried(records.read_file, path)
        if record is None or record["model"] not in experiments.RUNS:
            continue
        spec = experiments.spec(record["model"])
        share = adaptive.IMAGES / record["n"]
        spent = [(_rung(cell["rung"], cell["eps"]), cell["seconds"] * share) for cell in record["cells"]]
        spent.append((ADAPTIVE, sum(value for _, value in spent)))
        for key in (spec.name, (spec.layer is not None, spec.adversarial), None):
            for what, value in spent:
                times.setdefault((key, what), []).append(value)
    for dataset in datasets.DATASETS:
        for name in likelihoods.SUBJECTS:
            if record := tried(likelihoods.read, likelihoods.Unit(dataset, name)):
                times.setdefault((name, "likelihoods"), []).append(sum(record["seconds"].values()))

    def typical(job: Job, what: str) -> float | None:
        unit = None if job.stage == "likelihoods" else plan.unit(job)  # a PixelCNN is of no run of the grid
        kind = unit and (unit.spec.layer is not None, unit.spec.adversarial)
        for key in (job.model.split("/")[0], kind, None):
            if (key, what) in times:
                return median(times[key, what])
        return None

    def total(job: Job) -> float | None:
        anew, parts = job.training in jobs, []
        if job.stage == "evaluate":
            parts = [str(attack) for attack in plan.attacks(job, anew)]
        elif job.stage == "adapt" and not anew:
            parts = _rungs_left(plan, job)
        if job.stage != "evaluate" and not parts:
            of_training = dict.fromkeys(("train", "vary", "trail"), "training")
            return typical(job, (of_training | {"adapt": ADAPTIVE}).get(job.stage, job.stage))
        parts = [typical(job, part) for part in parts]
        known = [part for part in parts if part is not None]
        return sum(known) * len(parts) / len(known) if known else None

    return {job: total(job) for job in jobs}


def _rung(name: str, eps: float) -> str:
    return f"{name} {eps:g}"


def _rungs_left(plan: Plan, job: Job) -> list[str]:
    """Return what a ladder has left that stands already, on as many images as are asked for; [] where none does.

    Images of another seed's network are made where that is there, or trained before.
    """
    unit = plan.unit(job)
    climbed = tried(lambda one: adaptive.so_far(one, records.weights_of(one), adaptive.IMAGES), unit)
    if climbed is None:
        return []
    lent = any(one.model == job.model and one.seed != job.seed for one in plan.needs(job))
    return [
        _rung(rung.name, eps)
        for rung, eps in adaptive.left(climbed, unit)
        if lent or rung.source != "sibling" or can(unit, rung)
    ]


def outlook(estimates: Mapping[Job, float | None], at_a_time: int, pace: float | None = None) -> str:
    """Return one line on how much is left.

    Args:
        estimates: seconds of each job that is left.
        at_a_time: how many run side by side.
        pace: how much longer jobs take here than the estimates say; left out where none has ended yet.
    """
    if not estimates:
        return "Nothing is left to do: everything that was asked for is recorded."
    known = [value for value in estimates.values() if value is not None]
    stages = Counter(job.stage for job in estimates)
    what = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    line = f"{len(estimates)} {'job is' if len(estimates) == 1 else 'jobs are'} left ({what})"
    if not known:
        return f"{line}; how long they take is not known, since no time of their kind is recorded"
    hours = sum(known) / len(known) * len(estimates) * (pace or 1.0) / at_a_time / 3600
    whose = "at the pace of this machine so far" if pace else "by the times of the machines that recorded"
    return f"{line}: about {hours:.1f} hours with {at_a_time} at a time, {whose}"


def trained_anew(plan: Plan, jobs: Iterable[Job]) -> str:
    """Return one line on networks that were measured and are trained once more; nothing where there are none."""
    count = sum(any(plan.again(job, True)) for job in jobs)
    if not count:
        return ""
    return (
        f"{count} measured {'network is' if count == 1 else 'networks are'} trained anew, for want of weights: if"
        " other weights come out, what was recorded is kept under runs/, and all of it is measured again"
    )


def of_other_code(plan: Plan, left: Collection[Job]) -> str:
    """Return one line on what counts as done though today's code may give other numbers, if anything does."""
    count = 0
    for job in plan.targets():
        if job in left or job.stage not in ("train", "evaluate", "vary", "adapt"):
            continue
        read = adaptive.read if job.stage == "adapt" else records.read_unit
        if record := tried(read, plan.unit(job)):
            used = {record.get("trained_in"), *(cell.get("environment") for cell in record["cells"])} - {None}
            code = {one for place in used for one in record["environments"][place]["code"].items()}
            count += any(
                stage not in fingerprint.STAGES or fingerprint.of(stage) != made for stage, made in code
            )
    if not count:
        return ""
    return (
        f"{count} {'record counts' if count == 1 else 'records count'} as done, though partly of other code than"
        " today's; to make one anew: python -m qlayer_core train, evaluate or adapt, with --again"
    )


def forget(jobs: Iterable[Job], root: Path = files.ROOT) -> None:
    """Forget the markers of jobs that are left: their records say otherwise."""
    for job in jobs:
        (root / job.marker).unlink(missing_ok=True)


def start(plan: Plan, jobs: Collection[Job], at_a_time: int, root: Path = files.ROOT) -> None:
    """Note how long the jobs that are left should take, for `finish`."""
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
    return outlook(estimates, content["at_a_time"], actual / expected if expected else None)


def _started(root: Path) -> Path:
    return root / "runs" / "workflow" / "started.json"


def main(arguments: list[str] | None = None) -> int:
    """Run one job: what the workflow starts on whatever machine it has.

    An error that the user can mend is printed in one line, with exit status 1.
    """
    from qlayer_core import fast

    parser = argparse.ArgumentParser(
        prog="python -m qlayer_core.study.outlook", description=main.__doc__.splitlines()[0]
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("dataset", choices=tuple(datasets.DATASETS))
    parser.add_argument("model")
    parser.add_argument("seed", type=int)
    parser.add_argument("--config", type=json.loads, default={}, help="the workflow's configuration, as JSON")
    options = parser.parse_args(arguments)
    job = Job(options.stage, options.dataset, options.model, options.seed)
    try:
        if job.model not in (likelihoods.PIXELS, SMOKE):
            checks.one_of("model", job.model.split("/")[0], tuple(experiments.RUNS))
        fast.keep_memory()
        began = time.perf_counter()
        Plan.of(options.config).run(job)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Done: {job}. {finish(job, time.perf_counter() - began)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
