# SPDX-License-Identifier: MIT
from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smls.errors import BadImage, BrokenImage, NotAnImage, TooLarge
from smls_node.images import FORMATS, PixelSpec, as_jpeg, decode

UNIT = PixelSpec(4, 6)


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def gradient(mode: str = "RGB", width: int = 60, height: int = 40) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.tile(across, (height, 1))).convert(mode)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pixels(kind: str) -> None:
    pixels = decode(saved(gradient(), kind), UNIT, 10_000)
    assert pixels.dtype == np.float32
    assert pixels.shape == (4, 6, 3)
    centres = (np.arange(6) + 0.5) / 6
    assert np.allclose(pixels.mean(axis=(0, 2)), centres, atol=0.06)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
        ("RGBA", "WEBP"),
        ("P", "GIF"),
        ("P", "BMP"),
    ],
)
def test_every_mode_becomes_colours(mode: str, kind: str) -> None:
    plain = decode(saved(gradient(), "PNG"), UNIT, 10_000)
    pixels = decode(saved(gradient(mode), kind), UNIT, 10_000)
    # One bit a pixel dithers and CMYK is not quite invertible; the gradient stays.
    assert np.abs(pixels - plain).mean() < 0.1
    assert pixels[:, 0].mean() < 0.2 < 0.8 < pixels[:, -1].mean()


def test_sixteen_bit_grey_keeps_its_high_bits() -> None:
    wide = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))
    pixels = decode(saved(Image.fromarray(wide), "PNG"), UNIT, 10_000)
    assert np.allclose(pixels, decode(saved(gradient(), "PNG"), UNIT, 10_000), atol=0.01)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        red, _, blue = decode(data, PixelSpec(1, 1), 100)[0, 0]
        assert red > 0.9 > 0.1 > blue


def test_exif_orientation_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = decode(saved(gradient(), "JPEG", exif=exif), UNIT, 10_000)
    assert turned[:, 0].mean() > 0.8
    assert turned[:, -1].mean() < 0.2
    upright = Image.open(BytesIO(as_jpeg(saved(gradient(), "JPEG", exif=exif), 10_000)))
    assert upright.convert("L").getpixel((0, 0)) > 200


@pytest.mark.parametrize(
    "before", [b"", b"\xff\xe2\xff\xff" + bytes(0xFFFD), b"\xff\xfe\0\x02" * 100, b"\xff\xff"]
)
def test_exif_is_found_wherever_it_stands(before: bytes) -> None:
    """Behind a colour profile, a hundred comments, and bytes that only fill."""
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved(gradient(), "JPEG", exif=exif)
    place = data.index(b"\xff\xe1")
    turned = decode(data[:place] + before + data[place:], UNIT, 10_000)
    assert turned[:, 0].mean() > 0.8
    assert turned[:, -1].mean() < 0.2


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("exact", [False, True])
def test_each_channel_has_its_own_mean_and_std(layout: str, exact: bool) -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    photo = (Path(__file__).parents[2] / "examples/digits/eight-large.jpg").read_bytes()
    plain = decode(photo, PixelSpec(40, 60, std=1.0), 10**7, exact=exact)
    wanted = (plain - np.float32(mean)) / np.float32(std)
    got = decode(photo, PixelSpec(40, 60, 3, mean, std, layout), 10**7, exact=exact)
    assert got.flags.c_contiguous
    assert got.shape == ((3, 40, 60) if layout == "NCHW" else (40, 60, 3))
    assert np.array_equal(got, wanted.transpose(2, 0, 1) if layout == "NCHW" else wanted)


def test_grey_models_with_channels_first() -> None:
    white = saved(Image.new("L", (3, 2), 255), "PNG")
    assert decode(white, PixelSpec(2, 3, 1, layout="NCHW"), 100).tolist() == [[[1.0] * 3] * 2]


def test_mean_std_and_grey_models() -> None:
    white = saved(Image.new("RGB", (5, 5), "white"), "PNG")
    assert decode(white, PixelSpec(2, 2, 1, mean=127.5, std=127.5), 100).tolist() == [
        [[1.0], [1.0]],
        [[1.0], [1.0]],
    ]


def test_what_is_too_large_is_told_before_it_is_decoded() -> None:
    bomb = saved(Image.new("1", (5000, 5000)), "PNG")
    assert len(bomb) < 10_000
    with pytest.raises(TooLarge, match="5000x5000"):
        decode(bomb, UNIT, 1_000_000)


def test_jpeg_passes_as_it_is_and_others_are_written_anew() -> None:
    jpeg = saved(gradient(), "JPEG")
    assert as_jpeg(jpeg, 10_000) is jpeg
    for mode, kind in (("RGB", "PNG"), ("CMYK", "JPEG")):
        again = as_jpeg(saved(gradient(mode), kind), 10_000)
        opened = Image.open(BytesIO(again))
        assert (opened.format, opened.mode) == ("JPEG", "RGB")


@pytest.mark.parametrize("kind", FORMATS)
@given(data=st.data())
def test_cut_or_changed_bytes_are_the_uploads_fault(kind: str, data: st.DataObject) -> None:
    whole = bytearray(saved(gradient(), kind))
    cut = data.draw(st.integers(0, len(whole)))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for decoded in (lambda b: decode(b, UNIT, 10_000), lambda b: as_jpeg(b, 10_000)):
        with suppress(BadImage, TooLarge):
            decoded(bytes(whole[:cut]))


def test_the_fault_is_named() -> None:
    jpeg = saved(gradient(), "JPEG")
    with pytest.raises(NotAnImage, match="empty"):
        decode(b"", UNIT, 100)
    with pytest.raises(NotAnImage, match="hello"):
        decode(b"hello world", UNIT, 100)
    with pytest.raises(BrokenImage):
        decode(jpeg[:20], UNIT, 10_000)
    with pytest.raises(BrokenImage):
        decode(jpeg[: len(jpeg) // 2], UNIT, 10_000)


def test_scaled_decoding_moves_pixels_little() -> None:
    photo = Image.effect_noise((60, 45), 60).convert("RGB").resize((1200, 900), 3)
    data = saved(photo, "JPEG", quality=90)
    spec = PixelSpec(100, 100)
    with Image.open(BytesIO(data)) as whole:
        full = np.asarray(whole.resize((100, 100), Image.Resampling.BILINEAR), np.float32) / 255
    assert np.abs(decode(data, spec, 10**7) - full).mean() < 0.03


@pytest.mark.parametrize("size", [(640, 427), (33, 200), (20, 20), (100, 50)])
def test_exact_decoding_gives_label_images_pixels(size: tuple[int, int]) -> None:
    tf = pytest.importorskip("tensorflow")
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), "JPEG")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.cast(tf.image.decode_jpeg(data, channels=3), tf.float32)[None]
        sized = tf.compat.v1.image.resize_bilinear(pixels, [50, 80])
        expected = session.run(sized / 255.0)[0]
    got = decode(data, PixelSpec(50, 80), 10**7, exact=True)
    assert np.abs(got - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_one_pixel_wide_or_high_is_an_image(size: tuple[int, int], channels: int) -> None:
    image = saved(Image.new("RGB", size, (255, 255, 255)), "PNG")
    pixels = decode(image, PixelSpec(4, 6, channels), 100)
    assert pixels.shape == (4, 6, channels)
    assert pixels.min() == 1
