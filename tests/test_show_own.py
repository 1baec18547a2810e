"""What "In a network of your own" says of a comparison follows from which images are right."""

import torch

from qlayer_core.show import own


def results(plain: int, layered: int, count: int = 200) -> dict:
    numbers = torch.arange(count)
    return {"clean": {"plain": numbers < plain, "with": numbers < layered}}


def test_a_verdict_commits_itself_only_where_the_interval_does():
    assert "clearly worse: \N{MINUS SIGN}20.0 points on clean images" in own.verdict(results(180, 140))
    assert "clearly better: +20.0 points on clean images" in own.verdict(results(140, 180))
    assert "No clear difference: +0.5 points on clean images" in own.verdict(results(100, 101))


def test_a_verdict_says_where_no_gain_is_against_an_attacker_who_knows_the_layer():
    numbers = torch.arange(200)
    gain = {"plain": numbers < 20, "with": numbers < 80}
    none = {"plain": numbers < 20, "with": numbers < 21}
    assert "no clear gain against one that knows it" in own.verdict(
        {"BIM 0.2": gain, "BIM 0.2, adaptive": none}
    )
    assert "knows it" not in own.verdict({"BIM 0.2": gain, "BIM 0.2, adaptive": gain})


def test_a_comparison_shows_percent_of_right_answers():
    html = own.comparison(results(180, 141)).html
    assert "<td>90.0</td><td>70.5</td>" in html and "200 test images" in html
