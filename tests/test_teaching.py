"""The kit for a class: its plan adds up, its links set up what the lab offers, and its sheets give nothing away."""

import html
import re
import urllib.parse

import export
import nbformat
import pytest
import torch
import website

from qlayer_core import attacks, data
from qlayer_core.show import control, gradients
from qlayer_core.show import ladder as climbed
from qlayer_core.show.page import whole
from qlayer_core.study import adaptive, making, paper, records

BOOK = website.ROOT / "book"
TEACHING, HANDOUT, SLIDES = ((BOOK / f"{name}.md").read_text() for name in ("teaching", "handout", "slides"))
LAB = (BOOK / "08-attack-lab.md").read_text()
FIRST, SECOND = TEACHING.split("## A second lesson")
LINKS = re.findall(r'href="08-attack-lab\.html\?([^"]*)"', TEACHING)


def keys(module: str, name: str) -> list[str]:
    """Return the keys of an object that a module of the lab exports."""
    code = (BOOK / "_static" / "lab" / module).read_text()
    inside = re.search(rf"export const {name} = {{(.*?)}};", code, re.DOTALL)[1]
    return re.findall(r'"?([\w-]+)"?:', inside)


def test_the_plan_fills_ninety_minutes_and_each_part_has_its_section():
    plan = [int(minutes) for minutes in re.findall(r"^\| (\d+) \| \*", FIRST, re.MULTILINE)]
    parts = [int(minutes) for minutes in re.findall(r"^### (\d+) minutes", TEACHING, re.MULTILINE)]
    assert sum(plan) == 90
    assert plan == parts
    assert (
        sum(
            int(minutes)
            for minutes in re.findall(r"^\| (\d+) \| [A-Z]", SECOND.split("\n## ")[0], re.MULTILINE)
        )
        == 90
    )


def test_the_sections_that_the_plan_sends_a_class_to_are_there():
    headings = set()
    for path in BOOK.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings |= set(re.findall(r"^###? (.*)$", text, re.MULTILINE))
    plan = TEACHING[TEACHING.index("### 15 minutes: why") : TEACHING.index("### 25 minutes")]
    plan += " ".join(re.findall(r"(?<=`, ).*(?= \|$)", SECOND.split("\n## ")[0], re.MULTILINE))
    named = {" ".join(words.split()) for words in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", plan)}
    assert len(named) >= 5
    assert named <= headings


def test_what_a_chapter_builds_on_is_what_the_chapter_says_itself():
    """A chapter has a name on its page, and no number: so a teacher plans by names."""
    plan = TEACHING[TEACHING.index("| Chapter | First |") : TEACHING.index("| Lesson | About |")]
    links = r"\{doc\}`(?:[^`<]*<)?([\w-]+)"
    rows = (re.findall(links, line) for line in plan.splitlines() if line.startswith("| {doc}"))
    planned = {chapter: first for chapter, *first in rows}
    for path in sorted(BOOK.glob("*.ipynb")):
        opening = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells[:4])
        said = re.search(r"\*\*Prerequisites\.\*\*(.*?)\n\n", opening, re.DOTALL)[1]
        assert planned.pop(path.stem, []) == re.findall(links, said), path.stem
    assert not planned


def test_every_link_sets_up_what_the_lab_offers():
    offered = {
        "data": ["mnist"],
        "image": [str(i) for i in range(10 * export.IMAGES_A_CLASS)],
        "net": export.NETWORKS,
        "path": export.ATTACKED,
        "attack": keys("attacks.js", "ATTACKS"),
        "eps": [f"{i / 100:g}" for i in range(41)],
        "steps": re.findall(r"<option>(\d+)</option>", LAB),
    }
    assert LINKS
    for link in LINKS:
        for key, value in urllib.parse.parse_qsl(html.unescape(link), strict_parsing=True):
            assert value in offered[key], f"{key}={value}"


def test_a_class_finds_the_set_ups_of_its_tasks_in_the_lab_itself():
    """The page for the teacher has the answers."""
    assert re.findall(r'class="lab-setup" href="\?([^"]*)"', LAB) == LINKS
    lab = TEACHING[TEACHING.index("### 25 minutes") : TEACHING.index("### 20 minutes: the verdict")]
    tasks = r"^(\d)\. \*\*(.*?)\.\*\*"
    assert re.findall(tasks, LAB, re.MULTILINE) == re.findall(tasks, lab, re.MULTILINE)


def test_the_parts_of_an_address_are_the_ones_that_the_lab_reads():
    described = re.findall(r"^\| `([\w-]+)` \|", TEACHING, re.MULTILINE)
    assert sorted(described) == sorted(keys("state.js", "state"))


def test_the_sheets_have_a_place_for_every_task_and_no_answer():
    lab = TEACHING[TEACHING.index("### 25 minutes") : TEACHING.index("### 20 minutes: the verdict")]
    tasks = re.findall(r"^(\d)\. \*\*(.*?)\.\*\*", lab, re.MULTILINE)
    assert len(tasks) == 6
    first, second = HANDOUT.split("## Sheet 3")
    assert re.findall(r"^\*\*(\d)\. (.*?)\.\*\*", first, re.MULTILINE) == tasks
    lesson = TEACHING[TEACHING.index("## A second lesson") : TEACHING.index("## More than two lessons")]
    parts = re.findall(r"^\| \d+ \|", lesson, re.MULTILINE)
    assert len(re.findall(r"^\*\*\d\. ", second, re.MULTILINE)) == len(parts) == 5
    assert not re.search(r"solution|for the teacher|dropdown", HANDOUT, re.IGNORECASE)


