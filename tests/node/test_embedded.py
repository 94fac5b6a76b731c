# SPDX-License-Identifier: MIT
"""The embedded model: what is shipped, and that it reads digits as its record says."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from smls_node import embedded

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples" / "digits").iterdir() if path.is_file())
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The training program, which is no part of any package."""
    path = ROOT / "script" / "train_digits.py"
    spec = importlib.util.spec_from_file_location("train_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look a class's module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def graph_def() -> Any:
    """The shipped GraphDef."""
    return tf.compat.v1.GraphDef.FromString(embedded.GRAPH.read_bytes())


@pytest.fixture(scope="module")
def model(script: ModuleType) -> Any:
    """The shipped model: float32[N, 32, 32, 3] in 0-1 to float32[N, 10]."""
    return script.Model(embedded.GRAPH.read_bytes())


@pytest.fixture(scope="module")
def record() -> Any:
    """The record of its training."""
    return json.loads(embedded.RECORD.read_text("utf-8"))


def test_files_are_there_and_small() -> None:
    files = [embedded.GRAPH, embedded.LABELS, embedded.RECORD]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert embedded.GRAPH.parent == Path(embedded.__file__).resolve().parent


def test_labels_are_the_digits() -> None:
    assert embedded.LABELS.read_text("utf-8").splitlines() == list("0123456789")


def test_record_is_of_this_graph(record: Any) -> None:
    graph = embedded.GRAPH.read_bytes()
    assert record["model"]["sha256"] == hashlib.sha256(graph).hexdigest()
    assert record["model"]["bytes"] == len(graph)


def test_recorded_accuracy(record: Any) -> None:
    assert record["accuracy"]["overall"] >= 0.98
    measured = {(row["size"], row["inverted"]) for row in record["accuracy"]["by_size"]}
    assert measured == {(s, i) for s in (32, 64, 200, 640, 1600) for i in (False, True)}


def test_importing_it_loads_no_library() -> None:
    program = (
        "import sys, smls_node.embedded\n"
        "print({'tensorflow', 'numpy', 'PIL', 'sklearn'} & set(sys.modules))"
    )
    path = str(Path(embedded.__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "set()"


def test_graph_is_frozen_from_input_to_final_result(graph_def: Any) -> None:
    nodes = {node.name: node for node in graph_def.node}
    assert [name for name, node in nodes.items() if node.op == "Placeholder"] == ["input"]
    consumed = {name.lstrip("^").split(":")[0] for node in nodes.values() for name in node.input}
    assert set(nodes) - consumed == {"final_result"}
    assert nodes["final_result"].op == "Softmax"
    assert not graph_def.library.function
    # Nothing in it that trains, holds state or draws at random.
    assert {node.op for node in nodes.values()} == {
        *("Placeholder", "Const", "Conv2D", "BiasAdd", "Relu", "MaxPool"),
        *("Reshape", "MatMul", "Softmax"),
    }


def test_graph_says_its_shapes(graph_def: Any) -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(graph_def, name="")
    images = graph.get_tensor_by_name("input:0")
    answers = graph.get_tensor_by_name("final_result:0")
    assert (images.shape.as_list(), images.dtype) == ([None, 32, 32, 3], tf.float32)
    assert (answers.shape.as_list(), answers.dtype) == ([None, 10], tf.float32)


def test_a_batch_answers_as_each_alone(script: ModuleType, model: Any) -> None:
    images = np.stack([script.decode(path.read_bytes()) for path in EXAMPLES] * 4)
    together = model(images)
    alone = np.concatenate([model(image[None]) for image in images])
    assert together.shape == (len(images), 10)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    # Sums are taken in another order in another batch: the last bits may differ.
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_examples_are_small() -> None:
    assert len(EXAMPLES) >= 6
    assert sum(path.stat().st_size for path in EXAMPLES) < 150_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_what_they_are_called(script: ModuleType, model: Any, path: Path) -> None:
    answer = model(script.decode(path.read_bytes())[None])[0]
    assert WORDS[answer.argmax()] == path.stem.split("-")[0]


def test_split_keeps_the_held_out_digits_apart(script: ModuleType, record: Any) -> None:
    train, held_out = script.split_digits()
    known = {pixels.tobytes() for pixels in train.pixels}
    assert not [pixels for pixels in held_out.pixels if pixels.tobytes() in known]
    assert record["data"]["digits"] == {"train": len(train), "held_out": len(held_out)}


def test_held_out_digits_as_jpeg_files(script: ModuleType, model: Any) -> None:
    _, held_out = script.split_digits()
    scores = script.evaluate_all(model, held_out, [200])
    assert script.accuracy(scores) >= 0.98
    assert script.agreement(scores) >= 0.99


def test_check_measures_the_shipped_model(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = embedded.GRAPH.stat().st_mtime_ns
    assert script.main(["--check", "--sizes", "32"]) == 0
    assert "32" in capsys.readouterr().out
    assert embedded.GRAPH.stat().st_mtime_ns == before


def test_sizes_are_only_for_check(script: ModuleType) -> None:
    with pytest.raises(SystemExit):
        script.main(["--sizes", "32"])
