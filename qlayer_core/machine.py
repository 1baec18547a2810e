"""What this machine is fast at: its device and its number format; and what a run draws on it.

Autocast keeps weights and optimizer state in float32 and runs convolutions and matrix products in bfloat16.
``QLAYER_PRECISION=float32`` forces full precision, ``bfloat16`` the other.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from qlayer_core.specs import PRINTED

CHOICES = ("auto", "float32", "bfloat16")


def device() -> torch.device:
    """Return where the command line trains and attacks: a GPU if torch finds one, else the CPU.

    A GPU is told to prefer algorithms that repeat their numbers, and that float32 means float32. An empty
    ``CUDA_VISIBLE_DEVICES`` hides it.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products may differ
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def number_format(device: torch.device | str = "cpu") -> str:
    """Return ``"bfloat16"`` or ``"float32"``: what matrix products run in on ``device``.

    Raises:
        ValueError: ``QLAYER_PRECISION`` is set to something else than auto, float32 or bfloat16.
    """
    wish = os.environ.get("QLAYER_PRECISION", "auto")
    if wish not in CHOICES:
        raise ValueError(f"QLAYER_PRECISION is {wish!r}; set it to one of {', '.join(CHOICES)}, or unset it")
    if wish != "auto":
        return wish
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Emulated bfloat16 is slower than float32, so only the real instructions count.
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_instructions else "float32"


def autocast(device: torch.device | str = "cpu") -> AbstractContextManager:
    """Return the context in which training, attacks and evaluation run on ``device``."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=number_format(device) == "bfloat16")


def seed_of(name: str, seed: int) -> int:
    """Return the seed of everything random in one run: different for each model and each ``seed``.

    A run by the paper's text draws what the one beside it draws, so that only their settings differ.
    """
    return zlib.crc32(f"{name.replace(PRINTED, '')}/{seed}".encode())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from ``seed``; those of others go on afterwards as if none had been drawn, on GPUs, too."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.manual_seed(seed)
        yield
