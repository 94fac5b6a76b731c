# SPDX-License-Identifier: MIT
"""Images of any usual format, as the pixels or the JPEG bytes that a model takes.

These functions block: they run in a worker's thread. The formats are tried by content; names and
declared types are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from smls.errors import BrokenImage, NotAnImage, SmlsError, TooLarge
from smls_node import aligning, resizing
from smls_node.layout import NCHW, NHWC

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")

_JPEG = b"\xff\xd8\xff"

_EXIF = b"Exif\x00\x00"

_EXIF_ORIENTATION = 0x0112

_SCAN = b"\xff\xda"
"""Begins a JPEG's first scan: the segments before it tell about the image."""

_SEGMENTS = 64
"""So many are looked at; files of cameras have a dozen, and colour profiles are in the others."""

# The bound on pixels is ours, told as an error of ours, per node.
Image.MAX_IMAGE_PIXELS = None


@frozen
class PixelSpec:
    """What a model takes: float32[height, width, channels], ``(value - mean) / std`` of values of
    0-255; with the channels first in the layout NCHW. ``mean`` and ``std`` may have a number for
    each channel."""

    height: int
    width: int
    channels: int = 3
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 255.0
    layout: str = NHWC


def decode(
    data: bytes, spec: PixelSpec, max_pixels: int, *, exact: bool = False
) -> NDArray[np.float32]:
    """The image as float32[H, W, C], or [C, H, W], as ``spec`` says: upright, its first frame.

    A JPEG is decoded only as large as is needed, by scaling in its DCT, and then scaled with a
    filter that looks at every pixel. ``exact`` does what label_image does instead: the whole
    image, then bilinear between the nearest four pixels, whatever lies between them.
    Alpha is dropped and 16-bit grey loses its low bits, as in TensorFlow's own decoders.

    :raises NotAnImage: where the bytes are in none of ``FORMATS``.
    :raises BrokenImage: where they are, but broken or cut short.
    :raises TooLarge: where the image has more than ``max_pixels`` pixels.
    """
    pixels = _jpeg(data, spec, max_pixels, exact) if data.startswith(_JPEG) else None
    if pixels is None:
        with _opened(data, max_pixels) as image:
            pixels = np.asarray(_upright(_colours(image, _mode(spec))))
    sized: NDArray[Any] = pixels
    if pixels.shape[:2] != (spec.height, spec.width):
        if exact:
            sized = _four_neighbours(pixels, spec)
        else:
            sized = resizing.resized(pixels, spec.height, spec.width)
    return scaled(sized.reshape(spec.height, spec.width, spec.channels), spec)


def scaled(pixels: NDArray[Any], spec: PixelSpec) -> NDArray[np.float32]:
    """Pixel values of 0-255, [H, W, C] of any type, as the model takes them."""
    if spec.layout == NCHW:
        return _normalized(pixels.transpose(2, 0, 1), spec, lambda each: each[:, None, None])
    # In rows, since numpy is five times as slow with a last side of three.
    flat = _normalized(
        pixels.reshape(spec.height, -1),
        spec,
        lambda each: np.tile(each, spec.width) if each.size > 1 else each,
    )
    return flat.reshape(spec.height, spec.width, spec.channels)


def _normalized(
    pixels: NDArray[Any], spec: PixelSpec, spread: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.float32]:
    """As ``spec`` says; ``spread`` gives the numbers of the channels the shape of ``pixels``."""
    told = (np.array(each, np.float32) for each in (spec.mean, spec.std))
    mean, std = (spread(np.atleast_1d(each)) for each in told)
    values: NDArray[np.float32] = aligning.empty(pixels.shape, np.float32)
    if mean.any():
        np.subtract(pixels, mean, out=values, dtype=np.float32)
        pixels = values
    np.divide(pixels, std, out=values, dtype=np.float32)
    return values


def enlarged(picture: NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.float32]:
    """A small uint8[h, w, 3] picture as float32[H, W, C] of 0-255, smoothly enlarged."""
    size = (spec.width, spec.height)
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    sized = image.convert("L") if spec.channels == 1 else image
    return np.asarray(sized, np.float32).reshape(spec.height, spec.width, spec.channels)


