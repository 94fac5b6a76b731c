# SPDX-License-Identifier: MIT
"""Requests and answers as a user's own class sees them, named as MLServer's are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from math import prod
from typing import Any, Self

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from smls.tensors import DATATYPES, Tensors, datatype_of
from smls_node.signature import OF_INPUTS

Datatype = StrEnum("Datatype", {name: name for name in DATATYPES})  # type: ignore[misc]
"""The datatypes of the Open Inference Protocol, each equal to its name."""


class Parameters:
    """What is said of a tensor, a request or a model besides: any attribute may be given."""

    def __init__(
        self,
        /,
        content_type: str | None = None,
        headers: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.content_type = content_type
        self.headers = headers
        vars(self).update(more)

    def dict(self) -> dict[str, Any]:
        """What was given, as what ``json.dumps`` takes."""
        return {name: value for name, value in vars(self).items() if value is not None}

    model_dump = dict

    def __repr__(self) -> str:
        return f"Parameters({self.dict()})"


class TensorData(Sequence[Any]):
    """A tensor's elements one after the other, texts as ``str`` where they are UTF-8.

    Made of an array, it becomes a list only where somebody looks.
    """

    def __init__(self, elements: Any) -> None:
        self.source = elements

    @property
    def root(self) -> list[Any]:
        """The elements in a list; ``source`` itself where it is one."""
        if isinstance(self.source, np.ndarray):
            flat = self.source.ravel().tolist()
            self.source = [_text(each) for each in flat] if flat and _is_text(flat[0]) else flat
        return self.source if isinstance(self.source, list) else [self.source]

    def __getitem__(self, index: Any) -> Any:
        return self.root[index]

    def __len__(self) -> int:
        return len(self.root)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.root)

    def __eq__(self, other: object) -> bool:
        return self.root == (other.root if isinstance(other, TensorData) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.root)


def _is_text(element: object) -> bool:
    return isinstance(element, (bytes, str))


def _text(element: Any) -> Any:
    try:
        return element.decode() if isinstance(element, bytes) else element
    except UnicodeDecodeError:
        return element


def _data(given: Any) -> TensorData:
    if isinstance(given, TensorData):
        return given
    return TensorData(list(given) if isinstance(given, tuple) else given)


def _parameters(given: Any) -> Parameters | None:
    return Parameters(**given) if isinstance(given, Mapping) else given


def _datatype(given: Any) -> str:
    name = str(given)
    if name not in DATATYPES:
        raise ValueError(f"datatype: got {name!r}, wanted one of {', '.join(DATATYPES)}")
    return name


@define(kw_only=True, eq=False)
class _Tensor:
    """A named tensor. ``data`` may be given nested, flat, or as an array."""

    name: str
    shape: list[int] = field(converter=list)
    datatype: str = field(converter=_datatype)
    data: TensorData = field(converter=_data)
    parameters: Parameters | None = field(default=None, converter=_parameters)

    @classmethod
    def of(cls, name: str, array: NDArray[Any], parameters: Any = None) -> Self:
        """The tensor that ``array`` is.

        :raises ValueError: where the protocol has no datatype for it.
        """
        return cls(
            name=name,
            shape=list(array.shape),
            datatype=datatype_of(array.dtype),
            data=array,
            parameters=parameters,
        )

    def array(self) -> NDArray[Any]:
        """The elements in their shape; those of BYTES are ``bytes`` objects.

        :raises ValueError: where elements, datatype and shape do not fit together.
        """
        source = self.data.source
        dtype = DATATYPES[self.datatype]
        if isinstance(source, np.ndarray) and source.dtype == dtype:
            return source.reshape(self.shape)
        if self.datatype == "BYTES":
            return self._texts()
        try:
            return np.array(self.data.root, dtype).reshape(self.shape)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.name}: got data that is no {self.datatype} of shape {self.shape}: {error}"
            ) from error

    def dict(self) -> dict[str, Any]:
        """As what ``json.dumps`` takes, where the texts are UTF-8."""
        found: dict[str, Any] = {
            "name": self.name,
            "shape": self.shape,
            "datatype": self.datatype,
            "data": self.data.root,
        }
        if self.parameters is not None:
            found["parameters"] = self.parameters.dict()
        return found

    model_dump = dict

    def _texts(self) -> NDArray[Any]:
        elements = [_bytes(each, self.name) for each in _flat(self.data.root)]
        array = np.empty(len(elements), np.object_)
        array[:] = elements
        # MLServer's users also say how many bytes the one text has.
        return array.reshape(self.shape) if prod(self.shape) == len(elements) else array


def _flat(elements: Any) -> Iterator[Any]:
    for each in elements:
        if isinstance(each, (list, tuple)):
            yield from _flat(each)
        else:
            yield each


def _bytes(element: Any, name: str) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if not isinstance(element, bytes):
        raise ValueError(f"{name}: got {type(element).__name__} in BYTES, wanted str or bytes")
    return element


@define(kw_only=True, eq=False)
class RequestInput(_Tensor):
    """A tensor of a request."""


@define(kw_only=True, eq=False)
class ResponseOutput(_Tensor):
    """A tensor of an answer."""


@define(kw_only=True)
class MetadataTensor:
    """What settings say of a tensor."""

    name: str
    datatype: str = field(converter=_datatype)
    shape: list[int] = field(converter=list)
    parameters: Parameters | None = field(default=None, converter=_parameters)


@define(kw_only=True)
class RequestOutput:
    """An output that a request wants."""

    name: str
    parameters: Parameters | None = field(default=None, converter=_parameters)


@define(kw_only=True, eq=False)
class InferenceRequest:
    """What a request asks."""

    inputs: list[RequestInput]
    id: str | None = None
    parameters: Parameters | None = field(default=None, converter=_parameters)
    outputs: list[RequestOutput] | None = None

    @classmethod
    def of(cls, tensors: Tensors, parameters: Mapping[str, Any]) -> InferenceRequest:
        """The request with these tensors; ``parameters`` have the tensors' own too."""
        of_inputs = parameters.get(OF_INPUTS, {})
        own = {name: each for name, each in parameters.items() if name != OF_INPUTS}
        return cls(
            inputs=[
                RequestInput.of(name, array, of_inputs.get(name)) for name, array in tensors.items()
            ],
            parameters=own or None,
        )


@define(kw_only=True, eq=False)
class InferenceResponse:
    """What is answered. Its model and its id are the node's to say."""

    model_name: str
    outputs: list[ResponseOutput]
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters | None = field(default=None, converter=_parameters)

    def tensors(self) -> Tensors:
        """The outputs by name.

        :raises ValueError: where one is malformed, or two have one name.
        """
        tensors = {output.name: output.array() for output in self.outputs}
        if len(tensors) < len(self.outputs):
            names = ", ".join(output.name for output in self.outputs)
            raise ValueError(f"outputs: got {names}, wanted names that differ")
        return tensors
