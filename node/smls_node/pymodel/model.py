# SPDX-License-Identifier: MIT
"""The class that users' own models are made of, with what MLServer's has in common use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from attrs import define, field

from smls_node.pymodel.codecs import INPUT_CODECS, REQUEST_CODECS, InputCodec, RequestCodec
from smls_node.pymodel.kinds import kind_for, natural
from smls_node.pymodel.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
)


class ModelParameters(Parameters):
    """What ``parameters`` in a model's settings say; keys of the user's own are attributes too."""

    def __init__(
        self,
        uri: str | None = None,
        version: str | None = None,
        format: str | None = None,
        content_type: str | None = None,
        extra: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(content_type, **more)
        self.uri = uri
        self.version = version
        self.format = format
        self.extra = dict(extra or {})


def _parameters(given: Any) -> ModelParameters:
    return ModelParameters(**given) if isinstance(given, Mapping) else given


def _tensors(given: Sequence[Any]) -> list[MetadataTensor]:
    return [each if isinstance(each, MetadataTensor) else MetadataTensor(**each) for each in given]


@define(kw_only=True)
class ModelSettings:
    """What a model's settings say, as the model sees it. ``_source`` is their file."""

    name: str = ""
    implementation: str = ""
    platform: str = ""
    versions: list[str] = field(factory=list)
    inputs: list[MetadataTensor] = field(factory=list, converter=_tensors)
    outputs: list[MetadataTensor] = field(factory=list, converter=_tensors)
    max_batch_size: int = 0
    max_batch_time: float = 0.0
    parameters: ModelParameters = field(factory=ModelParameters, converter=_parameters)
    _source: str | None = field(default=None, alias="_source")

    @property
    def version(self) -> str | None:
        return self.parameters.version


class MLModel:
    """A model of a user's own: ``load``, ``predict`` and ``unload`` may be sync or async.

    ``predict`` takes an ``InferenceRequest`` and gives an ``InferenceResponse``, or with
    ``decode_args`` what its hints say. All three are called in one thread of the model's own.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self.ready = False

    async def load(self) -> Any:
        """Makes the model ready. ``False`` says that it is not, and that it cannot be served."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answer to one request."""
        raise NotImplementedError(f"{type(self).__name__} has no predict")

    async def unload(self) -> Any:
        """Gives back what the model holds."""
        return True

    @property
    def settings(self) -> ModelSettings:
        return self._settings

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def version(self) -> str | None:
        return self._settings.version

    @property
    def inputs(self) -> list[MetadataTensor]:
        """What settings say of the inputs; may be set in ``load``."""
        return self._settings.inputs

    @inputs.setter
    def inputs(self, value: Sequence[Any]) -> None:
        self._settings.inputs = _tensors(value)

    @property
    def outputs(self) -> list[MetadataTensor]:
        """What settings say of the outputs; may be set in ``load``."""
        return self._settings.outputs

    @outputs.setter
    def outputs(self, value: Sequence[Any]) -> None:
        self._settings.outputs = _tensors(value)

    def decode(
        self, request_input: RequestInput, default_codec: type[InputCodec] | None = None
    ) -> Any:
        """The input by its content type, or that in the settings, or else by ``default_codec``;
        where nothing says it, an array, or a list of texts.

        :raises BadRequest: where the input is of another kind.
        """
        told = _content_type(request_input, _named(self.inputs, request_input.name))
        codec = INPUT_CODECS.get(told, default_codec)
        return codec.decode_input(request_input) if codec else natural(request_input.array())

    def decode_request(
        self, inference_request: InferenceRequest, default_codec: type[RequestCodec] | None = None
    ) -> Any:
        """The request by its content type, or that in the settings, or else by
        ``default_codec``; itself where nothing says it.

        :raises BadRequest: where it is of another kind.
        """
        told = _content_type(inference_request, self._settings)
        codec = REQUEST_CODECS.get(told, default_codec)
        return codec.decode_request(inference_request) if codec else inference_request

    def encode(
        self,
        payload: Any,
        request_output: RequestOutput,
        default_codec: type[InputCodec] | None = None,
    ) -> ResponseOutput:
        """``payload`` as the output of that name.

        :raises TypeError: where it is of no known kind.
        """
        told = _content_type(request_output, _named(self.outputs, request_output.name))
        codec = INPUT_CODECS.get(told)
        name = request_output.name
        if codec is not None:
            return codec.encode_output(name, payload)
        try:
            return ResponseOutput.of(name, kind_for(payload).give(payload))
        except TypeError:
            if default_codec is None:
                raise
            return default_codec.encode_output(name, payload)

    def encode_response(
        self, payload: Any, default_codec: type[RequestCodec] | None = None
    ) -> InferenceResponse:
        """``payload`` as a whole answer.

        :raises TypeError: where it is of no known kind.
        """
        for codec in (*REQUEST_CODECS.values(), default_codec):
            if codec is not None and (codec is default_codec or codec.can_encode(payload)):
                return codec.encode_response(self.name, payload, self.version)
        raise TypeError(f"got {type(payload).__name__}, wanted an array, texts or a data frame")


async def get_model_uri(settings: ModelSettings, wellknown_filenames: Sequence[str] = ()) -> str:
    """Where the model's files are: ``parameters.uri``, beside the settings where it is relative,
    or else their folder; in a folder the first of ``wellknown_filenames`` that is there.

    :raises FileNotFoundError: where there is no such file or folder.
    """
    told = settings.parameters.uri or "."
    if urlparse(told, scheme="file").scheme != "file":
        return told
    path = Path(settings._source or ".").parent / urlparse(told).path
    if not path.exists():
        raise FileNotFoundError(f"parameters.uri: got {told!r}, but there is no {path}")
    found = (path / name for name in wellknown_filenames if (path / name).is_file())
    return str(next(found, path).resolve())


def _content_type(*told: Any) -> str:
    """The first that is said."""
    parameters = (each.parameters for each in told if each is not None)
    return next((each.content_type for each in parameters if each and _is_told(each)), "")


def _is_told(parameters: Parameters) -> bool:
    """Callers may send anything under the name."""
    return isinstance(parameters.content_type, str) and bool(parameters.content_type)


def _named(tensors: Sequence[MetadataTensor], name: str) -> MetadataTensor | None:
    return next((each for each in tensors if each.name == name), None)
