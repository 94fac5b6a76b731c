# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Dict, List, Optional  # noqa: UP035

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from smls.errors import BadRequest
from smls.tensors import DATATYPES, Tensors
from smls_node.pymodel import InferenceRequest, InferenceResponse, decode_args
from smls_node.pymodel.arguments import binding_of
from smls_node.pymodel.kinds import as_bytes, kind_of
from smls_node.signature import OF_INPUTS


def texts(*elements: str | bytes) -> NDArray[Any]:
    return as_bytes(np.array(elements, np.object_))


def asked(predict: Any, **tensors: NDArray[Any]) -> Tensors:
    """What a method that is decorated gives."""
    result = decode_args(predict)(None, InferenceRequest.of(tensors, {}))
    if asyncio.iscoroutine(result):
        result = asyncio.run(result)
    assert isinstance(result, InferenceResponse)
    return result.tensors()


def taken(hint: Any, array: NDArray[Any]) -> Any:
    """What an argument of the hint gets."""
    seen = []

    def predict(self: Any, x: Any) -> None:
        seen.append(x)
        return np.zeros(1)  # type: ignore[return-value]

    predict.__annotations__ = {"x": hint}
    asked(predict, x=array)
    return seen[0]


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(file, "PNG")
    return file.getvalue()


MOMENT = datetime(2026, 11, 21, 10)


@pytest.mark.parametrize(
    ("hint", "array", "value"),
    [
        (List[str], texts("a", "ö"), ["a", "ö"]),  # noqa: UP006
        (list[str], texts("a", "b").reshape(2, 1), ["a", "b"]),
        (str, texts("a"), "a"),
        (Optional[str], texts("a"), "a"),  # noqa: UP045
        (str | None, texts("a"), "a"),
        (bytes, texts(b"\xff"), b"\xff"),
        (list[bytes], texts(b"\xff", b""), [b"\xff", b""]),
        (int, np.array([7]), 7),
        (float, np.array(1.5, np.float32), 1.5),
        (bool, np.array([[True]]), True),
        (list[int], np.array([1, 2], np.uint8), [1, 2]),
        (list[float], np.array([[1.5], [2]]), [1.5, 2.0]),
        (datetime, texts("2026-11-21T10:00:00"), MOMENT),
        (list[datetime], texts("2026-11-21T10:00:00"), [MOMENT]),
        (list, texts("a"), ["a"]),
        (Any, texts("a"), ["a"]),
        (dict, texts('{"a": [1]}'), {"a": [1]}),
        (list[dict], texts('{"a": 1}', "{}"), [{"a": 1}, {}]),
    ],
)
def test_an_argument_is_what_its_hint_says(hint: Any, array: NDArray[Any], value: Any) -> None:
    got = taken(hint, array)
    assert got == value
    assert type(got) is type(value)


def test_arrays_are_taken_as_they_are_and_are_ones_own() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    for hint in (np.ndarray, NDArray[np.float32], Any):
        got = taken(hint, array)
        assert got.dtype == np.float32
        assert (got == array).all()
        got += 1
    words = taken(np.ndarray, texts("a", "bc").reshape(2, 1))
    assert words.tolist() == [["a"], ["bc"]]


def test_images_and_frames() -> None:
    assert taken(Image.Image, texts(png())).getpixel((0, 0)) == (255, 0, 0)
    two = taken(list[Image.Image], texts(png(), png("blue")))
    assert [each.getpixel((0, 0)) for each in two] == [(255, 0, 0), (0, 0, 255)]

    def predict(self: Any, frame: pandas.DataFrame, top: int = 1) -> pandas.DataFrame:
        assert list(frame.columns) == ["age", "name"]
        frame["age"] += top
        return frame

    given_ = {"age": np.array([1.5, 2.5]), "name": texts("a", "b").reshape(2, 1)}
    got = asked(predict, **given_, top=np.array(10))
    assert got["age"].tolist() == [[11.5], [12.5]]
    assert got["name"].tolist() == [[b"a"], [b"b"]]
    with pytest.raises(BadRequest, match="rows 1 of age, 2 of name"):
        asked(predict, age=np.zeros(1), name=texts("a", "b"))


