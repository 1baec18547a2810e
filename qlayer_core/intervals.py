"""How far an accuracy can be trusted: intervals for one, for a difference, for a pair, and the spread over seeds."""

import math
from collections.abc import Sequence


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
    handful of images, all of them one way, it does not yet exclude zero.

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
    one, other, images = only_one + 0.5, only_other + 0.5, n + 2
    centre = (one - other) / images
    half = z * math.sqrt((one + other) / images - centre * centre) / math.sqrt(images)
    return 100 * (only_one - only_other) / n, 100 * (centre - half), 100 * (centre + half)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the same measurement with several seeds."""
    if not values:
        raise ValueError("no value is given: there is no spread of nothing")
    return sum(values) / len(values), min(values), max(values)
