"""The number format follows the machine unless it is chosen."""

import pytest
import torch

from qlayer_core import machine


@pytest.mark.parametrize("wish", ["float32", "bfloat16"])
def test_the_chosen_format_is_used(wish, monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", wish)
    assert machine.number_format() == wish
    with machine.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert str(product.dtype) == f"torch.{wish}"


@pytest.mark.parametrize("fast", [False, True])
def test_bfloat16_needs_the_instructions(fast, monkeypatch):
    monkeypatch.delenv("QLAYER_PRECISION")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert machine.number_format() == ("bfloat16" if fast else "float32")
    monkeypatch.setenv("QLAYER_PRECISION", "auto")
    assert machine.number_format("cpu") == ("bfloat16" if fast else "float32")


def test_an_unknown_format_is_refused(monkeypatch):
    monkeypatch.setenv("QLAYER_PRECISION", "float16")
    with pytest.raises(
        ValueError, match="QLAYER_PRECISION is 'float16'; set it to one of auto, float32, bfloat16"
    ):
        machine.number_format()
