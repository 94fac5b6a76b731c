# SPDX-License-Identifier: MIT
"""Images of any usual format, as the pixels or the JPEG bytes that a model takes.

These functions block: they run in a worker's thread. The formats are tried by content; names and
declared types are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from smls.errors import BrokenImage, NotAnImage, SmlsError, TooLarge

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")

_EXIF_ORIENTATION = 0x0112

# The bound on pixels is ours, told as an error of ours, per node.
Image.MAX_IMAGE_PIXELS = None


@frozen
class PixelSpec:
    """What a model takes: float32[height, width, channels], ``(value - mean) / std``."""

    height: int
    width: int
    channels: int = 3
    mean: float = 0.0
    std: float = 255.0


def decode(data: bytes, spec: PixelSpec, max_pixels: int) -> NDArray[np.float32]:
    """The image as float32[H, W, C] as ``spec`` says: upright, first frame, bilinear.

    Alpha is dropped and 16-bit grey loses its low bits, as in TensorFlow's own decoders.

    :raises NotAnImage: where the bytes are in none of ``FORMATS``.
    :raises BrokenImage: where they are, but broken or cut short.
    :raises TooLarge: where the image has more than ``max_pixels`` pixels.
    """
    with _opened(data, max_pixels) as image:
        upright = ImageOps.exif_transpose(_colours(image, spec.channels))
        sized = upright.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(sized, np.float32).reshape(spec.height, spec.width, spec.channels)
    return scaled(pixels, spec)


def scaled(pixels: NDArray[np.float32], spec: PixelSpec) -> NDArray[np.float32]:
    """float32 pixel values of 0-255 as the model takes them."""
    return (pixels - np.float32(spec.mean)) / np.float32(spec.std)


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
        colours = ImageOps.exif_transpose(_colours(image, 3))
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


def _colours(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        high_bits = np.asarray(image).astype(np.uint32) >> 8
        grey = Image.fromarray(high_bits.astype(np.uint8))
        grey.info = image.info
        image = grey
    return image.convert("L" if channels == 1 else "RGB")
