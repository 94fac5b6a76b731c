# SPDX-License-Identifier: MIT
"""The codecs that MLServer names by content type: between tensors and a user's own values.

They do by a name what ``kinds`` does by a type hint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from smls.errors import BadRequest
from smls_node.pymodel.kinds import (
    ARRAY,
    BLOBS,
    DATETIMES,
    NATURAL,
    TEXTS,
    Kind,
    is_frame,
    kind_for,
    natural,
)
from smls_node.pymodel.types import (
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestInput,
    ResponseOutput,
)

Tensor = RequestInput | ResponseOutput


class InputCodec:
    """A codec of single tensors."""

    ContentType: ClassVar[str] = ""
    kind: ClassVar[Kind]

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        try:
            return kind_for(payload) is cls.kind or kind_for(payload).name == cls.kind.name
        except TypeError:
            return False

    @classmethod
    def encode_input(cls, name: str, payload: Any, **_: Any) -> RequestInput:
        """The input ``name``. MLServer's ``use_bytes`` is taken, and makes no difference."""
        return RequestInput.of(name, cls.kind.give(payload), Parameters(cls.ContentType))

    @classmethod
    def encode_output(cls, name: str, payload: Any, **_: Any) -> ResponseOutput:
        """The output ``name``."""
        return ResponseOutput.of(name, cls.kind.give(payload), Parameters(cls.ContentType))

    @classmethod
    def decode_input(cls, request_input: Tensor) -> Any:
        """The value.

        :raises BadRequest: where the tensor is of another kind.
        """
        return taken(cls.kind, request_input)

    @classmethod
    def decode_output(cls, response_output: Tensor) -> Any:
        return taken(cls.kind, response_output)


class NumpyCodec(InputCodec):
    """``np``: arrays."""

    ContentType = "np"
    kind = ARRAY

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return isinstance(payload, np.ndarray)


class StringCodec(InputCodec):
    """``str``: lists of ``str``."""

    ContentType = "str"
    kind = TEXTS


class Base64Codec(InputCodec):
    """``base64``: lists of ``bytes`` that travel as texts."""

    ContentType = "base64"
    kind = BLOBS

    @classmethod
    def encode_input(cls, name: str, payload: Any, **_: Any) -> RequestInput:
        return super().encode_input(name, [_b64(each) for each in payload])

    @classmethod
    def encode_output(cls, name: str, payload: Any, **_: Any) -> ResponseOutput:
        return super().encode_output(name, [_b64(each) for each in payload])

    @classmethod
    def decode_input(cls, request_input: Tensor) -> Any:
        return [_from_b64(each) for each in taken(cls.kind, request_input)]

    @classmethod
    def decode_output(cls, response_output: Tensor) -> Any:
        return cls.decode_input(response_output)


class DatetimeCodec(InputCodec):
    """``datetime``: lists of ``datetime``, as ISO 8601 texts."""

    ContentType = "datetime"
    kind = DATETIMES


class RequestCodec:
    """A codec of whole requests: here of those with one tensor, by ``InputCodec``."""

    ContentType: ClassVar[str] = ""
    InputCodec: ClassVar[type[InputCodec]]

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return cls.InputCodec.can_encode(payload)

    @classmethod
    def encode_request(cls, payload: Any, **more: Any) -> InferenceRequest:
        return InferenceRequest(
            inputs=[cls.InputCodec.encode_input("input-1", payload, **more)],
            parameters=Parameters(cls.ContentType),
        )

    @classmethod
    def decode_request(cls, request: InferenceRequest) -> Any:
        """The value.

        :raises BadRequest: where there is not one tensor, or it is of another kind.
        """
        return cls.InputCodec.decode_input(_only(request.inputs, "inputs"))

    @classmethod
    def encode_response(
        cls, model_name: str, payload: Any, model_version: str | None = None, **more: Any
    ) -> InferenceResponse:
        return InferenceResponse(
            model_name=model_name,
            model_version=model_version,
            parameters=Parameters(cls.ContentType),
            outputs=[cls.InputCodec.encode_output("output-1", payload, **more)],
        )

    @classmethod
    def decode_response(cls, response: InferenceResponse) -> Any:
        return cls.InputCodec.decode_output(_only(response.outputs, "outputs"))


class NumpyRequestCodec(RequestCodec):
    """``np``: the one tensor as an array."""

    ContentType = "np"
    InputCodec = NumpyCodec


class StringRequestCodec(RequestCodec):
    """``str``: the one tensor as a list of ``str``."""

    ContentType = "str"
    InputCodec = StringCodec