def test_a_dict_takes_what_no_other_argument_takes() -> None:
    def predict(self: Any, top: int, features: Dict[str, Any]) -> Mapping[str, Any]:  # noqa: UP006
        return {name: value for name, value in features.items() if top}

    got = asked(predict, top=np.array(1), a=np.zeros((2, 2)), b=texts("x"))
    assert got["a"].shape == (2, 2)
    assert got["b"].tolist() == [[b"x"]]


@pytest.mark.parametrize(
    ("hint", "array", "told"),
    [
        (list[str], np.zeros(2, np.float32), "input x: got FP32, wanted BYTES; wanted list[str]"),
        (list[str], texts(b"\xff"), "input x: got bytes that are no UTF-8 (invalid start byte)"),
        (str, texts("a", "b"), "input x: got 2 elements, wanted one; wanted str"),
        (int, np.zeros(2), "input x: got FP64 of shape [2]; wanted int"),
        (dict, texts("[]"), "input x: got JSON that is no object: list; wanted dict"),
        (Image.Image, texts("no image"), "wanted PIL.Image.Image"),
        (datetime, texts("yesterday"), "wanted datetime"),
    ],
)
def test_what_is_no_such_value_is_told_by_name(hint: Any, array: Any, told: str) -> None:
    with pytest.raises(BadRequest) as raised:
        taken(hint, array)
    assert told in raised.value.message


def test_inputs_that_are_missing_or_unknown_are_told_with_what_is_wanted() -> None:
    def predict(self: Any, docs: list[str], top: int = 3) -> np.ndarray:
        return np.array(len(docs) * top)

    assert asked(predict, docs=texts("a", "b"))["output-0"].tolist() == [6]
    wanted = r"wanted docs: list\[str\], top: int"
    with pytest.raises(BadRequest, match=rf"inputs: got no 'docs', {wanted}"):
        asked(predict)
    with pytest.raises(BadRequest, match=rf"inputs: got 'text', {wanted}"):
        asked(predict, docs=texts("a"), text=texts("a"))


@pytest.mark.parametrize(
    ("result", "hint", "array"),
    [
        (np.array(0.98), np.ndarray, np.array([0.98])),
        (np.zeros(3, np.float32), np.ndarray, np.zeros((3, 1), np.float32)),
        (np.zeros((2, 3, 4), np.uint8), np.ndarray, np.zeros((2, 3, 4), np.uint8)),
        (np.array(["ö", "a"]), np.ndarray, texts("ö", "a").reshape(2, 1)),
        (np.float32(2), None, np.array([2], np.float32)),
        (["a", "b"], List[str], texts("a", "b").reshape(2, 1)),  # noqa: UP006
        ([], list[str], np.empty((0, 1), object)),
        ("a", str, texts("a").reshape(1, 1)),
        ("a", None, texts("a").reshape(1, 1)),
        (b"\xff", None, texts(b"\xff").reshape(1, 1)),
        (7, int, np.array([7])),
        (7, float, np.array([7.0])),
        ([1.5, 2.5], None, np.array([[1.5], [2.5]])),
        ([[1, 2], [3, 4]], None, np.array([[1, 2], [3, 4]])),
        (MOMENT, datetime, texts("2026-11-21T10:00:00").reshape(1, 1)),
        ([{"a": 1}], list[dict], texts('{"a": 1}').reshape(1, 1)),
    ],
)
def test_a_result_is_one_output(result: Any, hint: Any, array: NDArray[Any]) -> None:
    def predict(self: Any) -> Any:
        return result

    predict.__annotations__ = {"return": hint} if hint else {}
    (got,) = asked(predict).values()
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tolist() == array.tolist()


def test_several_results_and_images() -> None:
    async def predict(self: Any) -> tuple[np.ndarray, list[str], Image.Image]:
        return np.zeros((1, 2)), ["a"], Image.new("RGB", (3, 2), "red")

    got = asked(predict)
    assert list(got) == ["output-0", "output-1", "output-2"]
    assert Image.open(io.BytesIO(got["output-2"].item())).size == (3, 2)


@pytest.mark.parametrize(
    ("result", "hint", "told"),
    [
        (3, list[str], r"predict: output-0: got int, wanted list\[str\]"),
        (object(), None, "predict: output-0: got object, wanted an array"),
        ((1, 2), tuple[int, int, int], "got 2 results, wanted 3 as hinted"),
        (np.zeros(2, np.complex64), np.ndarray, "got an array of complex64"),
    ],
)
def test_a_result_of_another_kind_is_the_models_fault(result: Any, hint: Any, told: str) -> None:
    def predict(self: Any) -> Any:
        return result

    predict.__annotations__ = {"return": hint} if hint else {}
    with pytest.raises((TypeError, ValueError), match=told):
        asked(predict)


