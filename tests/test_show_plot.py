"""Figures carry their text alternative and the page's colours."""

import re
from xml.etree import ElementTree

import pytest

from qlayer_core.show import plot


@plot.picture
def line(alternative: str):
    figure, grid = plot.axes(4, 2)
    grid[0, 0].plot([0, 1], [0, 1])
    grid[0, 0].set_title("a title")
    return figure, alternative


def test_a_figure_is_one_svg_with_its_text_alternative():
    markup = line('less < more & "more"')
    (svg,) = ElementTree.fromstring(markup.html)
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == 'less < more & "more"' == repr(markup)


def test_text_stays_text_in_the_colours_of_the_page():
    html = line("").html
    assert re.search(r"<text[^>]*>a title</text>", html)
    assert "var(--pst-color-text-base" in html
    assert plot.TEXT not in html.replace(f"{plot.TEXT})", "")  # only as the variable's fallback


def test_a_figure_scales_with_the_page():
    html = line("").html
    svg = html[: html.index(">", html.index("<svg"))]
    assert "width: 100%; max-width: 384px" in svg  # 4 inches
    assert not re.search(r'\s(width|height)="', svg)


@pytest.mark.parametrize("width, small", [(5, False), (9, True)])
def test_a_wide_figure_says_that_its_text_is_small_on_a_phone(width, small):
    """11 points at 5 inches are 11 pixels where a figure is 358 pixels wide; at 9 inches they are 6."""

    @plot.picture
    def drawn():
        return plot.axes(width, 2)[0], "a figure"

    assert ("small-print" in drawn().html) == small


def test_the_same_drawing_gives_the_same_bytes():
    assert line("").html == line("").html


def test_curves_say_where_they_begin_and_end():
    assert "a from 1 at 0 to 3 at 2" in plot.curves({"a": ([0, 2], [1, 3])}, x="x", y="y").text


def test_counts_have_an_axis_of_whole_numbers():
    picture = plot.curves({"none": ([1.0, 2.0], [0, 0])}, x="epoch", y="codes").html
    ticks = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    assert ticks.count("0") == 1 and not any(tick.startswith(("0.", "\N{MINUS SIGN}")) for tick in ticks)


def ticks(xs):
    """The labels on the x axis of a curve over these values, which lie above all y values."""
    html = plot.curves({"a": (xs, [100 * x for x in range(len(xs))])}, x="x", y="y", top=1000).html
    return [float(text) for text in re.findall(r"<text[^>]*>([\d.]+)</text>", html)], html


@pytest.mark.parametrize("xs", [range(1, 7), [1.0, 2.0, 3.0], range(41)])
def test_epochs_have_whole_numbers_below_them(xs):
    found, html = ticks(xs)
    assert all(tick.is_integer() for tick in found) and not re.search(r">\d+\.\d+</text>", html)


def test_what_is_no_whole_number_keeps_its_decimals():
    found, _ = ticks([0, 0.1, 0.2, 0.3])
    assert 0.1 in found


def test_a_matrix_says_its_numbers():
    assert "r: c 2.5, d 0.0" in plot.matrix([[2.5, 0]], ["r"], ["c", "d"]).text


def test_curves_beyond_the_fourth_are_drawn_too():
    lines = {str(i): ([0, 1], [i, i]) for i in range(6)}
    assert "5 from 5 at 0" in plot.curves(lines, x="x", y="y").text


def test_many_names_above_curves_leave_them_more_than_half_of_the_picture():
    lines = {f"network {i}, all attacks": ([0, 1], [i, i]) for i in range(6)}
    figure, _ = plot.curves.__wrapped__(lines, x="x", y="y", above=True)
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().height > 0.5


def test_a_mark_is_named():
    assert "kept at 3" in plot.curves({"a": ([0, 5], [1, 2])}, x="x", y="y", mark=(3, "kept")).text


def test_names_of_curves_stand_apart():
    assert plot.apart({"low": 20.0, "high": 90.0}, gap=9) == {"low": 20.0, "high": 90.0}
    assert plot.apart({"a": 98.0, "c": 50.0, "b": 97.0}, gap=9) == {"a": 98.0, "b": 89.0, "c": 50.0}
    assert plot.apart({"a": 10.0, "b": 10.0, "c": 9.0}, gap=9) == {"a": 18.0, "b": 9.0, "c": 0.0}
