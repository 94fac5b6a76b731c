# SPDX-License-Identifier: MIT
"""A node with models of several formats, those of examples/ among them, and broken ones."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import onnx
import pandas
import pytest
import skops.io
import tensorflow as tf
from onnx import TensorProto, helper
from PIL import Image

import smls
from smls_node import embedded, services
from tests.integration.fleet import THREE, UNMEASURED, ask, classify
from tests.processes import LOCAL, Running, run, running

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NORMALIZED = """
input_mean = [123.675, 116.28, 103.53]
input_std = [58.395, 57.12, 57.375]
scores = "softmax"
"""


def colours(folder: Path, *, is_first: bool = False) -> Path:
    """An ONNX model of images: how red, green and blue one is. With the channels first it is as
    PyTorch's users have it, logits from ImageNet's numbers."""
    name = "torchlike" if is_first else "colours"
    axes, sides = ([2, 3], [3, 8, 8]) if is_first else ([1, 2], [8, 8, 3])
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["scores"], axes=axes, keepdims=0)],
        "colours",
        [value("image", TensorProto.FLOAT, ["n", *sides])],
        [value("scores", TensorProto.FLOAT, ["n", 3])],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    (folder / name / "labels.txt").write_text("red\ngreen\nblue\n")
    if is_first:
        (folder / name / "smls.toml").write_text(NORMALIZED)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    example("iris").main(folder)
    example("digits_onnx").main(folder)
    encoder = example("encoder")
    encoder.STEPS = 2
    encoder.main(folder)
    whole = colours(folder)
    colours(folder, is_first=True)

    def broken(name: str, source: Path) -> Path:
        target = folder / name / "1" / source.name
        target.parent.mkdir(parents=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return target

    cut = broken("cut", whole)
    cut.write_bytes(cut.read_bytes()[:50])
    shutil.rmtree(broken("hollow", folder / "encoder" / "1") / "variables")
    (folder / "hollow" / "1" / "1").rename(folder / "hollow" / "1" / "model.savedmodel")
    broken("mislabelled", whole)
    (folder / "mislabelled" / "labels.txt").write_text("red\ngreen\n")
    broken("unlabelled", whole)
    (folder / "unlabelled" / "smls.toml").write_text('labels = "names.txt"')
    broken("two", whole)
    broken("two/1", folder / "iris" / "1" / "model.skops")
    (folder / "two/1/1/model.skops").rename(folder / "two/1/model.skops")
    pickle = folder / "pickled" / "1"
    pickle.mkdir(parents=True)
    joblib.dump(skops.io.load(folder / "iris/1/model.skops", trusted=["sklearn.tree._tree.Tree"]),
                pickle / "model.pkl")  # fmt: skip
    (folder / "torch" / "1").mkdir(parents=True)
    (folder / "torch" / "1" / "model.pt").write_bytes(b"no module")
    return folder


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Running]:
    named = ("--default-model", "digits-onnx")
    with running("smls-node", *LOCAL, *UNMEASURED, *named, "--models", folder) as node:
        yield node


def posted(node: Running, path: str, body: Any) -> Any:
    reply = ask(
        f"{node.url}{path}", json.dumps(body).encode(), "POST", Content_Type="application/json"
    )
    assert reply.status == 200, reply.body
    return reply.json


def test_each_format_answers_as_its_library_does(node: Running, folder: Path) -> None:
    names = sorted(model["name"] for model in ask(node.url).json["models"])
    assert names == ["colours", "digits-onnx", "encoder", "iris", "torchlike"]
    platforms = {ask(f"{node.url}v2/models/{name}").json["platform"] for name in names}
    assert platforms == {"onnx_onnxv1", "tensorflow_savedmodel", "sklearn_estimator"}
    flowers = [[2.0, 1.0, 2.0, 3.0], [5.1, 3.5, 1.4, 0.2]]
    rows = [dict(zip(("sl", "sw", "pl", "pw"), flower, strict=True)) for flower in flowers]
    tree = skops.io.load(folder / "iris/1/model.skops", trusted=["sklearn.tree._tree.Tree"])
    predicted = posted(node, "/models/iris", rows)["prediction"]
    assert predicted == tree.predict(example("iris").pandas.DataFrame(rows)).tolist()
    texts = ["Hello world!", "How are you today?", ""]
    module = tf.saved_model.load(str(folder / "encoder/1"))
    wanted = module.embed(tf.constant(texts))["vectors"]
    got = posted(node, "/models/encoder", texts)
    print(f"max abs difference {np.abs(np.array(got) - wanted.numpy()).max():.3g}")
    assert np.allclose(got, wanted.numpy(), atol=1e-6)
    reply = classify(node.url, THREE.read_bytes(), model="colours")
    assert {each["label"] for each in reply.json["predictions"]} == {"red", "green", "blue"}


def test_the_digits_in_onnx_are_the_digits(node: Running) -> None:
    digits = services.get("digits", path=embedded.GRAPH, labels=embedded.LABELS)
    for path in sorted((EXAMPLES / "digits").iterdir()):
        wanted = dict(digits.run(path.read_bytes()))
        reply = ask(
            f"{node.url}/models/digits-onnx", path.read_bytes(), "POST", Content_Type="image/jpeg"
        )
        apart = max(abs(wanted[label] - score) for label, score in reply.json)
        print(f"{path.name}: {reply.json[0][0]}, max abs difference {apart:.3g}")
        assert apart < 1e-5
    digits.give_back()


def test_a_model_with_channels_first_takes_an_image(node: Running) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), (10, 200, 90)).save(file, "PNG")
    reply = ask(f"{node.url}/models/torchlike", file.getvalue(), "POST", Content_Type="image/png")
    logits = [(10 - 123.675) / 58.395, (200 - 116.28) / 57.12, (90 - 103.53) / 57.375]
    wanted = np.exp(logits) / np.exp(logits).sum()
    got = dict(reply.json)
    assert [label for label, _ in reply.json] == ["green", "blue", "red"]
    assert np.allclose([got[each] for each in ("red", "green", "blue")], wanted, atol=1e-5)


def test_the_same_without_a_server(node: Running, folder: Path) -> None:
    texts = ["Hello world!", "How are you today?", ""]
    encoder = services.get("sentence-encoder", path=folder / "encoder")
    vectors = encoder.run(texts)
    assert vectors.shape == (3, 64)
    assert np.allclose(vectors, posted(node, "/models/encoder", texts), atol=1e-6)
    assert np.allclose(encoder.run(texts[0]), vectors[0], atol=1e-6)
    iris = services.get("iris", path=folder / "iris")
    flowers = [[2.0, 1.0, 2.0, 3.0], [5.1, 3.5, 1.4, 0.2]]
    rows = [dict(zip(("sl", "sw", "pl", "pw"), flower, strict=True)) for flower in flowers]
    wanted = posted(node, "/models/iris", rows)["prediction"]
    assert iris.run(rows).tolist() == iris.run(pandas.DataFrame(rows)).tolist() == wanted
    assert [iris.run(rows[0]), iris.run(**rows[1])] == wanted
    assert iris.run(sl=np.float32(2.0), sw=1, pl=2, pw=np.int64(3)) == wanted[0]
    # Plain arrays are taken as they were.
    assert iris.run({"input": flowers}).keys() == {"predict", "predict_proba"}
    with pytest.raises(smls.BadRequest, match="features: got no 'pw', wanted sl, sw, pl, pw"):
        iris.run(sl=1, sw=2, pl=3)
    for each in (encoder, iris):
        each.give_back()


def test_the_client_embeds_and_predicts(node: Running, tmp_path: Path) -> None:
    texts = ["Hello world!", "How are you today?", ""]
    flowers = [[2.0, 1.0, 2.0, 3.0], [5.1, 3.5, 1.4, 0.2]]
    rows = [dict(zip(("sl", "sw", "pl", "pw"), flower, strict=True)) for flower in flowers]
    with smls.BlockingClient(nodes=[node.address]) as client:
        vectors = client.embed(texts, model="encoder")
        assert vectors == posted(node, "/models/encoder", texts)
        predictions = client.predict(rows, model="iris")
        assert predictions == posted(node, "/models/iris", rows)["prediction"]
        with pytest.raises(smls.BadRequest, match="model iris takes no texts"):
            client.embed(texts, model="iris")
    asked = ("smls-client", "--node", node.address)
    done = run(*asked, "embed", "--model", "encoder", "--json", "-", text="\n".join(texts[:2]))
    assert [json.loads(line)["vector"] for line in done.stdout.splitlines()] == vectors[:2]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    done = run(*asked, "predict", "--model", "iris", "--json", tmp_path / "rows.json")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["row"], each["prediction"]) for each in shown] == list(
        zip(rows, predictions, strict=True)
    )


def test_the_lines_of_the_examples_are_answered_as_they_stand(node: Running) -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    lines = re.findall(r"^curl .*", text, re.MULTILINE)
    assert len(lines) == 4
    answers = []
    for line in lines:
        asked = line.replace("http://127.0.0.1:8501/", node.url)
        assert asked != line
        done = subprocess.run(["sh", "-c", asked], capture_output=True, cwd=EXAMPLES.parent)
        answers.append(json.loads(done.stdout))
    digits, predicted, vectors, unnamed = answers
    assert digits[0][0] == unnamed[0][0] == "3"
    assert digits[0][1] == pytest.approx(0.956, abs=0.001)
    assert predicted == {"prediction": [2]}
    assert np.shape(vectors) == (2, 64)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cut", "model.onnx is no whole ONNX model: "),
        ("hollow", "model.savedmodel is no whole SavedModel: "),
        ("mislabelled", "labels.txt has 2 labels, but "),
        ("unlabelled", "its labels, names.txt, are neither there nor in "),
        ("two", "got model.onnx (onnx), model.skops (sklearn), wanted one model"),
        ("pickled", "model.pkl: a pickle runs the code that it holds"),
        ("torch", "format torchscript needs torch, which cannot be imported"),
    ],
)
def test_a_broken_model_says_why_and_the_others_answer(node: Running, name: str, told: str) -> None:
    (absent,) = (each for each in ask(node.url).json["absent"] if each["name"] == name)
    assert absent["state"] == "END"
    assert told in absent["why"]
    assert f"model {name} version 1 cannot be served: {absent['why']}" in node.log