def test_a_hint_that_stands_for_nothing_is_named() -> None:
    def predict(self: Any, x: asyncio.Task) -> Any: ...  # type: ignore[type-arg]

    with pytest.raises(TypeError, match=r"argument x: got the type hint .*Task"):
        binding_of(predict)


def test_what_takes_the_request_itself_is_left_alone() -> None:
    def whole(self: Any, payload: InferenceRequest) -> Any: ...

    def unhinted(self: Any, payload) -> Any: ...  # type: ignore[no-untyped-def]

    def values(self: Any, payload: list[str]) -> Any: ...

    assert binding_of(whole) is binding_of(unhinted) is None
    assert binding_of(values) is not None


@given(arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=2)))
def test_arrays_come_back_as_they_went(array: NDArray[Any]) -> None:
    kind = kind_of(np.ndarray)
    assert kind is not None
    if array.dtype.newbyteorder("=") not in DATATYPES.values():
        with pytest.raises(ValueError, match="wanted one of BOOL"):
            kind.give(array)
        return
    tensor = kind.give(array)
    assert tensor.shape == array.shape
    got = kind.take(tensor)
    assert np.array_equal(got, array, equal_nan=array.dtype.kind == "f")


@given(st.lists(st.text()))
def test_texts_come_back_as_they_went(words: list[str]) -> None:
    kind = kind_of(list[str])
    assert kind is not None
    assert kind.take(kind.give(words)) == words
    assert json.dumps(words)


def of_type(hint: Any, array: NDArray[Any], content_type: Any) -> Any:
    """What an argument of the hint gets of an input that says its content type."""
    seen = []

    def predict(self: Any, x: Any, **_: Any) -> None:
        seen.append(x)
        return np.zeros(1)  # type: ignore[return-value]

    predict.__annotations__ = {"x": hint}
    parameters = {OF_INPUTS: {"x": {"content_type": content_type}}}
    decode_args(predict)(None, InferenceRequest.of({"x": array}, parameters))
    return seen[0]


RED = base64.b64encode(png())


@pytest.mark.parametrize(
    ("hint", "array", "content_type", "wanted"),
    [
        (Any, texts("a", "b"), "str", ["a", "b"]),
        (Any, texts(base64.b64encode(b"\xff")), "base64", [b"\xff"]),
        (Any, texts(MOMENT.isoformat()), "datetime", [MOMENT]),
        (list[bytes], texts(base64.b64encode(b"\xff"), "no base64!"), "base64",
         [b"\xff", b"no base64!"]),
        (bytes, texts(base64.b64encode(b"\xff")), "base64", b"\xff"),
        (list[str], texts(base64.b64encode(b"text")), "base64", ["text"]),
        (list[str], texts("2026-11-21"), "datetime", ["2026-11-21"]),
        (list[str], texts("a"), "nonsense", ["a"]),
        (list[str], texts("a"), ["str"], ["a"]),
        (dict, texts("a"), "np", {"a"}),
    ],
)  # fmt: skip
def test_an_input_says_its_content_type(
    hint: Any, array: NDArray[Any], content_type: Any, wanted: Any
) -> None:
    if hint is dict:

        def predict(self: Any, rest: dict[str, Any]) -> str:
            assert isinstance(rest["x"], np.ndarray)
            return str(rest["x"][0])

        parameters = {OF_INPUTS: {"x": {"content_type": content_type}}}
        request = InferenceRequest.of({"x": array}, parameters)
        (found,) = decode_args(predict)(None, request).tensors().values()
        assert {each.decode() for each in found.ravel()} == wanted
    else:
        assert of_type(hint, array, content_type) == wanted


def test_an_image_may_come_in_base64() -> None:
    image = of_type(Image.Image, texts(RED), "base64")
    assert (image.size, image.getpixel((0, 0))) == ((3, 2), (255, 0, 0))


def test_what_is_not_of_the_content_type_that_it_says_is_told() -> None:
    with pytest.raises(BadRequest, match=r"input x: got FP64, wanted BYTES; wanted list\[str\]"):
        of_type(Any, np.zeros(1), "str")
