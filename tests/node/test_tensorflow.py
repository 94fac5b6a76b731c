# SPDX-License-Identifier: MIT
"""label_image's two kinds of graph, through a real session, against ``Session.run`` itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smls.errors import BrokenImage, ModelUnusable
from smls_node.images import PixelSpec
from smls_node.joining import Runner
from smls_node.loading import check_distinct, load
from smls_node.means import Means
from smls_node.pools import Pools
from smls_node.runtimes import GraphFiles, Runtime
from smls_node.runtimes.tensorflow import load as load_graph
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT
from smls_node.tasks import ImageTask, image_task

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

WEIGHTS = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)


def write(path: Path, build: Callable[[], Any]) -> Path:
    graph = tf.Graph()
    with graph.as_default():
        build()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def scores(pixels: Any, name: str = "final_result") -> Any:
    return tf.nn.softmax(tf.matmul(tf.reshape(pixels, [-1, 48]), WEIGHTS), name=name)


def float_graph(shape: Any = (None, 4, 4, 3)) -> None:
    scores(v1.placeholder(tf.float32, shape, name="input"))


def jpeg_graph() -> None:
    contents = v1.placeholder(tf.string, [], name="DecodeJpeg/contents")
    pixels = tf.cast(tf.image.decode_jpeg(contents, channels=3, name="DecodeJpeg"), tf.float32)
    scores(tf.image.resize(pixels[None] / 255, [4, 4]))


def means(findings: Path) -> Means:
    return Means(findings, Pools(), time.monotonic)


def task_of(model: Runtime, mean: float = 0.0, std: float = 255.0) -> ImageTask:
    task = image_task(model.signatures, mean, std)
    assert task is not None
    return task


def answers(model: Runtime, *images: Any) -> NDArray[np.float32]:
    """A row of scores an image, or the first error."""
    task = task_of(model)
    rows = []
    for outputs in Runner(model)([task.inputs(image) for image in images]):
        if isinstance(outputs, Exception):
            raise outputs
        rows.append(task.scores(outputs))
    return np.stack(rows)


def direct(path: Path, source: str, value: Any) -> Any:
    with tf.Graph().as_default() as graph:
        v1.import_graph_def(v1.GraphDef.FromString(path.read_bytes()), name="")
        with v1.Session(graph=graph) as session:
            return session.run("final_result:0", {source: value})


def test_a_float_graph_is_found_out_and_run_in_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", float_graph)
    model = load_graph(GraphFiles(path, mean=1.0, std=2.0))
    task = task_of(model, 1.0, 2.0)
    assert task == ImageTask(DEFAULT, "input", "final_result", PixelSpec(4, 4, 3, 1.0, 2.0), 3)
    assert model.signatures[DEFAULT].batches
    batch = np.random.default_rng(1).random((5, 4, 4, 3), np.float32)
    together = answers(model, *batch)
    assert np.allclose(together, direct(path, "input:0", batch), atol=1e-6)
    alone = np.concatenate([answers(model, each) for each in batch])
    assert np.abs(together - alone).max() < 1e-6
    model.unload()


def test_a_graph_with_a_fixed_batch_of_one_runs_several_images(tmp_path: Path) -> None:
    model = load_graph(GraphFiles(write(tmp_path / "g.pb", lambda: float_graph((1, 4, 4, 3)))))
    assert not model.signatures[DEFAULT].batches
    assert answers(model, *[np.zeros((4, 4, 3), np.float32)] * 3).shape == (3, 3)


def test_a_graph_that_takes_jpeg_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", jpeg_graph)
    model = load_graph(GraphFiles(path))
    assert task_of(model).pixels is None
    file = BytesIO()
    Image.effect_noise((30, 20), 90).convert("RGB").save(file, "JPEG")
    expected = direct(path, "DecodeJpeg/contents:0", file.getvalue())
    assert np.allclose(answers(model, file.getvalue()), expected, atol=1e-6)
    with pytest.raises(BrokenImage, match="Invalid JPEG"):
        answers(model, file.getvalue()[:100])


def test_a_jpeg_constant_as_old_inception_graphs_have_it(tmp_path: Path) -> None:
    black = BytesIO()
    Image.new("RGB", (8, 8)).save(black, "JPEG")

    def build() -> None:
        contents = tf.constant(black.getvalue(), name="DecodeJpeg/contents")
        pixels = tf.cast(tf.image.decode_jpeg(contents, channels=3), tf.float32)
        scores(tf.image.resize(pixels[None] / 255, [4, 4]))

    model = load_graph(GraphFiles(write(tmp_path / "g.pb", build)))
    white = BytesIO()
    Image.new("RGB", (8, 8), "white").save(white, "JPEG")
    assert not np.allclose(answers(model, white.getvalue()), answers(model, black.getvalue()))


def test_layers_may_be_named_with_or_without_port_and_import(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", float_graph)
    for source, target in (("input", "final_result"), ("import/input:0", "import/final_result:0")):
        assert task_of(load_graph(GraphFiles(path, source, target))).classes == 3


def test_several_candidates_are_listed(tmp_path: Path) -> None:
    def two_inputs() -> None:
        first = v1.placeholder(tf.float32, [None, 4, 4, 3], name="left")
        second = v1.placeholder(tf.float32, [None, 4, 4, 3], name="right")
        scores(first + second)

    def two_outputs() -> None:
        pixels = v1.placeholder(tf.float32, [None, 4, 4, 3], name="input")
        scores(pixels, "species")
        scores(-pixels, "colour")

    with pytest.raises(ModelUnusable, match=r"--input-layer.*left:0.*right:0"):
        load_graph(GraphFiles(write(tmp_path / "i.pb", two_inputs)))
    path = write(tmp_path / "o.pb", two_outputs)
    with pytest.raises(ModelUnusable, match=r"--output-layer.*species:0.*colour:0"):
        load_graph(GraphFiles(path))
    with pytest.raises(ModelUnusable, match=r"got 'nope'.*species:0"):
        load_graph(GraphFiles(path, output_layer="nope"))
    assert task_of(load_graph(GraphFiles(path, output_layer="colour"))).output == "colour"


def test_a_graph_without_an_image_input_says_what_it_has(tmp_path: Path) -> None:
    def words() -> None:
        tf.nn.softmax(v1.placeholder(tf.float32, [None, 7], name="embedding"), name="out")

    with pytest.raises(ModelUnusable, match=r"--input-layer.*embedding:0"):
        load_graph(GraphFiles(write(tmp_path / "g.pb", words)))


def test_an_open_size_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", lambda: float_graph((None, None, None, 3)))
    with pytest.raises(ModelUnusable, match="--input-height"):
        load_graph(GraphFiles(path))
    model = load_graph(GraphFiles(path, height=4, width=4))
    assert task_of(model).pixels == PixelSpec(4, 4)


def test_unusable_files_are_told(tmp_path: Path) -> None:
    labels = tmp_path / "l.txt"
    labels.write_text("a\nb\n")
    path = write(tmp_path / "g.pb", float_graph)
    with pytest.raises(ModelUnusable, match=r"l\.txt has 2 labels.*gives 3"):
        load(ModelSettings(path, labels, operator_threads=1, runs=1), means(tmp_path))
    junk = tmp_path / "junk.pb"
    junk.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelUnusable, match=r"junk\.pb is no frozen graph"):
        load_graph(GraphFiles(junk))
    with pytest.raises(ModelUnusable, match="No such file"):
        load_graph(GraphFiles(tmp_path / "absent.pb"))
    cut = tmp_path / "cut.pb"
    cut.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelUnusable, match=r"cut\.pb"):
        load_graph(GraphFiles(cut))


def test_a_graph_that_is_not_frozen_is_told(tmp_path: Path) -> None:
    def unfrozen() -> None:
        pixels = v1.placeholder(tf.float32, [None, 4, 4, 3], name="input")
        weights = v1.get_variable("w", [48, 3], use_resource=False)
        tf.nn.softmax(tf.matmul(tf.reshape(pixels, [-1, 48]), weights), name="out")

    with pytest.raises(ModelUnusable, match=r"first run failed.*uninitialized"):
        load_graph(GraphFiles(write(tmp_path / "g.pb", unfrozen)))


def test_one_session_answers_several_threads(tmp_path: Path) -> None:
    model = load_graph(GraphFiles(write(tmp_path / "g.pb", float_graph)))
    images = list(np.random.default_rng(2).random((64, 4, 4, 3), np.float32))
    expected = answers(model, *images)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda each: answers(model, each)[0], images))
    assert np.abs(np.stack(rows) - expected).max() < 1e-6


def test_two_models_of_one_name_and_version_are_told() -> None:
    first, second = (ModelSettings(Path(folder, "out.pb")) for folder in ("a", "b"))
    with pytest.raises(ModelUnusable, match=r"a/out\.pb and b/out\.pb"):
        check_distinct([first, second])
    check_distinct([first, ModelSettings(Path("b/out.pb"), version="2")])
