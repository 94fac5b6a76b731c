# SPDX-License-Identifier: MIT
"""SavedModels with constants in place of variables, against TensorFlow's own way to run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from twisted.logger import capturedLogs, formatEvent

from smls_node import embedded
from smls_node.catalogue import Model
from smls_node.commands import freeze
from smls_node.loading import load
from smls_node.runtimes import GraphFiles, freezing, openvino, tensorflow
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT
from tests.node.formats import Here, asked, check_same, means, opened
from tests.node.test_savedmodel import save_v1, signature

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

ROWS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def random_of(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def rows(name: str = "x") -> Any:
    return tf.TensorSpec([None, 4], tf.float32, name=name)


class Dense(tf.Module):  # type: ignore[misc, unused-ignore]
    """A layer that a function of its own works out."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(random_of(4, 5))

    @tf.function
    def within(self, x: Any) -> Any:
        return tf.nn.relu(x @ self.weights)

    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        return {"y": self.within(x)}


class Recurrent(tf.Module):  # type: ignore[misc, unused-ignore]
    """A loop and a branch, both of which read a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(random_of(4, 4) / 4)

    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        for _ in tf.range(5):
            x = tf.tanh(x @ self.weights)
        if tf.reduce_sum(x) > 0:
            x = x + self.weights[0]
        return {"y": x}


class Embedding(tf.Module):  # type: ignore[misc, unused-ignore]
    """Vectors by their numbers, and an input that nothing is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = tf.Variable(random_of(10, 3))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="at"), rows("unused")])
    def __call__(self, at: Any, unused: Any) -> Any:
        return {"y": tf.gather(self.vectors, at)}


class Counter(tf.Module):  # type: ignore[misc, unused-ignore]
    """Says how often it was asked, by a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0)

    @tf.function
    def counted(self) -> Any:
        return self.count.assign_add(1.0)

    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        return {"y": x[:, :1] * 0 + self.counted()}


class Dice(tf.Module):  # type: ignore[misc, unused-ignore]
    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        return {"y": x * 0 + tf.random.uniform([])}


def saved(module: Any, path: Path, **signatures: Any) -> Path:
    tf.saved_model.save(module, str(path), signatures=signatures or module.__call__)
    return path


def kinds(model: Model) -> set[str]:
    """The kinds of operations that the model's session has."""
    graph = model.runtime._session.graph  # type: ignore[attr-defined]
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (Dense, {"x": ROWS}),
        (Embedding, {"at": np.array([7, 0, 7], np.int32), "unused": ROWS}),
    ],
)
def test_what_only_reads_its_variables_has_none(
    make: Callable[[], Any], inputs: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(make(), tmp_path / "m")
    model = opened(path, tmp_path)
    assert kinds(model).isdisjoint(
        {"VarHandleOp", "ReadVariableOp", "ResourceGather", "StatefulPartitionedCall"}
    )
    direct = tf.saved_model.load(str(path)).signatures[DEFAULT]
    wanted = direct(**{name: tf.constant(array) for name, array in inputs.items()})
    got = asked(model.runtime, inputs)
    check_same(got, {name: tensor.numpy() for name, tensor in wanted.items()}, 1e-6)
    model.runtime.unload()


class Walk(tf.Module):  # type: ignore[misc, unused-ignore]
    """Looks vectors up within a loop, where TensorFlow replaces the variable wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = tf.Variable(random_of(10, 4))

    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        for step in tf.range(3):
            x = x + tf.gather(self.vectors, step)
        return {"y": x}


@pytest.mark.parametrize("make", [Recurrent, Walk])
def test_what_has_loops_keeps_its_variables(make: Callable[[], Any], tmp_path: Path) -> None:
    path = saved(make(), tmp_path / "m")
    model = opened(path, tmp_path)
    assert "VarHandleOp" in kinds(model)
    wanted = tf.saved_model.load(str(path)).signatures[DEFAULT](x=tf.constant(ROWS))
    check_same(asked(model.runtime, {"x": ROWS}), {"y": wanted["y"].numpy()}, 1e-6)
    model.runtime.unload()


def test_so_has_a_loop_of_tensorflow_1(tmp_path: Path) -> None:
    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        vectors = v1.get_variable("v", initializer=random_of(10, 4), use_resource=True)
        v1.disable_control_flow_v2()
        try:
            _, y = v1.while_loop(
                lambda step, value: step < 3,
                lambda step, value: (step + 1, value + tf.gather(vectors, step)),
                [tf.constant(0), x],
            )
        finally:
            v1.enable_control_flow_v2()
        return {DEFAULT: signature({"x": x}, {"y": y})}

    model = opened(save_v1(tmp_path / "m", build), tmp_path)
    assert {"VarHandleOp", "Enter"} <= kinds(model)
    wanted = ROWS + random_of(10, 4)[:3].sum(axis=0)
    check_same(asked(model.runtime, {"x": ROWS}), {"y": wanted}, 1e-6)
    model.runtime.unload()


class Roundabout(tf.Module):  # type: ignore[misc, unused-ignore]
    """Reads a variable in a way that TensorFlow's converter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(random_of(4))

    @tf.function(input_signature=[rows()])
    def __call__(self, x: Any) -> Any:
        (handle,) = tf.raw_ops.IdentityN(input=[self.weights.handle])
        return {"y": x + tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)}


