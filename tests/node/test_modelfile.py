# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import ModelUnusable
from smls_node.modelfile import IMPLEMENTATIONS, KEYS, ModelFile, parse
from smls_node.settings import Device, Document, Limits, ModelSettings, Tensor
from smls_node.versions import Policy

PATH = Path("models/flowers/smls.toml")

WHOLE = """
input_layer = "input"
output_layer = "scores"
input_mean = 127
input_std = [58.395, 57.12, 57.375]
input_layout = "NCHW"
scores = "softmax"
input_height = 224
input_width = 192
labels = "names.txt"
operator_threads = 0
runs = 2
max_batch_size = 16
max_queue_delay = 0.25
allowed_batch_sizes = [4, 1]
max_queue_size = 9
max_queue_bytes = 1000
format = "onnx"
inputs = [{name = "x", datatype = "FP32", shape = [-1, 4]}]
outputs = [{name = "y", datatype = "BYTES", shape = []}]
trust_pickle = true
trusted_types = ["my.Type"]
device = "cuda:1"
gpu_memory_growth = false
gpu_memory_fraction = 0.5
gpu_memory_bytes = 9000
versions = "specific:1,3"
version_labels = {stable = 1, canary = 3}
"""


def test_every_key_is_taken_over() -> None:
    told = parse(WHOLE, PATH)
    assert told.policy == Policy(None, frozenset({1, 3}))
    assert told.version_labels == {"stable": "1", "canary": "3"}
    assert told.labels == "names.txt"
    assert told.applied(ModelSettings(Path("g.pb"), name="flowers")) == ModelSettings(
        Path("g.pb"),
        name="flowers",
        input_layer="input",
        output_layer="scores",
        mean=127.0,
        std=(58.395, 57.12, 57.375),
        height=224,
        width=192,
        layout="NCHW",
        scores="softmax",
        operator_threads=0,
        runs=2,
        limits=Limits(16, 0.25, (1, 4), 9, 1000),
        format="onnx",
        inputs=(Tensor("x", "FP32", (-1, 4)),),
        outputs=(Tensor("y", "BYTES", ()),),
        trust_pickle=True,
        trusted_types=("my.Type",),
        device=Device("cuda:1", False, 0.5, 9000),
    )
    assert [key for key in KEYS if f"\n{key} = " not in WHOLE] == list(OF_MLSERVER)


OF_MLSERVER = {
    "name": "doc-sim",
    "implementation": "parts.my_model.MyKulModel",
    "parameters": {"uri": "./m", "version": "v0.1", "format": "f", "extra": {"k": [1]}, "own": 1},
    "max_batch_time": 0.5,
    "platform": "sklearn",
    "parallel_workers": 0,
    "warm_workers": False,
    "cache_enabled": True,
    "$schema": "https://example.org/",
}

DESCRIBED_PATH = Path("models/similar/model-settings.json")


def test_mlservers_keys_are_taken_over_from_either_file() -> None:
    text = json.dumps({**OF_MLSERVER, "versions": ["sklearn/1.5"], "max_batch_size": 0})
    told = parse(text, DESCRIBED_PATH)
    assert (told.name, told.version, told.uri) == ("doc-sim", "v0.1", "./m")
    assert told.policy == Policy()
    settings = told.applied(ModelSettings(Path(), limits=Limits(8)))
    assert settings.implementation == "parts.my_model.MyKulModel"
    assert settings.platform == "sklearn"
    assert parse('{"platform": ""}', DESCRIBED_PATH).applied(settings).platform == ""
    assert settings.document == Document(DESCRIBED_PATH, text)
    assert settings.limits == Limits(None, max_queue_delay=0.5)
    same = parse('implementation = "m.C"\n[parameters]\nversion = 7', PATH)
    assert (same.version, same.fields["implementation"]) == ("7", "m.C")


