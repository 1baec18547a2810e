"""How far an accuracy can be trusted: intervals for one, for a difference, for a pair, and the spread over seeds."""

import math
import statistics
from collections.abc import Sequence

from scipy import special


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of an accuracy in percent, 95 % for ``z`` = 1.96 (Wilson, 1927)."""
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} correct of {n}: give 0 <= correct <= n and n > 0")
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def difference(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """Return the 95 % interval of ``one - other`` for two independent accuracies (Newcombe, 1998, method 10).

    Args:
        one: accuracy in percent, and the lower and upper end of its Wilson interval.
        other: the same; what is subtracted.
    """
    gap = one[0] - other[0]
    down = math.hypot(one[0] - one[1], other[2] - other[0])
    up = math.hypot(one[2] - one[0], other[0] - other[1])
    return gap - down, gap + up


def paired(only_one: int, only_other: int, n: int, z: float = 1.96) -> tuple[float, float, float]:
    """Return the difference of two accuracies on the same images, and its 95 % interval, in points.

    The interval counts half an image more on either side (Agresti and Min, 2005): where the models differ on a
    few images, up to four, all of them one way, it does not yet exclude zero.

    Args:
        only_one: images that only the first model has right.
        only_other: images that only the second has right.
        n: images in all.
        z: quantile of the normal distribution.
    """
    if min(only_one, only_other) < 0 or only_one + only_other > n or n == 0:
        raise ValueError(
            f"{only_one} and {only_other} of {n}: give counts >= 0 whose sum is at most n, and n > 0"
        )
    return of_differences(only_one - only_other, only_one + only_other, n, z)


def of_differences(total: float, squares: float, n: int, z: float = 1.96) -> tuple[float, float, float]:
    """Return the mean of differences image by image, each from -1 to 1, and its 95 % interval, in points.

    `paired` is the case of two networks, with differences of -1, 0 and 1; over several seeds they are mean
    differences. As there, half an image more counts on either side.

    Args:
        total: sum of the differences.
        squares: sum of their squares.
        n: images in all.
        z: quantile of the normal distribution.
    """
    centre = total / (n + 2)
    half = z * math.sqrt(max(0.0, (squares + 1) / (n + 2) - centre * centre) / (n + 2))
    return 100 * total / n, 100 * max(-1.0, centre - half), 100 * min(1.0, centre + half)


def over_seeds(one: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a difference of means over seeds, by Student's distribution (Welch, 1947).

    With the degrees of freedom of the group that has fewer, which is wide rather than narrow.

    Args:
        one: a number per seed, at least two.
        other: the same of what is subtracted; ``()`` where ``one`` holds differences already, seed by seed.
        confidence: share of such intervals that hold the truth.
    """
    groups = [group for group in (one, other) if len(group)]
    if min(map(len, groups)) < 2:
        raise ValueError(f"{len(one)} and {len(other)} seeds: a spread needs two or more of each")
    error = math.sqrt(sum(statistics.variance(group) / len(group) for group in groups))
    half = float(special.stdtrit(min(map(len, groups)) - 1, (1 + confidence) / 2)) * error
    gap = statistics.mean(one) - (statistics.mean(other) if len(other) else 0.0)
    return gap - half, gap + half