def test_a_question_and_its_answer_are_apart():
    """What is for the teacher alone is folded away."""
    notes = re.findall(r"\{admonition\} For the teacher.*\n\s*:class: (.*)", TEACHING)
    assert notes and all("dropdown" in classes for classes in notes)


def test_slides_show_no_code_and_type_no_result():
    """Figures and findings come out of cells; the code of a cell stays behind the scenes."""
    cells = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```", SLIDES, re.MULTILINE | re.DOTALL)
    assert cells and all(re.match(r":tags: \[remove-(input|cell)\]", cell) for cell in cells)
    prose = re.sub(r"^(```|---).*?^\1|<[^>]*>", "", SLIDES, flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"\d+(?:\.\d+)? ?%|\d+ of \d+|0\.\d+", prose)


def test_the_deck_asks_no_module_for_anything():
    """A page that comes from a folder may not load modules."""
    assert '<script src="../_static/deck/deck.js">' in SLIDES
    assert not re.search(r"^\s*(import|export) ", (BOOK / "_static/deck/deck.js").read_text(), re.MULTILINE)


def test_the_teachers_key_is_what_the_lab_counts():
    """Right after the attack, of the lab's tray; Python's rounding may tip an image, as the note says."""
    images, labels = export.tray("mnist")
    clean = data.load("mnist", "test", limit=export.GAPS).images
    rows = re.findall(r"^\| (plain CNN|Q-base, .*?) \| (\d+) \| (\d+) \|", FIRST, re.MULTILINE)
    roads = dict.fromkeys(("plain CNN", "Q-base, E-path", "Q-base, straight through", "Q-base, soft codes"))
    assert [name for name, *_ in rows] == list(roads)
    nets = {name: records.load("mnist", name)[0] for name in ("cnn", "q-base")}
    for (name, *printed), road in zip(
        rows, (None, "e", "straight-through", f"soft {export.SOFTNESS}"), strict=True
    ):
        net = nets["q-base" if road else "cnn"].eval()
        for eps, count in zip((0.1, 0.2), printed, strict=True):
            step = 2.5 * eps / 20  # the lab's own
            made = attacks.bim(making.stand_in(net, road, clean), images, eps=eps, step=step, iterations=20)
            assert abs(int((net(made).argmax(1) == labels).sum()) - int(count)) <= 1, (name, eps)


def test_two_digits_hold_along_the_e_path_up_to_the_lab_s_largest_budget():
    images, _ = export.tray("mnist")
    net = records.load("mnist", "q-base")[0].eval()
    own = net(images).argmax(1)
    left = torch.ones(len(images), dtype=torch.bool)
    for eps in (i / 100 for i in range(1, 41)):
        some = left.nonzero().squeeze(1)
        made = attacks.bim(
            making.stand_in(net, "e", images), images[some], eps=eps, step=2.5 * eps / 20, iterations=20
        )
        left[some] = net(made).argmax(1) == own[some]
    assert left.sum() == 2 and "Two of the twenty digits do not fall at all there" in TEACHING


def test_the_note_on_the_debate_is_what_the_control_says():
    found = control.leads("mnist", seeing=True)
    base, inner = ({one.attack: one for one in found[name]}["epsilon 0.1"] for name in ("q-base", "q-inner"))
    note = " ".join(FIRST.split())
    assert (
        f"takes the plain CNN from {whole(base.training.second)} to {whole(base.training.first)} % there, and the"
        f" layer costs {whole(-base.layer.difference)} points more. So about half of the loss is the training's."
        in note
    )
    assert max(base.training.difference, base.layer.difference) < 0
    assert base.training.difference == pytest.approx(base.layer.difference, abs=2)
    assert base.training.result == base.layer.result == "fails"  # both clearly
    assert f"between the convolutions, keeps {whole(inner.whole.first)} %, more than the plain CNN" in note
    assert inner.whole.result == inner.layer.result == "holds"


def test_the_notes_of_the_second_lesson_are_what_the_paper_and_the_ladders_say():
    note = " ".join(SECOND.split())
    lower, higher = (paper.TABLES["6b"].cell("q-base e", f"bim {eps}").accuracy for eps in (0.2, 0.3))
    blind = paper.TABLES["6a"].cell("q-base e", "bim 0.3").accuracy
    assert lower == higher > blind and f"leaves {lower} % at 0.2 and at 0.3." in note
    assert f"does not see that path leaves {blind} % at 0.3" in note
    plain, layered = (climbed.recorded()[name] for name in ("cnn", "q-base"))
    together = [100 * adaptive.worst(record, 0.1).mean() for record in (plain, layered)]
    alone = [100 * climbed.own_attack(record, 0.1)["correct"] / record["n"] for record in (plain, layered)]
    assert (
        f"leaves {together[0]:.1f} % of the images of the plain CNN and {together[1]:.1f} % of those" in note
    )
    assert f"the paper's attack, leaves {alone[0]:.1f} and {alone[1]:.1f} %" in note


def test_the_temperatures_of_the_note_leave_as_many_digits_as_it_says():
    """The strongest two and both ends; the chapter tries more, and its slider begins at the cold end."""
    said = re.search(
        r"strongest are T = (\S+) and (\S+): of (\d+) digits they leave (\d+) right, the coldest leaves (\d+) and the"
        r" hottest (\d+)",
        " ".join(SECOND.split()),
    )
    first, second, n, *left = (float(value) for value in said.groups())
    x, y = data.load("mnist", "test", limit=int(n))
    values = (0.003, first, second, 10)
    net = records.load("mnist", "q-base")[0]
    found = gradients.warmth(net, x, y, values=values, epsilons=(0, 0.1))
    for value, count in zip(values, (left[1], left[0], left[0], left[2]), strict=True):
        assert abs(found.soft[value][1] * n / 100 - count) <= 1, value
