"""What "In a network of your own" says of a comparison follows from which images are right."""

import torch

from qlayer_core.show import own


def results(plain: int, layered: int, count: int = 200) -> dict:
    numbers = torch.arange(count)
    return {"clean": {"plain": numbers < plain, "with": numbers < layered}}


def test_a_verdict_commits_itself_only_where_the_interval_does():
    assert "right on 20.0 points fewer" in own.verdict(results(180, 140))
    assert "right on 20.0 points more" in own.verdict(results(140, 180))
    assert "not clearly better or worse (+0.5 points)" in own.verdict(results(100, 101))


def test_a_comparison_shows_percent_of_right_answers():
    html = own.comparison(results(180, 141)).html
    assert "<td>90.0</td><td>70.5</td>" in html and "200 test images" in html
