"""What "Break it yourself" shows: tasks and their best known scores, why rounding has no slope, a certificate."""

import html
import json
import urllib.parse

import numpy as np
from matplotlib.colors import to_rgba

from qlayer_core.show.names import COLOURS
from qlayer_core.show.page import DASH, Markup, decimal, lines, listed, note, paragraph, table, wrapped
from qlayer_core.show.plot import MUTED, SERIES, WRONG, axes, picture
from qlayer_core.study import challenge
from qlayer_core.study.tasks import NETWORKS, TASKS, Task

LAB = ("cnn", "cnn-adv", "q-base", "q-base-adv", "q-inner")  # what the attack lab has of the tasks' networks
STEPS = 20  # of BIM there


def tasks() -> Markup:
    """Return the open tasks as a table: goal, budget, when a network counts as broken, and the best known score."""
    rows = []
    for task in challenge.open_tasks():
        best, link = challenge.best_known(task), lab_link(task)
        lab = f' <a href="{html.escape(link)}">In the lab</a>' if link else ""
        room = "display: inline-block; min-width: 10rem; white-space: normal"  # on a phone, too
        goal = f'<span style="font-weight: 400; {room}">{html.escape(task.goal)}{lab}</span>'
        known = [decimal(best["right"], 1) + " %", wrapped(html.escape(best["by"]))] if best else [DASH]
        rows.append(
            [
                lines(f"{task.number}. {html.escape(task.title)}", goal),
                f"{task.eps:g}",
                f"{task.target:g} %",
                f"{task.seconds:g} s",
                lines(*known),
            ]
        )
    return table(
        rows,
        ["task", "epsilon", "broken at", "time", "best known"],
        "The tasks. A network is broken when it is right on no more of the hidden images than the share under"
        " “broken at”, with no pixel moved by more than epsilon. The time is for all images together.",
    )


def lab_link(task: Task) -> str | None:
    """Return the address of the attack lab, set up for a task; None where the lab lacks the network."""
    name = NETWORKS[task.network][0]
    if name not in LAB:
        return None
    setup = {"net": name, "attack": "bim", "steps": STEPS, "eps": f"{task.eps:.2f}"}
    if name.startswith("q-"):
        setup["path"] = "straight-through"
    return f"08-attack-lab.html?{urllib.parse.urlencode(setup)}"


def waiting() -> Markup | None:
    """Return a note on tasks without a released network or a measured best score; None if there are none."""
    shown, text = challenge.open_tasks(), ""
    if left := [task for task in TASKS if task not in shown]:
        needs = "the network that it needs is" if len(left) == 1 else "the networks that they need are"
        text += f"<p>{_listed(left)} will open as soon as {needs} trained and released.</p>"
    if unknown := [task for task in shown if not challenge.best_known(task)]:
        text += (
            f"<p>The best known score of {_listed(unknown).lower()} is missing, or was measured on other weights."
            " Measure it with <code>python -m qlayer_core.study.solutions</code></p>"
        )
    return note("Not yet", text) if text else None


def _listed(some: list[Task]) -> str:
    return f"Task{'s'[: len(some) > 1]} {listed([str(task.number) for task in some])}"


@picture
def scoreboard():
    """Draw for each open task what is right without an attack and under the best known one, and when it is broken."""
    shown = challenge.open_tasks()
    figure, grid = axes(4.6, 0.75 * len(shown) + 1.2)
    ax, words = grid[0, 0], []
    named = False
    for row, task in enumerate(shown):
        fill = to_rgba(SERIES[2], 0.4)
        ax.barh(row, task.target, 0.4, color=fill, edgecolor=MUTED, label="" if row else "broken")
        ax.text(0, row - 0.34, f"{task.number}. {task.title}", va="center")  # beside it, a phone has no room
        text = f"{task.number}. {task.title}: broken at {task.target:g} %"
        if best := challenge.best_known(task):
            ax.plot([best["right"], best["clean"]], [row, row], color=MUTED, linewidth=1, zorder=1)
            look = {"linestyle": "", "markersize": 8, "clip_on": False}
            ring = look | {"mfc": "none", "mec": MUTED, "mew": 2}
            ax.plot(best["clean"], row, "o", label="" if named else "without an attack", **ring)
            look["color"] = COLOURS["q-base"]
            ax.plot(best["right"], row, "D", label="" if named else "best known attack", **look)
            named = True
            text += f", {best['clean']:.1f} % right without an attack, {best['right']:.1f} % under the best known one"
        words.append(text)
    ax.set(xlim=(0, 101), ylim=(len(shown) - 0.6, -0.6), yticks=[], xlabel="right on hidden images (%)")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure, f"The tasks, in percent of right answers. {'; '.join(words)}."


def held_out() -> Markup:
    """Return in words which of the open tasks holds out longest against the best known attack."""
    known = {task: best["right"] for task in challenge.open_tasks() if (best := challenge.best_known(task))}
    if not known:
        return paragraph("No attack of this book's own is recorded yet.")
    longest = max(known, key=known.get)
    says = (
        "All of them are broken."
        if all(known[task] <= task.target for task in known)
        else "Not all are broken."
    )
    return paragraph(
        f"{says} Task {longest.number} (“{longest.title}”) holds out longest: at its epsilon of {longest.eps:g}, the"
        f" network is still right on {known[longest]:.1f} % of the images under the best attack that this book has"
        " recorded for the task. But the budgets of the tasks differ, so this is no ranking of the networks."
    )


@picture
def staircase(levels: int = 8):
    """Draw what rounding to so many values makes of a pixel, beside a straight line: steps, flat everywhere."""
    figure, grid = axes(5, 3.2)
    ax = grid[0, 0]
    values = np.linspace(0, 1, 1401)
    ax.plot(values, values, "--", color=WRONG, label="a ramp: slope 1")
    ax.plot(values, np.round(values * (levels - 1)) / (levels - 1), color=SERIES[0], label="rounded: slope 0")
    ax.set(xlabel="pixel before", ylabel="pixel after")
    ax.legend()
    return figure, (
        f"A staircase of {levels} steps from 0 to 1 along a ramp. Each step is flat, so its slope is 0, while the"
        f" ramp rises by 1 all the way; the two are never further apart than {0.5 / (levels - 1):.2f}."
    )


def certificate() -> Markup:
    """Return the place where the page draws certificates, with what its script must know of the tasks."""
    facts = [
        {"number": one.number, "title": one.title, "goal": one.goal, "eps": one.eps, "target": one.target}
        for one in TASKS
    ]
    text = "On the book's site a code becomes a certificate here. In Python, verify(code, name) reads it."
    packed = html.escape(json.dumps(facts), quote=True)
    return Markup(f'<div id="certificate" data-tasks="{packed}"><p>{html.escape(text)}</p></div>', text)
