"""What is recorded of a PixelCNN: how likely it finds the images of a set, and what it drew."""

import base64
import math

import numpy as np
from torch import Tensor

from qlayer_core.study import divergence


def samples(record: dict) -> np.ndarray:
    """Return the symbols drawn from the model, ``(n, heads, H, W)`` uint8."""
    shape = record["symbols"]
    drawn = np.frombuffer(base64.b64decode(record["samples"]), np.uint8)
    return drawn.reshape(-1, shape["heads"], *shape["side"]).copy()


def describe(record: dict, name: str) -> dict:
    """Return how far a recorded set of images lies from the clean one.

    Returns:
        ``set``; ``bits``, the mean per dimension; ``changed`` symbols and the Q-path's ``accuracy``, in percent, if
        known; for all but the clean set ``kl histogram`` and ``kl gaussian`` of the clean likelihoods from the
        set's, in nats, and ``auc``, each with its 95 % bootstrap interval (see `divergence`), and ``kl published``.
    """
    found = record["sets"][name]
    clean, values = unpack(record["sets"]["clean"]), unpack(found)
    row = {"set": name, "bits": float(-values.mean() / dimensions(record) / math.log(2))}
    row |= {fact: found[fact] for fact in ("changed", "accuracy") if fact in found}
    if name != "clean":
        row |= divergence.compare(clean, values)
        scale = dimensions(record) * record["symbols"]["values"]
        row["kl published"] = divergence.published(clean, values, scale)
    return row


def dimensions(record: dict) -> int:
    """Return how many symbols an image has, over all heads."""
    return record["symbols"]["heads"] * math.prod(record["symbols"]["side"])


def pack(values: Tensor) -> str:
    """Return ``(N,)`` numbers as base64 of little-endian float32."""
    return base64.b64encode(values.cpu().numpy().astype("<f4").tobytes()).decode()


def unpack(found: dict) -> np.ndarray:
    """Return the log-likelihoods of a recorded set in nats, ``(n,)`` float64."""
    return np.frombuffer(base64.b64decode(found["log_likelihoods"]), "<f4").astype(np.float64)
