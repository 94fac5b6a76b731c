# SPDX-License-Identifier: MIT
"""JPEG files to send: photos of 50-300 kB, and handwritten digits of 32x32.

Both come from scikit-learn's own data and fixed seeds, so nothing is downloaded. It runs in an
environment of its own (``python -m bench.photos PHOTOS_DIR DIGITS_DIR``): where scikit-learn is
installed, TensorFlow imports it as well, and every start would be 0.8 s slower.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

COUNT = 50
SEED = 2026
SMALLEST, LARGEST = 50_000, 300_000
"""Bytes of a photo: what phones and web sites send once they have scaled a picture down."""

SIDES = (600, 1600)
"""The longer side of a photo, in pixels."""


PICTURES = ("china", "flower")
"""scikit-learn's two pictures, in the order in which it gives them."""


def photos() -> list[tuple[bytes, str]]:
    """Crops of the two pictures, mirrored, zoomed, at several qualities, and which one it is."""
    random = np.random.default_rng(SEED)
    pictures = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    turns = [index % len(pictures) for index in range(COUNT)]
    return [(_photo(pictures[turn], random), PICTURES[turn]) for turn in turns]


def digits() -> list[tuple[bytes, str]]:
    """Digits, bright on black, and what each of them is."""
    data = load_digits()
    chosen = np.random.default_rng(SEED).choice(len(data.images), COUNT, replace=False)
    rendered = []
    for index in chosen:
        pixels = (data.images[index] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
        rendered.append((_jpeg(image.convert("RGB"), 90), str(data.target[index])))
    return rendered


def _photo(picture: Image.Image, random: np.random.Generator) -> bytes:
    part = random.uniform(0.55, 1.0)
    width, height = int(picture.width * part), int(picture.height * part)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    crop = picture.crop((left, top, left + width, top + height))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.3:
        crop = crop.transpose(Image.Transpose.ROTATE_90)
    side = int(random.integers(SIDES[0], SIDES[1] + 1))
    scale = side / max(crop.size)
    sized = crop.resize(
        (round(crop.width * scale), round(crop.height * scale)), Image.Resampling.BICUBIC
    )
    # Enlarging leaves no fine detail; a camera's noise brings it back.
    noise = random.normal(0, 4, (sized.height, sized.width, 1))
    grainy = np.clip(np.asarray(sized, np.float32) + noise, 0, 255).astype(np.uint8)
    quality = int(random.integers(70, 93))
    data = _jpeg(Image.fromarray(grainy), quality)
    while len(data) > LARGEST:
        quality -= 5
        data = _jpeg(Image.fromarray(grainy), quality)
    while len(data) < SMALLEST and quality < 95:
        quality += 1
        data = _jpeg(Image.fromarray(grainy), quality)
    return data


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def main(photos_dir: Path, digits_dir: Path) -> None:
    """Writes ``000.jpg`` and on into both directories, and ``answers.txt`` beside them."""
    for directory, images in ((photos_dir, photos()), (digits_dir, digits())):
        directory.mkdir(parents=True, exist_ok=True)
        for index, (data, _) in enumerate(images):
            (directory / f"{index:03}.jpg").write_bytes(data)
        (directory / "answers.txt").write_text("".join(f"{answer}\n" for _, answer in images))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