def as_jpeg(data: bytes, max_pixels: int) -> bytes:
    """The image as a JPEG file for a graph that decodes by itself.

    An upright JPEG in grey or colour passes as it is; anything else is written anew.

    :raises NotAnImage, BrokenImage, TooLarge: as ``decode``.
    """
    with _opened(data, max_pixels) as image:
        upright = image.getexif().get(_EXIF_ORIENTATION, 1) == 1
        if image.format == "JPEG" and image.mode in ("L", "RGB") and upright:
            return data
        file = BytesIO()
        colours = _upright(_colours(image, "RGB"))
        colours.save(file, "JPEG", quality=95, subsampling=0)
        return file.getvalue()


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image, its header read; whatever a decoder raises says that the bytes are broken."""
    if not data:
        raise NotAnImage("got an empty file, wanted an image")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise TooLarge(
                    f"got an image of {image.width}x{image.height} pixels, "
                    f"wanted {max_pixels} at most"
                )
            yield image
    except UnidentifiedImageError as error:
        if data.startswith(_MAGIC):
            raise BrokenImage("the image's header is broken or cut short") from error
        raise NotAnImage(
            f"got bytes that begin {data[:8]!r}, wanted {', '.join(FORMATS)}"
        ) from error
    except (SmlsError, MemoryError):
        raise
    except Exception as error:
        raise BrokenImage(f"the image is broken or cut short: {error}") from error


def _colours(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        high_bits = np.asarray(image).astype(np.uint32) >> 8
        grey = Image.fromarray(high_bits.astype(np.uint8))
        grey.info = image.info
        image = grey
    return image.convert(mode)


def _mode(spec: PixelSpec) -> str:
    return "L" if spec.channels == 1 else "RGB"


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if "exif" in image.info else image


def _jpeg(data: bytes, spec: PixelSpec, max_pixels: int, exact: bool) -> NDArray[np.uint8] | None:
    """A usual JPEG's pixels, uint8[h, w, C] and no smaller than needed; ``None`` for one with an
    orientation, in rare colours, or broken, which is left to Pillow and to its errors."""
    if _may_have_exif(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "RGB", "Gray") or height * width > max_pixels:
            return None
        least = {} if exact else {"min_height": spec.height, "min_width": spec.width}
        space = "GRAY" if spec.channels == 1 else "RGB"
        # The fast DCT with the slow upsampling is what TensorFlow's decoder does by default.
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, space, fastdct=True, **least)
    except ValueError:
        return None
    return pixels


def _may_have_exif(data: bytes) -> bool:
    """Whether a segment of a JPEG is EXIF data, or they are not what is usual: to look for EXIF's
    name among all bytes would take ten times as long."""
    place = 2
    for _ in range(_SEGMENTS):
        marker = data[place : place + 2]
        if marker == _SCAN:
            return False
        if marker[:1] != b"\xff" or data.startswith(_EXIF, place + 4):
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return True


def _four_neighbours(pixels: NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.float32]:
    """Bilinear as TensorFlow's ``resize_bilinear`` was at label_image's time: corners are not
    aligned, pixels count from their own corner, and nothing is averaged when it shrinks."""
    height, width = pixels.shape[:2]
    above, below, down = _between(height, spec.height)
    left, right, across = _between(width, spec.width)
    down, across = down[:, None, None], across[None, :, None]
    deep = pixels.reshape(height, width, spec.channels)

    def row(index: NDArray[np.intp]) -> NDArray[np.float32]:
        first = deep[index][:, left].astype(np.float32)
        blend: NDArray[np.float32] = first + (deep[index][:, right] - first) * across
        return blend

    top = row(above)
    sized: NDArray[np.float32] = top + (row(below) - top) * down
    return sized


def _between(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Any]:
    """For each of ``wanted`` places the pixels before and after it, and how far it is past."""
    place = np.arange(wanted, dtype=np.float32) * np.float32(size / wanted)
    before = np.minimum(place.astype(np.intp), size - 1)
    return before, np.minimum(before + 1, size - 1), (place - before).astype(np.float32)
