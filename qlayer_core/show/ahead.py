"""Whether networks resist the whole ladder better than the plain one: a picture, and in words.

Records are those of `study.adaptive`, by model name, as `ladder.recorded` gives them; here all of raw networks, or
all of adversarially trained ones.
"""

from collections.abc import Callable, Mapping

from qlayer_core.show import names
from qlayer_core.show.ladder import compared, plain
from qlayer_core.show.page import Markup, listed, paragraph
from qlayer_core.show.plot import MUTED, axes, picture

SPARE = ("x", "v", "P", "*")  # of networks that have no look of their own, or that of another setting


def _differences(found: Mapping[str, dict]) -> dict[str, list[dict]]:
    """Return what `ladder.compared` gives of each network beside the `plain` one."""
    return {name: compared(found, name) for name in found if name != plain(name) and plain(name) in found}


def _beside(name: str) -> str:
    return "the adversarially trained CNN" if plain(name) == "cnn-adv" else names.inside(plain(name))


@picture
def ahead(found: Mapping[str, dict]):
    """Draw by how many points networks are ahead of the plain one under all attacks together, with 95 % intervals."""
    rows = _differences(found)
    budgets = [f"{row['eps']:g}" for row in next(iter(rows.values()))]
    beside = _beside(next(iter(rows)))
    figure, grid = axes(6, 1.6 + 0.16 * len(rows) * len(budgets))
    ax, step = grid[0, 0], 0.8 / len(rows)
    says, looks = [], []
    for k, (name, some) in enumerate(rows.items()):
        at = [i - 0.4 + step * (k + 0.5) for i in range(len(some))]
        gaps, low, high = ([row[key] for row in some] for key in ("gap", "low", "high"))
        arms = [
            [b - a for a, b in zip(low, gaps, strict=True)],
            [b - a for a, b in zip(gaps, high, strict=True)],
        ]
        look = names.style(name) | {"linestyle": "none"}
        spare = (look | {"marker": marker} for marker in (look["marker"], *SPARE))
        looks.append(next(one for one in spare if one not in looks))
        ax.errorbar(gaps, at, xerr=arms, label=names.short(name), elinewidth=1.5, **looks[-1])
        words = [
            f"{row['gap']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}) at {row['eps']:g}" for row in some
        ]
        says.append(f"{names.short(name)} {', '.join(words)}")
    ax.axvline(0, color=MUTED, linewidth=1)
    ax.set_yticks(range(len(budgets)), budgets)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel=f"points ahead of {beside}", ylabel="epsilon")
    # Three long names in a line would leave the picture half of its width.
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3 if len(rows) < 4 else 2)
    return figure, f"Points ahead of {beside} under all attacks, with 95 % intervals: {'; '.join(says)}."


def verdict(found: Mapping[str, dict]) -> Markup:
    """Return in words which networks resist all attacks together better than the plain one, and which worse.

    Several stand beside their picture, which has the intervals; a single one has them here.
    """
    rows = _differences(found)
    alone, first = len(rows) == 1, next(iter(rows))
    number = "{eps:g} ({gap:+.1f} points" + (", {low:+.1f} to {high:+.1f})" if alone else ")")

    def clear(is_so: Callable[[dict], bool]) -> str:
        some = {name: [number.format(**row) for row in rows[name] if is_so(row)] for name in rows}
        return "; ".join(
            f"{names.short(name)} at epsilon {listed(gaps)}" for name, gaps in some.items() if gaps
        )

    every = [row for some in rows.values() for row in some]
    counts = listed([f"{n:,}" for n in sorted({row["n"] for row in every})])
    unequal = len({record["n"] for record in found.values()}) > 1
    shared = f", on the {counts} images that both were attacked on" if unequal else ""
    whom = _beside(first)
    who = names.short(first) if alone else "any of them"
    more, less = clear(lambda row: row["low"] > 0), clear(lambda row: row["high"] < 0)
    says = [
        f"Under all attacks together, clearly ahead of {whom}{shared}: {more}."
        if more
        else f"At no epsilon does {who} keep clearly more images right than {whom} under all attacks"
        f" together{shared}.",
        *([f"Clearly behind it: {less}."] if less else []),
    ]
    if any(row["low"] <= 0 <= row["high"] for row in every):
        says.append(f"In all other cases, {counts} images show no clear difference.")
    return paragraph(" ".join(says))
