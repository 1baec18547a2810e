"""Where things lie on disk: relative to the package, never to the working folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RESULTS = DATA / "results"  # committed: one JSON file a trained model
WEIGHTS = DATA / "weights"  # committed: weights of the models that chapters load
BENCHMARKS = ROOT / "benchmarks"  # its results are committed
RUNS = ROOT / "runs"  # ignored: checkpoints of runs under way, all weights, cached adversarial images
