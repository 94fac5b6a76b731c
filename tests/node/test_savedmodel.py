# SPDX-License-Identifier: MIT
"""SavedModels of TensorFlow 1 and 2, against TensorFlow's own way to run them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twisted.python.usage import UsageError

from smls.errors import BadRequest, ModelUnusable
from smls_node.images import PixelSpec
from smls_node.joining import Runner
from smls_node.settings import Device
from smls_node.signature import DEFAULT, Inputs
from smls_node.tap import Options
from tests.node.formats import asked, check_same, opened, told

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

WORDS = ["the", "cat", "sat"]

TEXTS = np.array([b"the cat", b"sat sat", "größer".encode(), b""], np.object_)


class Encoder(tf.Module):  # type: ignore[misc, unused-ignore]
    """Texts to vectors, by a table that is read from a file of words; and arithmetic."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        vocabulary = folder / "words.txt"
        vocabulary.write_text("\n".join(WORDS))
        self.words = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            1,
        )  # fmt: skip
        weights = np.random.default_rng(0).normal(size=(len(WORDS) + 1, 8))
        self.weights = tf.Variable(weights.astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def embed(self, texts: Any) -> Any:
        words = tf.strings.split(texts)
        vectors = tf.gather(self.weights, self.words.lookup(words))
        return {"vectors": tf.reduce_sum(vectors.to_tensor(), 1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.int64, name="left"),
            tf.TensorSpec([None, 2], tf.float64, name="right"),
        ]
    )
    def add(self, left: Any, right: Any) -> Any:
        return {"sum": tf.cast(left, tf.float64) + right, "which": left, "again": left}

    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def total(self, x: Any) -> Any:
        return tf.reduce_sum(x)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of TensorFlow 2; the file of words is its own."""
    folder = tmp_path_factory.mktemp("made")
    module = Encoder(folder)
    path = tmp_path_factory.mktemp("encoder")
    signatures = {DEFAULT: module.embed, "add": module.add, "total": module.total}
    tf.saved_model.save(module, str(path), signatures=signatures)
    shutil.rmtree(folder)
    return path


def save_v1(path: Path, signatures: Callable[[], dict[str, Any]]) -> Path:
    """A SavedModel as TensorFlow 1 writes it, with its tables in the old initialising operation."""
    with tf.Graph().as_default(), v1.Session() as session:
        made = signatures()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map=made,
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return path


def signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str = "predict") -> Any:
    def infos(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: v1.saved_model.build_tensor_info(each) for name, each in tensors.items()}

    return v1.saved_model.build_signature_def(
        infos(inputs), infos(outputs), f"tensorflow/serving/{method}"
    )


def test_every_signature_answers_as_tensorflow_does(encoder: Path, tmp_path: Path) -> None:
    model = opened(encoder, tmp_path).runtime
    assert list(model.signatures) == [DEFAULT, "add", "total"]
    assert told(model) == ({"texts": "BYTES[?]"}, {"vectors": "FP32[?, 8]"})
    assert told(model, "add") == (
        {"left": "INT64[?, 2]", "right": "FP64[?, 2]"},
        {"again": "INT64[?, 2]", "sum": "FP64[?, 2]", "which": "INT64[?, 2]"},
    )
    assert [model.signatures[name].batches for name in model.signatures] == [True, True, False]
    direct = tf.saved_model.load(str(encoder)).signatures
    left, right = np.arange(6).reshape(3, 2), np.random.default_rng(1).random((3, 2))
    for name, inputs in (
        (DEFAULT, {"texts": TEXTS}),
        ("add", {"left": left, "right": right}),
        ("total", {"x": np.array([1, 2, 4], np.float32)}),
    ):
        given = {each: tf.constant(array) for each, array in inputs.items()}
        wanted = {each: got.numpy() for each, got in direct[name](**given).items()}
        check_same(asked(model, inputs, name), wanted, 1e-6)
    model.unload()


def test_requests_are_run_together(encoder: Path, tmp_path: Path) -> None:
    model = opened(encoder, tmp_path).runtime
    batch = [Inputs({"texts": TEXTS[:1]}, 1), Inputs({"texts": TEXTS[1:]}, 3)]
    first, second = Runner(model)(batch)
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    together = np.concatenate([first["vectors"], second["vectors"]])
    check_same({"vectors": together}, asked(model, {"texts": TEXTS}), 1e-6)
    model.unload()


def test_a_model_of_tensorflow_1_with_a_table_and_its_methods(tmp_path: Path) -> None:
    def build() -> dict[str, Any]:
        examples = v1.placeholder(tf.string, [None], name="examples")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([2], tf.float32)})
        weights = v1.get_variable("w", initializer=np.eye(2, 3, dtype=np.float32))
        scores = tf.matmul(parsed["x"], weights)
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.range(3, dtype=tf.int64), list("abc")), ""
        )
        best = table.lookup(tf.cast(tf.argsort(-scores), tf.int64))
        return {
            "by_class": signature({"inputs": examples}, {"classes": best, "scores": scores},
                                  "classify"),
            "by_value": signature({"inputs": examples}, {"outputs": scores[:, :1]}, "regress"),
            DEFAULT: signature({"x": parsed["x"]}, {"y": scores, "z": scores}),
        }  # fmt: skip

    model = opened(save_v1(tmp_path / "m", build), tmp_path).runtime
    methods = {name: each.method for name, each in model.signatures.items()}
    assert methods == {DEFAULT: "predict", "by_class": "classify", "by_value": "regress"}
    row = np.array([[1, 2]], np.float32)
    wanted = np.array([[1, 2, 0]], np.float32)
    check_same(asked(model, {"x": row}), {"y": wanted, "z": wanted})
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2]))
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    texts = {"inputs": np.array([example.SerializeToString()], np.object_)}
    answer = asked(model, texts, "by_class")
    assert answer["classes"].tolist() == [[b"b", b"a", b"c"]]
    check_same(asked(model, texts, "by_value"), {"outputs": wanted[:, :1]})
    with pytest.raises(BadRequest, match="the model refuses the inputs: Could not parse"):
        asked(model, {"inputs": np.array([b"no example"], np.object_)}, "by_value")
    model.unload()


def test_texts_of_no_rank_are_rows_and_a_module_of_the_hub_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> dict[str, Any]:
        texts = v1.placeholder(tf.string, None, name="t")
        lengths = tf.strings.length(tf.reshape(texts, [-1]))
        return {"default": signature({"texts": texts}, {"lengths": lengths})}

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://tfhub.dev/smls/lengths/1"
    options = Options()
    with pytest.raises(UsageError, match="lengths/1 was not fetched into"):
        options.parseOptions(["--model", handle])
    save_v1(tmp_path / hashlib.sha1(handle.encode()).hexdigest(), build)
    options.parseOptions(["--model", handle])
    model = opened(options["models"][0].path, tmp_path).runtime
    assert told(model, "default") == ({"texts": "BYTES[?]"}, {"lengths": "INT32[?]"})
    assert asked(model, {"texts": TEXTS}, "default")["lengths"].tolist() == [7, 7, 8, 0]
    model.unload()


def test_images_with_labels_are_classified(tmp_path: Path) -> None:
    class Colours(tf.Module):  # type: ignore[misc, unused-ignore]
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="i")])
        def __call__(self, i: Any) -> Any:
            return {"scores": tf.reduce_mean(i, [1, 2])}

    path, labels = tmp_path / "colours", tmp_path / "labels.txt"
    module = Colours()
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    labels.write_text("red\ngreen\nblue\n")
    fed = {"height": 4, "width": 6, "mean": 1.0, "std": 2.0}
    model = opened(path, tmp_path, labels=labels, **fed)
    assert model.task is not None
    assert model.task.pixels == PixelSpec(4, 6, 3, 1.0, 2.0)
    assert model.runtime.example["i"].shape == (1, 4, 6, 3)
    model.runtime.unload()
    assert opened(path, tmp_path).task is None
    with pytest.raises(ModelUnusable, match="where H and W are open, give input_height"):
        opened(path, tmp_path, labels=labels)
    labels.write_text("red\ngreen\n")
    with pytest.raises(ModelUnusable, match=r"has 2 labels, but .*colours gives 3 scores"):
        opened(path, tmp_path, labels=labels, **fed)


def truncated(path: Path) -> None:
    shard = path / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:10])


def emptied(path: Path) -> None:
    (path / "saved_model.pb").write_bytes(b"no model")


def without_variables(path: Path) -> None:
    shutil.rmtree(path / "variables")


def without_words(path: Path) -> None:
    shutil.rmtree(path / "assets")


@pytest.mark.parametrize("breaking", [truncated, emptied, without_variables, without_words])
def test_a_broken_one_is_named(
    encoder: Path, tmp_path: Path, breaking: Callable[[Path], None]
) -> None:
    path = tmp_path / "broken"
    shutil.copytree(encoder, path)
    breaking(path)
    with pytest.raises(ModelUnusable, match=f"{path} is no whole SavedModel: ") as error:
        opened(path, tmp_path)
    print(error.value.message)


def test_what_fails_on_zeros_of_a_known_shape_is_not_served(tmp_path: Path) -> None:
    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        checked = v1.check_numerics(x[:, 0] / x[:, 1], "ratio")
        return {DEFAULT: signature({"x": x}, {"y": checked})}

    with pytest.raises(ModelUnusable, match="its first run, on zeros, failed: the model refuses"):
        opened(save_v1(tmp_path / "m", build), tmp_path)


def test_signatures_that_are_no_plain_tensors_are_left_out(tmp_path: Path) -> None:
    def build() -> dict[str, Any]:
        sparse = v1.sparse_placeholder(tf.float32, name="s")
        x = v1.placeholder(tf.complex64, [None], name="x")
        y = v1.placeholder(tf.float32, [None], name="y")
        return {
            "sparse": signature({"s": sparse}, {"t": tf.sparse.reduce_sum(sparse)}),
            "complex": signature({"x": x}, {"y": v1.real(x)}),
            "plain": signature({"y": y}, {"z": y * 2}),
        }

    model = opened(save_v1(tmp_path / "m", build), tmp_path).runtime
    assert list(model.signatures) == ["plain"]
    assert asked(model, {"y": np.ones(3, np.float32)}, "plain")["z"].tolist() == [2, 2, 2]
    model.unload()


def test_a_gpu_that_is_not_there(encoder: Path, tmp_path: Path) -> None:
    wanted = "device: got cuda:7, but TensorFlow finds 0 GPUs"
    with pytest.raises(ModelUnusable, match=wanted):
        opened(encoder, tmp_path, device=Device("cuda:7"))
    with pytest.raises(ModelUnusable, match="takes gpu_memory_fraction instead"):
        opened(encoder, tmp_path, device=Device("cuda:0", memory_bytes=5))
    opened(encoder, tmp_path, device=Device("cpu", memory_fraction=0.5)).runtime.unload()