def test_what_tensorflow_cannot_freeze_keeps_its_variables(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(Roundabout(), tmp_path / "m")
    model = opened(path, tmp_path)
    assert "VarHandleOp" in kinds(model)
    assert f"{path} keeps its variables: " in caplog.text
    check_same(asked(model.runtime, {"x": ROWS}), {"y": ROWS + random_of(4)}, 1e-6)
    model.runtime.unload()


def test_what_writes_a_variable_keeps_it(tmp_path: Path) -> None:
    model = opened(saved(Counter(), tmp_path / "m"), tmp_path)
    counted = [float(asked(model.runtime, {"x": ROWS})["y"][0, 0]) for _ in range(3)]
    # The first run was loading's.
    assert counted == [2, 3, 4]
    model.runtime.unload()


def test_all_keeps_its_variables_where_one_signature_writes_one(tmp_path: Path) -> None:
    both = tf.Module()
    both.dense, both.counter = Dense(), Counter()
    path = saved(both, tmp_path / "m", serving_default=both.dense.__call__, n=both.counter.__call__)
    model = opened(path, tmp_path)
    assert "VarHandleOp" in kinds(model)
    counted = [float(asked(model.runtime, {"x": ROWS}, "n")["y"][0, 0]) for _ in range(2)]
    assert counted == [1, 2]
    wanted = np.maximum(ROWS @ random_of(4, 5), 0)
    check_same(asked(model.runtime, {"x": ROWS}), {"y": wanted}, 1e-6)
    model.runtime.unload()


def test_dice_are_thrown_each_time(tmp_path: Path) -> None:
    model = opened(saved(Dice(), tmp_path / "m"), tmp_path)
    assert len({float(asked(model.runtime, {"x": ROWS})["y"][0, 0]) for _ in range(4)}) == 4
    model.runtime.unload()


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_variables_of_tensorflow_1(tmp_path: Path, use_resource: bool, writes: bool) -> None:
    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        with v1.variable_scope("scope", use_resource=use_resource):
            weights = v1.get_variable("w", initializer=np.ones(4, np.float32))
        read = v1.assign_add(weights, tf.ones(4)) if writes else weights
        return {DEFAULT: signature({"x": x}, {"y": x * 0 + read})}

    model = opened(save_v1(tmp_path / "m", build), tmp_path)
    assert kinds(model).isdisjoint({"VariableV2", "VarHandleOp"}) != writes
    answers = [float(asked(model.runtime, {"x": ROWS})["y"][0, 0]) for _ in range(2)]
    assert answers == ([3, 4] if writes else [1, 1])
    model.runtime.unload()


def test_too_many_stay_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "MOST_BYTES", 10)
    model = opened(saved(Dense(), tmp_path / "m"), tmp_path)
    assert "VarHandleOp" in kinds(model)
    wanted = np.maximum(ROWS @ random_of(4, 5), 0)
    check_same(asked(model.runtime, {"x": ROWS}), {"y": wanted}, 1e-6)
    model.runtime.unload()


