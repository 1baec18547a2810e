"""What "Break it yourself" shows follows from the tasks, the released weights and the recorded grades."""

import re
import urllib.parse

import export
import website

from qlayer_core import show
from qlayer_core.study import challenge
from qlayer_core.study.tasks import NETWORKS, TASKS

LAB = website.ROOT / "book" / "_static" / "lab"


def test_links_lead_to_the_lab_s_own_networks_and_settings():
    state = re.search(r"export const state = \{(.*?)\}", (LAB / "state.js").read_text()).group(1)
    assert set(show.challenge.LAB) <= set(export.NETWORKS)
    for task in TASKS:
        link = show.challenge.lab_link(task)
        if NETWORKS[task.network][0] not in export.NETWORKS:
            assert link is None
            continue
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)
        assert asked["net"] == [NETWORKS[task.network][0]] and float(asked["eps"][0]) == task.eps
        assert all(f"{name}:" in state for name in asked)


def test_tasks_without_weights_are_announced_and_not_offered(monkeypatch):
    monkeypatch.setattr(challenge, "open_tasks", lambda: TASKS[:3])
    monkeypatch.setattr(challenge, "best_known", lambda task: {"right": 1.5, "clean": 97.25, "by": "APGD"})
    assert "Tasks 4, 5 and 6 will open" in show.challenge.waiting().html
    assert TASKS[2].title in show.challenge.tasks().html and TASKS[3].title not in show.challenge.tasks().html
    assert (
        "97.2 % right without an attack, 1.5 % under the best known one" in show.challenge.scoreboard().text
    )
    assert (
        f"All of them are broken. Task 1 (“{TASKS[0].title}”) holds out longest: at its epsilon of {TASKS[0].eps:g}"
        in show.challenge.held_out().text
    )
    monkeypatch.setattr(challenge, "open_tasks", lambda: TASKS)
    assert show.challenge.waiting() is None


def test_a_score_that_is_not_measured_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(challenge, "open_tasks", lambda: TASKS)
    monkeypatch.setattr(challenge, "best_known", lambda task: None)
    assert "score of tasks 1, 2, 3, 4, 5 and 6 is missing" in show.challenge.waiting().html
    assert "under the best" not in show.challenge.scoreboard().text
    assert "No attack of this book's own is recorded yet." in show.challenge.held_out().text
    monkeypatch.setattr(challenge, "best_known", lambda task: {"right": 90.0, "clean": 97.25, "by": "APGD"})
    assert "Not all are broken." in show.challenge.held_out().text