class PandasCodec(RequestCodec):
    """``pd``: each tensor a column of a data frame. Needs pandas."""

    ContentType = "pd"

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return is_frame(type(payload))

    @classmethod
    def encode_outputs(cls, payload: Any, **_: Any) -> list[ResponseOutput]:
        """A tensor for each column.

        :raises TypeError, ValueError: where a column holds neither numbers nor texts.
        """
        return [_column(ResponseOutput, str(name), payload[name]) for name in payload]

    @classmethod
    def encode_request(cls, payload: Any, **_: Any) -> InferenceRequest:
        return InferenceRequest(
            inputs=[_column(RequestInput, str(name), payload[name]) for name in payload],
            parameters=Parameters(cls.ContentType),
        )

    @classmethod
    def encode_response(
        cls, model_name: str, payload: Any, model_version: str | None = None, **_: Any
    ) -> InferenceResponse:
        return InferenceResponse(
            model_name=model_name,
            model_version=model_version,
            parameters=Parameters(cls.ContentType),
            outputs=cls.encode_outputs(payload),
        )

    @classmethod
    def decode_request(cls, request: InferenceRequest) -> Any:
        """The data frame.

        :raises BadRequest: where the tensors are no columns of one length.
        """
        return _frame(request.inputs)

    @classmethod
    def decode_response(cls, response: InferenceResponse) -> Any:
        return _frame(response.outputs)


INPUT_CODECS: dict[str, type[InputCodec]] = {
    each.ContentType: each for each in (NumpyCodec, StringCodec, Base64Codec, DatetimeCodec)
}
REQUEST_CODECS: dict[str, type[RequestCodec]] = {
    each.ContentType: each for each in (PandasCodec, NumpyRequestCodec, StringRequestCodec)
}


def taken(kind: Kind, tensor: Tensor) -> Any:
    """The value of ``kind`` that a tensor is.

    :raises BadRequest: naming the tensor, what was got and what was wanted.
    """
    try:
        return kind.take(tensor.array())
    except Exception as error:
        raise BadRequest(f"input {tensor.name}: {error}; wanted {kind.name}") from error


def hinted(kind: Kind, tensor: Tensor) -> Any:
    """The value of ``kind`` that a tensor is, of its own content type where no hint tells the
    kind. What is said to be base64 is decoded first, whatever the hint.

    :raises BadRequest: naming the tensor, what was got and what was wanted.
    """
    codec = codec_of(tensor)
    if codec is not None and kind is NATURAL:
        return codec.decode_input(tensor)
    if codec is not Base64Codec:
        return taken(kind, tensor)
    elements = codec.decode_input(tensor)
    decoded = np.empty(len(elements), np.object_)
    decoded[:] = elements
    return taken(kind, RequestInput.of(tensor.name, decoded.reshape(tensor.array().shape)))


def codec_of(tensor: Tensor) -> type[InputCodec] | None:
    """The codec of the content type that the tensor says it has, where that is a known one."""
    told = tensor.parameters and tensor.parameters.content_type
    return INPUT_CODECS.get(told) if isinstance(told, str) else None


def _b64(blob: bytes | str) -> bytes:
    import base64

    return base64.b64encode(blob.encode() if isinstance(blob, str) else blob)


def _from_b64(blob: bytes) -> bytes:
    """MLServer takes what is no base64 as it is."""
    import base64
    import binascii

    try:
        return base64.b64decode(blob, validate=True)
    except binascii.Error:
        return blob


def _only(tensors: Sequence[Tensor], what: str) -> Tensor:
    if len(tensors) != 1:
        raise BadRequest(f"{what}: got {len(tensors)}, wanted one")
    return tensors[0]


def _column(make: Any, name: str, series: Any) -> Any:
    values = series.to_numpy()
    if values.dtype.kind not in "biuf":
        values = np.array(list(values), np.object_)
    array = NumpyCodec.kind.give(values)
    return make.of(name, array, Parameters("str") if array.dtype.kind == "O" else None)


def _frame(tensors: Sequence[Tensor]) -> Any:
    import pandas

    columns: dict[str, Any] = {}
    for tensor in tensors:
        codec = codec_of(tensor)
        value = codec.decode_input(tensor) if codec else natural(tensor.array())
        columns[tensor.name] = _as_column(value, tensor)
    if len({len(column) for column in columns.values()}) > 1:
        told = ", ".join(f"{len(column)} of {name}" for name, column in columns.items())
        raise BadRequest(f"inputs: got rows {told}, wanted the same number of each")
    return pandas.DataFrame(columns)


def _as_column(value: Any, tensor: Tensor) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim > 1 and value.size != len(value):
        raise BadRequest(
            f"input {tensor.name}: got shape {list(value.shape)}, wanted a column of a data frame"
        )
    return value.reshape(-1)