class Network(tf.Module):  # type: ignore[misc, unused-ignore]
    """Images to two scores, by a convolution with a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(random_of(3, 3, 3, 2))
        self.factors = tf.Variable(random_of(6))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        done = tf.nn.depthwise_conv2d(x, self.weights, [1, 1, 1, 1], "SAME") * self.factors
        return {"y": tf.nn.softmax(tf.reduce_mean(done, [1, 2]))}


IMAGES = np.random.default_rng(2).random((2, 8, 8, 3), np.float32)


def test_convolutions_are_in_one_piece(tmp_path: Path) -> None:
    path = saved(Network(), tmp_path / "m")
    model = opened(path, tmp_path)
    assert "Mul" not in kinds(model)
    wanted = tf.saved_model.load(str(path)).signatures[DEFAULT](x=tf.constant(IMAGES))
    check_same(asked(model.runtime, {"x": IMAGES}), {"y": wanted["y"].numpy()}, 1e-6)
    model.runtime.unload()


def test_a_graph_is_written_that_tensorflow_and_openvino_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(Network(), tmp_path / "flowers")
    wanted = tf.saved_model.load(str(path)).signatures[DEFAULT](x=tf.constant(IMAGES))["y"].numpy()
    monkeypatch.chdir(tmp_path)
    freeze.main(["flowers"])
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "written: flowers.pb, 0.0 MB",
        "serve it: smls-node --graph flowers.pb --labels LABELS.txt",
    ]
    files = GraphFiles(tmp_path / "flowers.pb")
    as_tried = {"precision": "f32", "streams": 1, "one_by_one": False}
    for model in (tensorflow.load(files), openvino.load(files, **as_tried)):
        ((source,), (target,)) = model.signatures[DEFAULT].inputs, model.signatures[DEFAULT].outputs
        check_same({target.name: model.infer({source.name: IMAGES})[target.name]},
                   {target.name: wanted}, 1e-6)  # fmt: skip
        model.unload()


def test_so_is_one_of_a_keras_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keras = tf.keras
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    network = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])
    network.save(tmp_path / "flowers.keras")
    place = tmp_path / "graph.pb"
    freeze.main([str(tmp_path / "flowers.keras"), "--output", str(place)])
    assert capsys.readouterr().out.startswith(f"written: {place}, ")
    model = tensorflow.load(GraphFiles(place))
    (name,) = (spec.name for spec in model.signatures[DEFAULT].inputs)
    (got,) = model.infer({name: IMAGES}).values()
    check_same({"y": got}, {"y": network(IMAGES).numpy()}, 1e-6)
    model.unload()


class Pair(tf.Module):  # type: ignore[misc, unused-ignore]
    @tf.function(
        input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name=name) for name in "ab"]
    )
    def __call__(self, a: Any, b: Any) -> Any:
        return {"y": a + b}


class Segments(tf.Module):  # type: ignore[misc, unused-ignore]
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        return {"y": x * 2}


class Noisy(tf.Module):  # type: ignore[misc, unused-ignore]
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        return {"y": tf.reduce_mean(x, [1, 2]) * tf.random.uniform([])}


@pytest.mark.parametrize(
    ("make", "options", "problem"),
    [
        (Network, ["--signature", "train"], "got signature 'train', wanted one of serving_default"),
        (Pair, [], "takes a FP32[?, 8, 8, 3], b FP32[?, 8, 8, 3] and gives 1 tensors; a frozen"),
        (Dense, [], "takes x FP32[?, 4] and gives 1 tensors; a frozen graph that is served takes"),
        (Segments, [], "takes x FP32[?, 8, 8, 3] and gives 1 tensors; a frozen graph that is"),
        (Noisy, [], "signature serving_default depends on more than images and variables"),
    ],
)
def test_what_can_be_no_graph_is_told(
    make: Callable[[], Any],
    options: list[str],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, place = saved(make(), tmp_path / "m"), tmp_path / "graph.pb"
    place.write_bytes(b"an older one")
    with pytest.raises(SystemExit) as ended:
        freeze.main([str(path), "--output", str(place), *options])
    told = capsys.readouterr().err
    assert (ended.value.code, problem in told, str(path) in told) == (1, True, True), told
    assert place.read_bytes() == b"an older one"


def scores_of(images: Any) -> Any:
    return tf.reduce_mean(images, [1, 2])


def fed_within() -> tuple[Any, Any]:
    images = v1.placeholder(tf.float32, [None, 8, 8, 3]) / 255
    return images, scores_of(images)


def one_of_several() -> tuple[Any, Any]:
    images = v1.placeholder(tf.float32, [None, 8, 8, 3])
    return images, tf.split(scores_of(images), 3, axis=1)[1]


@pytest.mark.parametrize("build", [fed_within, one_of_several])
def test_a_graph_in_which_other_layers_would_be_found_is_not_written(
    build: Callable[[], tuple[Any, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def signatures() -> dict[str, Any]:
        images, scores = build()
        return {DEFAULT: signature({"x": images}, {"y": scores})}

    path = save_v1(tmp_path / "m", signatures)
    with pytest.raises(SystemExit):
        freeze.main([str(path), "--output", str(tmp_path / "graph.pb")])
    assert "is fed within its graph, or gives one of several outputs" in capsys.readouterr().err
    # Served as it is, it is well.
    model = opened(path, tmp_path)
    wanted = IMAGES.mean(axis=(1, 2))
    check_same(
        asked(model.runtime, {"x": IMAGES}),
        {"y": wanted if build is fed_within else wanted[:, 1:2]},
        1e-6,
    )
    model.runtime.unload()


def test_what_is_fed_in_place_of_a_constant_is_no_constant(tmp_path: Path) -> None:
    def build() -> dict[str, Any]:
        images = v1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        factors = tf.constant(np.ones(6, np.float32), name="factors")
        weights = v1.get_variable("w", initializer=random_of(3, 3, 3, 2))
        done = tf.nn.depthwise_conv2d(images, weights, [1, 1, 1, 1], "SAME") * factors
        return {DEFAULT: signature({"x": images, "factors": factors}, {"y": done})}

    model = opened(save_v1(tmp_path / "m", build), tmp_path)
    assert "VariableV2" not in kinds(model)
    once, twice = (
        asked(model.runtime, {"x": IMAGES, "factors": np.full(6, factor, np.float32)})["y"]
        for factor in (1, 2)
    )
    check_same({"y": twice}, {"y": 2 * once}, 1e-6)
    model.runtime.unload()


def test_a_graph_that_tensorflow_could_not_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(freeze, "MOST_BYTES", 100)
    place = tmp_path / "graph.pb"
    with pytest.raises(SystemExit):
        freeze.main([str(saved(Network(), tmp_path / "m")), "--output", str(place)])
    assert "MB, wanted 0.0 at most; serve the model as it is" in capsys.readouterr().err
    assert not place.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        ([], 2, "got 0 models, wanted one: MODEL"),
        (["a", "b"], 2, "got 2 models, wanted one: MODEL"),
        (["a", "--output", "a.txt"], 2, "--output: got 'a.txt', wanted a name that ends in .pb"),
        (["not-there"], 1, "not-there: there is no such file"),
        ([str(embedded.GRAPH)], 1, "got a model of format graph, wanted a SavedModel or a Keras"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    arguments: list[str], status: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        freeze.main(arguments)
    told = capsys.readouterr().err
    assert (ended.value.code, problem in told) == (status, True), told


def test_who_wants_a_saved_model_accelerated_is_told_of_graphs(tmp_path: Path) -> None:
    path = saved(Dense(), tmp_path / "m")
    wanted = evolve(means(tmp_path), accelerate="auto")
    with capturedLogs() as logged:
        model = load(ModelSettings(path), wanted, beside=Here(wanted.pools))
    assert f"{path} stays in TensorFlow: graphs alone are accelerated, and smls-node freeze" in (
        "\n".join(str(formatEvent(event)) for event in logged)
    )
    model.runtime.unload()
