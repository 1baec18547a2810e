"""Marks beside a table's numbers that are of fewer seeds than others, for its caption to explain."""

from collections.abc import Callable, Mapping, Sequence

from qlayer_core.show.page import listed

FEWER = "†"  # of fewer seeds than its row


def _alone(some: Sequence[int]) -> str:
    return f"seed{'s' if len(some) > 1 else ''} {listed([str(seed) for seed in some])} alone"


def seeds(
    which: Mapping[tuple[str, str], tuple], said: Callable[[tuple], str] = _alone
) -> tuple[dict[tuple[str, str], str], str]:
    """Return the marks of numbers that have fewer seeds than others in their row, and what they mean, as a sentence.

    Args:
        which: row and column of each number to its seeds, or to pairs of them; none where it is missing.
        said: what a choice of seeds is called.

    Returns:
        A mark, or nothing, by row and column: one dagger more for each other choice of seeds. The sentence is empty
        without any.
    """
    most: dict[str, int] = {}
    for (row, _), some in which.items():
        most[row] = max(most.get(row, 0), len(some))
    short = {place: some for place, some in which.items() if 0 < len(some) < most[place[0]]}
    marks = {some: FEWER * at for at, some in enumerate(dict.fromkeys(short.values()), 1)}
    words = [f"{mark} {said(some)}" for some, mark in marks.items()]
    return {
        place: marks.get(short.get(place), "") for place in which
    }, f" {', '.join(words)}." if words else ""
