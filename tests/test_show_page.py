"""Tables, paragraphs and numbers say what they are given, also to those who hear them."""

import pytest

from qlayer_core.show import page


def test_a_table_names_its_rows_and_columns():
    html = page.table([["one", "1"]], ["", "value"], "caption").html
    assert '<th scope="row">one</th><td>1</td>' in html
    assert '<th scope="col">value</th>' in html
    assert ">caption</figcaption>" in html


def test_a_paragraph_is_set_as_print_is():
    """Escaped; a number keeps its percent sign; what is plain stays plain for a terminal."""
    said = page.paragraph("a < b: Q-large's 5 %")
    assert said.html == "<p>a &lt; b: Q-large&rsquo;s 5&nbsp;%</p>" and repr(said) == "a < b: Q-large's 5 %"


def test_a_finding_stands_in_a_box_of_its_own_that_says_so():
    said = page.finding("Q-base < CNN")
    assert said.html.startswith('<div class="found"><p><strong>What we found.</strong> Q-base &lt; CNN')
    assert repr(said) == "Q-base < CNN"


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (float("nan"), "-"), (12.345, "12.35")])
def test_a_missing_number_is_a_dash(value, text):
    assert page.decimal(value) == text


def test_a_number_that_rounds_to_zero_has_no_minus():
    assert page.decimal(-0.001, 1, sign=True) == "0.0"
    assert page.decimal(-1.25, 1, sign=True) == "-1.2"


def test_a_half_is_rounded_up_as_a_reader_does():
    assert [page.whole(value) for value in (48.5, 69.5, 48.49, 0.0)] == ["49", "70", "48", "0"]


def test_a_caption_is_plain_text():
    assert "C&amp;W &lt; BIM</figcaption>" in page.table([], [""], "C&W < BIM").html


def test_an_unreliable_number_is_struck_through_and_says_why():
    html = page.struck("59.05", 'no "gradient"')
    assert html.startswith('<s title="no &quot;gradient&quot;">59.05</s>')
    assert "unreliable: no &quot;gradient&quot;" in html.split("</s>")[1]  # for those who hear it
    assert page.struck("59.05", None) == "59.05"


def test_words_are_listed_as_in_a_sentence():
    assert [page.listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_joined_pieces_keep_their_order_in_html_and_in_words():
    both = page.joined(page.paragraph("one"), page.paragraph("two"))
    assert (both.html, both.text) == ("<p>one</p><p>two</p>", "one two")


def test_a_mean_stands_with_its_range_where_there_are_several():
    assert page.mean_and_range([4.0, 1.0, 7.0]) == ("4.0", "1.0 to 7.0")
    assert page.mean_and_range([2.0, -1.0], sign=True) == ("+0.5", "-1.0 to +2.0")
    assert page.mean_and_range([3.0]) == ("3.0", "-") and page.mean_and_range([]) == ("-", "-")
