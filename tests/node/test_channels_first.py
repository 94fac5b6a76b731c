# SPDX-License-Identifier: MIT
"""Image models as PyTorch's users have them: channels first, ImageNet's numbers, logits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from smls.errors import ModelUnusable
from smls_node import loading, services, tuning
from smls_node.settings import ModelSettings
from smls_node.tasks import ImageTask
from tests.node.formats import means, opened
from tests.processes import ROOT

PHOTO = ROOT / "examples" / "digits" / "eight-large.jpg"

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

CLASSES = 5

FED = {"mean": MEAN, "std": STD}


def saved(folder: Path, *sides: Any, first: Any = "n", channels: int = 3) -> Path:
    """A convolution, its mean over the image, and logits: the ends of every classifier."""
    random = np.random.default_rng(0)
    weights = {
        "kernels": random.normal(size=(8, channels, 3, 3)),
        "matrix": random.normal(size=(8, CLASSES)) / 5,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["lit"]),
        helper.make_node("GlobalAveragePool", ["lit"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("image", TensorProto.FLOAT, [first, channels, *sides])],
        [value("logits", TensorProto.FLOAT, [first, CLASSES])],
        [numpy_helper.from_array(np.float32(each), name) for name, each in weights.items()],
    )
    path = folder / "net.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    (folder / "labels.txt").write_text("".join(f"class {n}\n" for n in range(CLASSES)))
    return path


def alone(path: Path, image: Image.Image) -> Any:
    """What onnxruntime gives, fed as PyTorch's users write it."""
    colours = image.convert("RGB")
    pixels = np.asarray(colours, np.float32).transpose(2, 0, 1) / 255
    mean, std = (np.array(each, np.float32)[:, None, None] / 255 for each in (MEAN, STD))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"image": ((pixels - mean) / std)[None]})
    return rows[0]


def softmax(logits: Any) -> Any:
    parts = np.exp(logits - logits.max())
    return parts / parts.sum()


def in_order(pairs: Any) -> Any:
    return np.array([score for _, score in sorted(pairs)], np.float32)


def check_same(pairs: Any, wanted: Any, within: float) -> None:
    apart = float(np.abs(in_order(pairs) - wanted).max())
    print(f"max abs difference {apart:.3g}")
    assert apart <= within
    assert pairs[0][0] == f"class {wanted.argmax()}"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("first", ["n", 1])
@pytest.mark.parametrize("is_told", [False, True])
def test_an_image_gets_the_librarys_own_scores(tmp_path: Path, first: Any, is_told: bool) -> None:
    photo = Image.open(PHOTO)
    sides = ("h", "w") if is_told else (photo.height, photo.width)
    path = saved(tmp_path, *sides, first=first)
    told = {"height": photo.height, "width": photo.width, "layout": "NCHW"} if is_told else {}
    service = services.get("net", path=path, labels=tmp_path / "labels.txt", **FED, **told)
    wanted = alone(path, photo)
    check_same(service.run(png(photo)), wanted, 1e-5)
    # Two decoders of JPEG differ by a step here and there.
    check_same(service.run(PHOTO.read_bytes()), wanted, 0.05)
    several = service.run([PHOTO.read_bytes(), png(photo)])
    assert [len(each) for each in several] == [CLASSES, CLASSES]
    service.give_back()


def test_logits_become_parts_of_one_where_that_is_told(tmp_path: Path) -> None:
    photo = Image.open(PHOTO)
    path = saved(tmp_path, photo.height, photo.width)
    service = services.get(
        "net", path=path, labels=tmp_path / "labels.txt", scores="softmax", **FED
    )
    pairs = service.run(png(photo))
    check_same(pairs, softmax(alone(path, photo)), 1e-5)
    assert sum(score for _, score in pairs) == pytest.approx(1, abs=1e-6)
    tensors = service.run(image=np.zeros((2, 3, photo.height, photo.width), np.float32))
    assert tensors["logits"].shape == (2, CLASSES)
    service.give_back()


def test_it_is_warmed_up_and_measured_at_its_size(tmp_path: Path) -> None:
    model = opened(
        saved(tmp_path, "h", "w"), tmp_path, labels=tmp_path / "labels.txt", height=6, width=9
    )
    assert {name: each.shape for name, each in model.runtime.example.items()} == {
        "image": (1, 3, 6, 9)
    }
    assert isinstance(model.task, ImageTask)
    assert model.task.pixels is not None
    assert (model.task.pixels.height, model.task.pixels.width) == (6, 9)
    assert tuning.seconds_of(model.runtime, 2, 1) > 0
    measured = loading.load(
        ModelSettings(tmp_path / "net.onnx", height=6, width=9, runs=1, operator_threads=1),
        means(tmp_path),
    )
    assert dict(measured.arrangement.anchors).keys() >= {1}


@pytest.mark.parametrize(
    ("made", "settings", "told"),
    [
        (
            (6, 9),
            {"layout": "NHWC"},
            r"wanted one input FP32\[\?, H, W, 3\] or FP32\[\?, 3, H, W\]",
        ),
        (("h", 9), {}, "give input_height and input_width"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, made: tuple[Any, ...], settings: dict[str, Any], told: str
) -> None:
    path = saved(tmp_path, *made)
    with pytest.raises(ModelUnusable, match=told):
        opened(path, tmp_path, labels=tmp_path / "labels.txt", **settings)


def test_a_grey_model_has_one_mean(tmp_path: Path) -> None:
    path = saved(tmp_path, 6, 9, channels=1)
    with pytest.raises(ModelUnusable, match=r"input_mean: got 3 numbers, .* input image has 1"):
        opened(path, tmp_path, labels=tmp_path / "labels.txt", mean=MEAN)
    model = opened(path, tmp_path, labels=tmp_path / "labels.txt", mean=127.5, std=127.5)
    assert isinstance(model.task, ImageTask)


def test_a_fixed_batch_of_several_takes_no_single_image(tmp_path: Path) -> None:
    path = saved(tmp_path, 6, 9, first=4)
    with pytest.raises(ModelUnusable, match="labels are for models of images"):
        opened(path, tmp_path, labels=tmp_path / "labels.txt")
