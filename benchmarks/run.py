"""How fast: attacks, layer and training beside what one would pick instead, in one run.

python benchmarks/run.py            everything, in under ten minutes: results.json beside this file
python benchmarks/run.py --quick    a token amount of everything, in less than a minute

All contestants take turns (A, B, A, B, ...) on one thread, since `make reproduce` runs one process per core, and are
timed in processor time. That they share the process with this project's memory settings helps the others; the
column "alone" times each in a process of its own.
"""

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import cases
import plain
import torch
from cases import Sizes
from measure import in_own_process, in_turn, ratios, seconds
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from qlayer_core import attacks, data, files, machine, models, training
from qlayer_core.specs import RunSpec
from qlayer_core.study import fingerprint, records

HERE = Path(__file__).parent
ALONE = ("fgsm cnn", "bim q-large", "layer 4 12", "layer 4 28", *(f"step {name}" for name in Sizes.models))


def row(case: str, work: str, times: dict[str, list[float]], operations: float | None = None) -> dict:
    """Return the measured row of one case: seconds and ratio per contestant, and the share of the limit."""
    others = {
        name: ratios(times["ours"], theirs) | {"seconds": statistics.median(theirs)}
        for name, theirs in times.items()
        if name != "ours"
    }
    return {
        "case": case,
        "work": work,
        "seconds": statistics.median(times["ours"]),
        "operations": operations,
        "others": others,
    }


def attack_row(kind: str, name: str, sizes: Sizes) -> dict:
    """Attack the released network, and its plain version with the same weights, with every contestant."""
    n = sizes.fgsm_images if kind == "fgsm" else sizes.bim_images
    net, _ = records.load("mnist", name)
    peer = plain.fill(plain.build(name), net)
    images, labels = data.load("mnist", "test", limit=n)
    works = {
        contestant: attack(net if contestant == "ours" else peer, images, kind, sizes.bim_iterations)
        for contestant, attack in cases.ATTACKS.items()
    }
    rounds = sizes.rounds if kind == "fgsm" else sizes.bim_rounds
    iterations = 1 if kind == "fgsm" else sizes.bim_iterations
    found = row(
        f"{kind} {name}",
        f"{n} images, {iterations} iterations",
        in_turn(works, rounds, warm_up=kind == "fgsm"),  # 100 iterations need none
        attack_operations(net, images[:8]) / 8 * n * iterations,
    )
    for contestant, work in works.items():  # all must have attacked as well, on the plain network
        accuracy = 100 * (peer_logits(peer, work()).argmax(1) == labels).float().mean().item()
        (found if contestant == "ours" else found["others"][contestant])["accuracy"] = accuracy
    return found


