"""A digit of one's own, made into an image as MNIST's were made.

MNIST's digits were scanned, fitted into a box of 20 x 20 pixels with their proportions kept, and placed so that their
centre of mass is the middle of 28 x 28. A network that was trained on them expects no less: the same stroke, off the
middle or twice as large, is another input altogether. `prepare` does this for any picture. The attack lab does it in
the page (book/_static/lab/images.js), by the same steps in the same order, so that both give the same bytes.
"""

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SIDE, BOX = 28, 20  # pixels of an image, and of the box that the longer side of a digit's ink fills
GREY = (19595, 38470, 7471)  # the weights of red, green and blue in grey, in 65,536ths
PENCIL = 0.75  # ink weaker than this share of full contrast is made as strong as a pen's
MOST_GRAIN = 64  # of 255 levels: what the paper's own unevenness may hide at most


def prepare(image: Image.Image | str | PathLike | np.ndarray | Tensor) -> Tensor:
    """Return a picture of one digit as a network for MNIST expects it.

    Ink may be dark on light or light on dark, in colour or grey, of any size; the background is told from the edge of
    the picture. What is transparent counts as background.

    Args:
        image: a PIL image, the path of a picture, or pixels ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``: integers
            from 0 to 255, floats from 0 to 1, or booleans.

    Returns:
        ``(1, 1, 28, 28)`` float32 in [0, 1], white ink on black, levels in steps of 1/255.

    Raises:
        ValueError: the picture can't be read, its numbers are no levels, or it shows nothing but background, or so
            little ink on so much of it that no pixel of 28 x 28 is left with any.
        FileNotFoundError: there is no file at that path.
        TypeError: it is none of these.
    """
    levels = ink(_rgba(image))
    rows, columns = np.flatnonzero(levels.any(1)), np.flatnonzero(levels.any(0))
    if not len(rows):
        raise ValueError("the picture shows nothing but its background: give a picture of one digit")
    cut = levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = _fit(cut)
    if not small.any():
        raise ValueError(
            "the picture shows specks that vanish when it is made 28 x 28: cut out one digit, in thicker strokes"
        )
    height, width = small.shape
    # the middle of pixel i is i + 0.5
    x = (small.sum(0) * (np.arange(width) + 0.5)).sum() / small.sum()
    y = (small.sum(1) * (np.arange(height) + 0.5)).sum() / small.sum()
    left, top = (math.floor(SIDE / 2 - centre + 0.5) for centre in (x, y))
    out = np.zeros((SIDE + 2 * BOX, SIDE + 2 * BOX))  # with room for a box that reaches over the edge
    out[BOX + top : BOX + top + height, BOX + left : BOX + left + width] = small
    pixels = (out[BOX : BOX + SIDE, BOX : BOX + SIDE] / 255).astype(np.float32)
    return torch.from_numpy(pixels)[None, None]


def ink(rgba: np.ndarray) -> np.ndarray:
    """Return the levels of a picture's ink, 0 for the background and up to 255: ``(H, W)`` uint8.

    Args:
        rgba: ``(H, W, 4)`` uint8: red, green, blue and opacity.
    """
    colours, opacity = rgba[..., :3].astype(np.int64), rgba[..., 3].astype(np.int64)
    grey = (colours @ np.array(GREY) + 32768) >> 16
    seen = opacity.sum()
    if seen < 255 * opacity.size:  # what is dark lies on white, what is light on black
        below = 0 if (opacity * grey).sum() > 127 * seen else 255
        grey = (grey * opacity + below * (255 - opacity) + 127) // 255
    edge = _edge(grey)
    paper = _quantile(edge, 0.5)
    if paper > 127:
        grey, edge, paper = 255 - grey, 255 - edge, 255 - paper
    # Paper has grain: what differs from it no more than its own edge does is not ink.
    grain = min(MOST_GRAIN, 2 * _quantile(np.abs(edge - paper), 0.9))
    above = np.where(grey - paper > grain, grey - paper, 0)
    darkest, full = int(above.max()), 255 - paper
    top = darkest if darkest < PENCIL * full else full
    return (np.floor(255 * above / top + 0.5) if top else above).astype(np.uint8)


def _fit(levels: np.ndarray) -> np.ndarray:
    """Scale ink that fills its picture to a longer side of 20: each new pixel is the mean of the area it covers."""
    longer = max(levels.shape)
    narrow = _means(levels.astype(np.float64), levels.shape[1], longer)  # columns first, as the page does
    return np.floor(np.minimum(255, _means(narrow.T, levels.shape[0], longer).T) + 0.5)


def _means(values: np.ndarray, size: int, longer: int) -> np.ndarray:
    """Return the means of equal parts of the last axis, of ``longer / 20`` pixels each: ``(rows, parts)``."""
    # A whole number over one that is no smaller: the quotient can't pass the box.
    step, count = longer / BOX, math.ceil(BOX * size / longer)
    means = np.zeros((len(values), count))
    for part in range(count):
        low, high = part * step, min(size, (part + 1) * step)
        for at in range(math.floor(low), math.ceil(high)):  # in this order: sums then round as the page's do
            share = (min(high, at + 1) - max(low, at)) / step
            means[:, part] += share * values[:, at]
    return means


def _edge(grey: np.ndarray) -> np.ndarray:
    inner = np.zeros(grey.shape, bool)
    inner[1:-1, 1:-1] = True
    return grey[~inner]


def _quantile(values: np.ndarray, share: float) -> int:
    """Return a level that is there, never a mean."""
    return int(np.sort(values)[math.floor(share * (len(values) - 1))])


def _rgba(image: Any) -> np.ndarray:
    """Return any picture as ``(H, W, 4)`` uint8."""
    if isinstance(image, str | PathLike):
        image = _read(Path(image))
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):  # 16 bits and more: numbers, not levels
            raise ValueError(
                f"a picture of mode {image.mode!r} has no levels from 0 to 255: image.convert('L')"
            )
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))  # upright, as the camera was held
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise TypeError(f"prepare takes a PIL image, a path or an array, not {type(image).__name__}")
    return _from_array(image)


def _read(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no picture at {path.resolve()}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path.name} is no picture that Pillow can read: {error}") from None
    return picture


def _from_array(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f"an array of shape {pixels.shape} is no picture: give (H, W), (H, W, 3) or (H, W, 4);"
            " of a batch (N, 1, H, W), one image is batch[i, 0]"
        )
    if pixels.dtype == bool:
        levels = pixels * 255
    elif np.issubdtype(pixels.dtype, np.floating):
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"floats must be levels from 0 to 1, and these go from {pixels.min()} to {pixels.max()}:"
                " divide levels of 0 to 255 by 255"
            )
        levels = np.floor(255 * pixels.astype(np.float64) + 0.5)
    elif np.issubdtype(pixels.dtype, np.integer):
        if pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(
                f"integers must be levels from 0 to 255, and these go from {pixels.min()} to {pixels.max()}"
            )
        levels = pixels
    else:
        raise TypeError(f"an array of {pixels.dtype} has no levels: give integers, floats or booleans")
    levels = levels.astype(np.uint8)
    if levels.shape[2] == 1:
        levels = levels.repeat(3, 2)
    opaque = np.full((*levels.shape[:2], 1), 255, np.uint8)
    return levels if levels.shape[2] == 4 else np.concatenate([levels, opaque], 2)
