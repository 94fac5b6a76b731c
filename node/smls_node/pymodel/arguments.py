# SPDX-License-Identifier: MIT
"""``decode_args``: a method's arguments made of a request's tensors by their type hints."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from attrs import field, frozen

from smls.errors import BadRequest
from smls.tensors import TensorSpec
from smls_node.pymodel.codecs import PandasCodec, hinted
from smls_node.pymodel.kinds import NATURAL, OBJECT, Kind, is_frame, kind_for, kind_of, without_none
from smls_node.pymodel.types import (
    InferenceRequest,
    InferenceResponse,
    RequestInput,
    ResponseOutput,
)


@frozen
class Argument:
    """One argument of ``predict``. Without a ``kind`` it is made of all inputs that no other
    argument takes: by ``gather``, which is told as ``wanted``."""

    name: str
    kind: Kind | None
    wanted: str
    is_needed: bool
    gather: Callable[[Sequence[RequestInput]], Any] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.wanted}"


@frozen
class Binding:
    """The arguments of a method, and the kinds of what it gives, one for each output."""

    arguments: tuple[Argument, ...]
    results: tuple[Kind | None, ...] = ()
    names: Mapping[str, Argument] = field(init=False)

    @names.default
    def _by_name(self) -> Mapping[str, Argument]:
        return {argument.name: argument for argument in self.arguments}

    def decode(self, request: InferenceRequest) -> dict[str, Any]:
        """The arguments that the inputs of ``request`` make.

        :raises BadRequest: naming the input, what was got and what was wanted.
        """
        values: dict[str, Any] = {}
        rest: list[RequestInput] = []
        for each in request.inputs:
            argument = self.names.get(each.name)
            kind = argument.kind if argument is not None else None
            if argument is not None and argument.gather is _dict and each.datatype == "BYTES":
                kind = OBJECT
            if kind is None:
                rest.append(each)
            else:
                values[each.name] = hinted(kind, each)
        gathering = next(
            (one for one in self.arguments if one.gather and one.name not in values), None
        )
        if gathering is not None and gathering.gather is not None and rest:
            values[gathering.name] = gathering.gather(rest)
        elif rest:
            raise BadRequest(f"inputs: got {rest[0].name!r}, wanted {self}")
        for argument in self.arguments:
            if argument.is_needed and argument.name not in values:
                raise BadRequest(f"inputs: got no {argument.name!r}, wanted {self}")
        return values

    def encode(self, result: Any, model_name: str, version: str | None = None) -> InferenceResponse:
        """The answer that ``result`` is.

        :raises TypeError, ValueError: where it is none, or not what the hint says.
        """
        if isinstance(result, InferenceResponse):
            return result
        return InferenceResponse(
            model_name=model_name, model_version=version, outputs=self._outputs(result)
        )

    def specs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the hints tell."""
        return tuple(
            TensorSpec(each.name, each.kind.datatype, each.kind.shape)
            for each in self.arguments
            if each.kind is not None
        )

    def gives(self) -> tuple[TensorSpec, ...]:
        """The outputs that the hints tell."""
        return tuple(
            TensorSpec(f"output-{index}", kind.datatype, kind.shape)
            for index, kind in enumerate(self.results)
            if kind is not None
        )

    def _outputs(self, result: Any) -> list[ResponseOutput]:
        if is_frame(type(result)):
            return PandasCodec.encode_outputs(result)
        if isinstance(result, Mapping):
            return [_output(str(name), value, None) for name, value in result.items()]
        several = isinstance(result, tuple)
        values = list(result) if several else [result]
        if len(self.results) > 1 and len(values) != len(self.results):
            raise ValueError(f"got {len(values)} results, wanted {len(self.results)} as hinted")
        kinds = [*self.results, *[None] * len(values)]
        return [
            _output(f"output-{index}", value, kinds[index]) for index, value in enumerate(values)
        ]

    def __str__(self) -> str:
        return ", ".join(map(str, self.arguments)) or "none"


def binding_of(predict: Callable[..., Any]) -> Binding | None:
    """How ``predict``, a method, is called; ``None`` where it takes the request as it is.

    :raises TypeError: naming an argument whose hint stands for nothing that is known.
    """
    _, *parameters = inspect.signature(predict).parameters.values()
    hints = get_type_hints(predict)
    wanted = [hints.get(parameter.name) for parameter in parameters]
    if len(wanted) == 1 and wanted[0] in (None, InferenceRequest):
        return None
    return _bound(predict)


def decode_args(predict: Callable[..., Any]) -> Callable[..., Any]:
    """A method of values, sync or async, as one of an ``InferenceRequest`` that answers with an
    ``InferenceResponse``. Its hints are read when it is first called."""

    @functools.cache
    def binding() -> Binding:
        return _bound(predict)

    def answer(self: Any, result: Any) -> InferenceResponse:
        name, version = getattr(self, "name", ""), getattr(self, "version", None)
        return binding().encode(result, name, version)

    wrapped: Any
    if inspect.iscoroutinefunction(predict):

        @functools.wraps(predict)
        async def wrapped(self: Any, request: InferenceRequest) -> InferenceResponse:
            return answer(self, await predict(self, **binding().decode(request)))

    else:

        @functools.wraps(predict)
        def wrapped(self: Any, request: InferenceRequest) -> InferenceResponse:
            return answer(self, predict(self, **binding().decode(request)))

    wrapped.binding = binding
    return wrapped  # type: ignore[no-any-return]


def _bound(predict: Callable[..., Any]) -> Binding:
    _, *parameters = inspect.signature(predict).parameters.values()
    hints = get_type_hints(predict)
    told = hints.get("return")
    results = get_args(told) if get_origin(told) is tuple else (told,) if told else ()
    return Binding(
        tuple(
            _argument(each, without_none(hints.get(each.name, Any)))
            for each in parameters
            if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        ),
        tuple(map(kind_of, results)),
    )


def _argument(parameter: inspect.Parameter, hint: Any) -> Argument:
    is_needed = parameter.default is parameter.empty
    name = parameter.name
    if is_frame(hint):
        return Argument(name, None, "pandas.DataFrame (its columns)", is_needed, _frame)
    if hint is dict or get_origin(hint) in (dict, Mapping):
        return Argument(name, None, "dict (all other inputs)", is_needed, _dict)
    kind = kind_of(hint)
    if kind is None:
        raise TypeError(
            f"argument {name}: got the type hint {hint}, wanted numpy.ndarray, list[str], str, "
            "bytes, PIL.Image.Image, pandas.DataFrame, dict, int, float, bool, datetime, or a "
            "list of these"
        )
    return Argument(name, kind, kind.name, is_needed)


def _frame(tensors: Sequence[RequestInput]) -> Any:
    return PandasCodec.decode_request(InferenceRequest(inputs=list(tensors)))


def _dict(tensors: Sequence[RequestInput]) -> dict[str, Any]:
    return {each.name: hinted(NATURAL, each) for each in tensors}


def _output(name: str, value: Any, kind: Kind | None) -> ResponseOutput:
    try:
        return ResponseOutput.of(name, (kind or kind_for(value)).give(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"predict: {name}: {error}") from error