@pytest.mark.parametrize(("implementation", "name"), IMPLEMENTATIONS.items())
def test_mlservers_own_classes_are_formats(implementation: str, name: str) -> None:
    told = parse(json.dumps({"implementation": implementation}), DESCRIBED_PATH)
    assert told.fields == {"format": name}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON file: Expecting property name"),
        ("[" * 100_000, "is no JSON file: "),
        ("[]", "got list, wanted an object with keys"),
        ('{"implementatoin": "m.C"}', "no such key; did you mean implementation?"),
        ('{"implementation": "MyKulModel"}', "implementation: got 'MyKulModel', wanted \"module"),
        (
            '{"implementation": "mlserver_lightgbm.LightGBMModel"}',
            "implementation: got 'mlserver_lightgbm.LightGBMModel', wanted \"module.Class\" of a "
            'module in the folder, or "mlserver_sklearn.SKLearnModel"',
        ),
        ('{"name": "a b"}', "name: got 'a b', wanted a name like"),
        ('{"parameters": []}', "parameters: got [], wanted an object such as"),
        ('{"parameters": {"extra": 1}}', "parameters: got {'extra': 1}, wanted"),
        ('{"parameters": {"version": "a b"}}', "parameters: got {'version': 'a b'}, wanted"),
        ('{"max_batch_time": -1}', "max_batch_time: got -1, wanted seconds, 0 or more"),
        ('{"inputs": [{"name": "x"}]}', "inputs: got [{'name': 'x'}], wanted tensors such as"),
        ('{"inputs": [{"name": "x", "datatype": "F", "shape": []}]}', "inputs: got"),
        ('{"platform": 1}', "platform: got 1, wanted a text"),
        ('{"versions": ["a", 1]}', "versions: got ['a', 1], wanted \"latest:N\""),
    ],
)
def test_what_mlservers_file_says_wrongly_is_named(text: str, told: str) -> None:
    with pytest.raises(ModelUnusable) as raised:
        parse(text, DESCRIBED_PATH)
    assert str(DESCRIBED_PATH) in raised.value.message
    assert told in raised.value.message


def test_what_is_not_said_stays() -> None:
    before = ModelSettings(Path(), mean=3.0, runs=1, operator_threads=1, limits=Limits(8))
    assert parse("", PATH) == ModelFile()
    after = parse("max_queue_size = 5", PATH).applied(before)
    assert (after.mean, after.runs, after.limits) == (3.0, 1, Limits(8, max_queue_size=5))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runs =", "is no TOML file: "),
        ("max_batch_sizes = 4", "max_batch_sizes: no such key; did you mean max_batch_size?"),
        ("zzz = 4", "zzz: no such key; known are format, "),
        ("runs = 0", "runs: got 0, wanted a whole number 1-1024"),
        ("runs = true", "runs: got True, wanted a whole number 1-1024"),
        ("runs = 2", "operator_threads and runs go together"),
        ("input_std = 0", "input_std: got 0, wanted a number of 1 at least, or three such as"),
        ("input_std = [0.229, 0.224, 0.225]", "input_std: got .* of values of 0-1 times 255"),
        ("input_mean = nan", "input_mean: got nan, wanted a number"),
        ("input_mean = [1, 2]", r"input_mean: got \[1, 2\], wanted a number, or three such as"),
        ('input_layout = "CHW"', 'input_layout: got \'CHW\', wanted "NHWC" or "NCHW"'),
        ("scores = true", 'scores: got True, wanted "as-is" or "softmax"'),
        ('input_mean = "0"', "input_mean: got '0', wanted a number"),
        ("max_queue_delay = -1", "max_queue_delay: got -1, wanted seconds, 0 or more"),
        ("allowed_batch_sizes = []", r"allowed_batch_sizes: got \[\], wanted whole numbers"),
        ("allowed_batch_sizes = [0]", r"allowed_batch_sizes: got \[0\], wanted whole numbers"),
        ('device = "gpu"', 'device: got \'gpu\', wanted "cpu" or "cuda:N"'),
        ("gpu_memory_fraction = 2", "gpu_memory_fraction: got 2, wanted a number above 0, 1 at"),
        ("trust_pickle = 1", "trust_pickle: got 1, wanted true or false"),
        ('trusted_types = "a"', "trusted_types: got 'a', wanted types' names, such as"),
        ("inputs = [3]", r"inputs: got \[3\], wanted tensors such as \[{name"),
        ('inputs = [{name = "x", datatype = "FP32"}]', "inputs: got .*, wanted tensors such as"),
        ("outputs = [{shape = [1]}]", "outputs: got .*, wanted tensors such as"),
        ('labels = "../l.txt"', "labels: got '../l.txt', wanted the name of a file"),
        ('versions = "newest"', "versions: got 'newest', wanted \"latest:N\""),
        ("version_labels = {a = -1}", "version_labels: got {'a': -1}, wanted versions by label"),
        ('version_labels = {"a b" = 1}', "version_labels: got {'a b': 1}, wanted"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(text: str, told: str) -> None:
    with pytest.raises(ModelUnusable, match=told) as error:
        parse(text, PATH)
    assert error.value.message.startswith(str(PATH))


@given(st.text(max_size=60))
def test_no_text_whatever_does_worse_than_that(text: str) -> None:
    with suppress(ModelUnusable):
        assert isinstance(parse(text, PATH), ModelFile)