def peer_logits(peer: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([cases.toolbox_model(peer)(batch) for batch in images.split(128)])


def attack_operations(net: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the operations of one gradient: each product of the forward pass once more for its input gradient."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        attacks.surrogate(net.eval())(images)
    return 2 * counter.get_total_flops()


def counted(work: cases.Work) -> float:
    """Return the operations of all convolutions and matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def layer_row(heads: int, side: int, sizes: Sizes) -> dict:
    works = {name: layer(heads, side, sizes.batch) for name, layer in cases.LAYERS.items()}
    shape = (sizes.batch, 64, side, side)
    return row(
        f"layer {heads} {side}",
        f"forward + backward, {shape}, {heads} heads of 64 codes",
        in_turn(works, sizes.rounds),
        counted(works["ours"]),
    )


def step_row(name: str, sizes: Sizes) -> dict:
    works = {contestant: step(name, sizes.batch) for contestant, step in cases.STEPS.items()}
    return row(f"step {name}", f"{sizes.batch} images", in_turn(works, sizes.rounds), counted(works["ours"]))


def carlini_wagner(sizes: Sizes) -> dict:
    """Compare the paper's C&W attack with the toolbox's current one, on as many images as that does in time."""
    from art.attacks.evasion import CarliniLInfMethod

    net, _ = records.load("mnist", "cnn")
    peer = plain.fill(plain.build("cnn"), net)
    test = data.load("mnist", "test")
    attack = CarliniLInfMethod(cases.art_classifier(peer), verbose=False)
    theirs, slow = [], 0.0
    while not theirs or slow < sizes.slow_seconds:
        pixels = test.images[len(theirs) : len(theirs) + 1].numpy()
        slow += seconds(lambda pixels=pixels: theirs.append(torch.from_numpy(attack.generate(pixels))))
    n, theirs = len(theirs), torch.cat(theirs)
    images, labels = test.images[:n], test.labels[:n]
    ours: list[torch.Tensor] = []
    quick = statistics.median(
        seconds(lambda: ours.append(attacks.cw_linf(net, images, eps=cases.EPS))) for _ in range(sizes.rounds)
    )

    def left(adversarial: torch.Tensor) -> float:
        return 100 * (peer_logits(peer, adversarial).argmax(1) == labels).float().mean().item()

    return {
        "case": "cw cnn",
        "work": f"{n} images",
        "images": n,
        "seconds": quick,
        "accuracy": left(ours[0]),
        "others": {
            "ART": {
                "seconds": slow,
                "ratio": slow / quick,
                "accuracy": left(theirs),
                "largest_change": (theirs - images).abs().max().item(),
            }
        },
        "clean_accuracy": left(images),
    }


def growth(sizes: Sizes) -> dict[str, list[dict]]:
    """Return seconds and operations as heads, codes, images and epochs grow."""
    net, _ = records.load("mnist", "cnn")
    pixels = data.load("mnist", "test").images
    train_set = data.load("mnist", "test", limit=sizes.images[-1])

    def epochs(n: int) -> cases.Work:
        spec = RunSpec("cnn", epochs=n, patience=n + 1, selection="clean")
        validation = {"clean": train_set.first(64)}
        return lambda: training.train(spec, models.cnn(), train_set, validation, seed=0)

    layers = {
        "heads": {k: cases.layer_ours(k, 12, sizes.batch) for k in sizes.heads},
        "codes": {n: cases.layer_ours(1, 12, sizes.batch, n) for n in sizes.codes},
    }
    series = layers | {
        "images": {n: cases.attack_ours(net, pixels[:n], "fgsm", 1) for n in sizes.images},
        "epochs": {n: epochs(n) for n in sizes.epochs},
    }
    found = {}
    for name, works in series.items():
        times = in_turn(works, 1 if name == "epochs" else sizes.rounds)
        found[name] = [{name: x, "seconds": statistics.median(seconds)} for x, seconds in times.items()]
        if name in layers:
            for point, work in zip(found[name], works.values(), strict=True):
                point["operations"] = counted(work)
    return found


def limit(n: int, number_format: str) -> float:
    """Return operations per second of a large matrix product, by the faster of the libraries behind PyTorch.

    On some processors the library of ``a @ a`` uses narrower instructions than that of convolutions.
    """
    a = torch.rand(n, n, dtype=getattr(torch, number_format))
    maps = torch.rand(32, 256, 28, 28, dtype=a.dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(256, 256, 1, 1, dtype=a.dtype)
    works = {"square": lambda: a @ a, "1 x 1 convolution": lambda: F.conv2d(maps, weight)}
    times = in_turn(works, 10)
    return max(counted(work) / min(times[name]) for name, work in works.items())


def measure_alone(rows: list[dict]) -> None:
    """Add to each row what the contestants take in processes of their own: seconds compared, and peak memory."""
    for found in rows:
        ours = in_own_process(found["case"], "ours")
        found["mebibytes"] = ours["mebibytes"]
        for name, other in found["others"].items():
            measured = in_own_process(found["case"], name)
            other["ratio_alone"] = measured["seconds"] / ours["seconds"]
            other["mebibytes"] = measured["mebibytes"]


def run(sizes: Sizes) -> dict:
    """Measure everything; see `main` for what becomes of it."""
    started, chosen = time.perf_counter(), machine.number_format()
    peak = [limit(sizes.limit_size, chosen)]
    rows = [
        attack_row("fgsm", "cnn", sizes),
        *(attack_row("bim", name, sizes) for name in ("cnn", "q-large")),
    ]
    peak.append(limit(sizes.limit_size, chosen))
    rows += [layer_row(heads, side, sizes) for heads, side in sizes.maps]
    rows += [step_row(name, sizes) for name in sizes.models]
    peak.append(limit(sizes.limit_size, chosen))
    for found in rows:
        found["share"] = found["operations"] / found["seconds"] / max(peak)
    if sizes.alone:
        measure_alone([found for found in rows if found["case"] in ALONE])
    return {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "clock": "processor time",
            "number_format": chosen,
            "operations_per_second": max(peak),
            "load": os.getloadavg()[0],
        },
        "versions": {
            name: version(name)
            for name in ("torch", "adversarial-robustness-toolbox", "foolbox", "vector-quantize-pytorch")
        },
        "code": {stage: fingerprint.of(stage) for stage in fingerprint.TIMED},
        "rows": [*rows, carlini_wagner(sizes)],
        "growth": growth(sizes),
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Measure, write ``results.json``, and print the ratios.

    A run replaces the recorded one of its number format and leaves those of others, from other machines, alone.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a token amount of everything")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for results.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    file = options.output / "results.json"
    recorded = (
        files.read_json(file) if file.exists() else {}
    )  # a damaged one is refused before minutes of work
    options.output.mkdir(parents=True, exist_ok=True)
    found = run(cases.QUICK if options.quick else Sizes())
    recorded[found["machine"]["number_format"]] = found
    files.write_json(file, recorded)
    for entry in found["rows"]:
        for name, other in entry["others"].items():
            print(f"{entry['case']}: {name} takes {other['ratio']:.2f} times as long", flush=True)


if __name__ == "__main__":
    main()
