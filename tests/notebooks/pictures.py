"""Do two pictures show the same? Not pixel by pixel: fonts, their smoothing and the resolution may differ."""

import io

import numpy as np
from PIL import Image, ImageFilter

_WIDTH = 240  # pixels to which both are shrunk
_BLUR = 2.5  # of these pixels
_SHARE = 0.005  # of the pixels: those in which the two differ most
_LARGEST = 8.0  # of 255 levels, by which these differ in pictures that show the same
_SHAPES = 0.03  # by which width / height of the two may differ


def same(one, other):
    """Whether two PNG files (bytes) show the same, as far as an eye can tell that stands back a little."""
    shapes = [image.width / image.height for image in map(_opened, (one, other))]
    return abs(shapes[0] / shapes[1] - 1) <= _SHAPES and difference(one, other) <= _LARGEST


def difference(one, other):
    """By how many of 255 levels two pictures differ in the parts in which they differ most.

    What each shows has to be found in the other at the same place or a pixel beside it.
    """
    images = [_opened(each) for each in (one, other)]
    height = round(_WIDTH * np.mean([image.height / image.width for image in images]))
    small = [image.resize((_WIDTH, height), Image.Resampling.LANCZOS) for image in images]
    pictures = [image.filter(ImageFilter.GaussianBlur(_BLUR)) for image in small]
    apart = np.maximum(_missing(*pictures), _missing(*reversed(pictures))).max(axis=2).ravel()
    worst = max(1, round(_SHARE * apart.size))
    return float(np.mean(np.sort(apart)[-worst:]))


def _opened(png):
    return Image.open(io.BytesIO(png)).convert("RGB")


def _missing(picture, other):
    """How far each pixel is from the values that the other picture has around it."""
    values, low, high = (
        np.asarray(each, float)
        for each in (picture, other.filter(ImageFilter.MinFilter(3)), other.filter(ImageFilter.MaxFilter(3)))
    )
    return np.maximum(0, np.maximum(low - values, values - high))
