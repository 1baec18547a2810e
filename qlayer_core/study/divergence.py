"""How far two samples of numbers lie apart: KL divergences with their estimators, AUC, bootstrap intervals.

Each compares ``(N,)`` numbers of the same N images before and after something was done to them, such as their
log-likelihoods clean and attacked.
"""

import math
from collections.abc import Callable

import numpy as np

BINS = 20
DRAWS = 200
Statistic = Callable[[np.ndarray, np.ndarray], float]


def published(clean: np.ndarray, attacked: np.ndarray, scale: float) -> float:
    """Return ``sum a log(a / b)`` of log-likelihoods divided by ``scale``: what Figure 2 calls a KL divergence.

    The numbers are no probabilities, so it is no divergence: it grows with the number of images and with 1 / scale,
    and takes both signs.

    Args:
        clean: log-likelihoods, negative.
        attacked: of the same images, negative.
        scale: number of positions times number of values.
    """
    if not (clean.max() < 0 and attacked.max() < 0):
        raise ValueError("a log-likelihood is not negative: these are not logarithms of probabilities")
    return float((clean / scale * np.log(clean / attacked)).sum())


def histogram_kl(first: np.ndarray, second: np.ndarray, bins: int = BINS) -> float:
    """Return KL(first || second) in nats, from a histogram with ``bins`` bins.

    The bins hold equally many numbers of both samples together, so that, like the divergence itself, the estimate
    stays the same when all numbers go through one increasing function. Half a count is added to every bin: an
    empty one does not make it infinite, and it can't exceed `ceiling`.
    """
    edges = _edges(first, second, bins)
    return _kl_of_counts(_counts(first, edges), _counts(second, edges))


def ceiling(n: int, bins: int = BINS) -> float:
    """Return what `histogram_kl` gives for two samples of ``n`` numbers without overlap, ``bins`` even.

    A value near it says that the samples are apart, and no more.
    """
    full, empty = np.full(bins // 2, 2 * n / bins), np.zeros(bins // 2)
    return _kl_of_counts(np.concatenate([full, empty]), np.concatenate([empty, full]))


def gaussian_kl(first: np.ndarray, second: np.ndarray) -> float:
    """Return KL(first || second) in nats of the normal distributions with the samples' means and variances."""
    variance, other = first.var(), second.var()
    gap = first.mean() - second.mean()
    return float(0.5 * (math.log(other / variance) + (variance + gap * gap) / other - 1))


def auc(clean: np.ndarray, attacked: np.ndarray) -> float:
    """Return the probability that a clean image has the larger number of two, ties counted half.

    It is the area under the curve of a detector that calls images with small numbers attacked: 0.5 is guessing.
    """
    ordered = np.sort(attacked)
    below, up_to = (np.searchsorted(ordered, clean, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(attacked)))


def compare(clean: np.ndarray, attacked: np.ndarray, draws: int = DRAWS) -> dict[str, list[float]]:
    """Return each estimate with the ends of its 95 % interval: ``kl histogram``, ``kl gaussian``, ``auc``.

    Args:
        clean: ``(N,)``.
        attacked: of the same images.
        draws: of the bootstrap.
    """
    edges = _edges(
        clean, attacked, BINS
    )  # the bins are fixed: images are drawn anew, not how they are counted
    estimates: dict[str, Statistic] = {
        "kl histogram": lambda a, b: _kl_of_counts(_counts(a, edges), _counts(b, edges)),
        "kl gaussian": gaussian_kl,
        "auc": auc,
    }
    return {name: bootstrap(value, clean, attacked, draws) for name, value in estimates.items()}


def bootstrap(
    statistic: Statistic, clean: np.ndarray, attacked: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> list[float]:
    """Return a statistic that is never negative, and its 95 % interval over images drawn anew (Efron, 1979).

    An image is drawn with both of its numbers, since one attacked image belongs to each clean one. The interval is
    the basic one, which turns the quantiles round at the statistic: drawing anew raises an estimate of a divergence
    as much as having a sample instead of the whole did, and quantiles as they are would count that twice.
    """
    if clean.shape != attacked.shape or clean.ndim != 1:
        raise ValueError(
            f"the samples have shapes {clean.shape} and {attacked.shape}; give (N,) of the same images"
        )
    random, n = np.random.default_rng(seed), len(clean)
    found = []
    for _ in range(draws):
        chosen = random.integers(0, n, n)
        found.append(statistic(clean[chosen], attacked[chosen]))
    value, (low, high) = statistic(clean, attacked), np.quantile(found, (0.025, 0.975))
    return [value, *(max(0.0, float(2 * value - end)) for end in (high, low))]


def _edges(first: np.ndarray, second: np.ndarray, bins: int) -> np.ndarray:
    """Return the ``bins - 1`` inner edges of bins that hold equally many of both samples together."""
    return np.quantile(np.concatenate([first, second]), np.arange(1, bins) / bins)


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)


def _kl_of_counts(first: np.ndarray, second: np.ndarray) -> float:
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (first, second))
    return float((p * np.log(p / q)).sum())
