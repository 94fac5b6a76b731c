# SPDX-License-Identifier: MIT
"""What a user's own model class is written with. ``import mlserver`` means this to its module."""

from smls.errors import BadRequest
from smls_node.pymodel.arguments import decode_args
from smls_node.pymodel.codecs import (
    Base64Codec,
    DatetimeCodec,
    InputCodec,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    RequestCodec,
    StringCodec,
    StringRequestCodec,
)
from smls_node.pymodel.model import MLModel, ModelParameters, ModelSettings, get_model_uri
from smls_node.pymodel.types import (
    Datatype,
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
    TensorData,
)

InferenceError = BadRequest
"""MLServer's name for what a model raises where a request is at fault."""

__all__ = [
    "Base64Codec",
    "Datatype",
    "DatetimeCodec",
    "InferenceError",
    "InferenceRequest",
    "InferenceResponse",
    "InputCodec",
    "MLModel",
    "MetadataTensor",
    "ModelParameters",
    "ModelSettings",
    "NumpyCodec",
    "NumpyRequestCodec",
    "PandasCodec",
    "Parameters",
    "RequestCodec",
    "RequestInput",
    "RequestOutput",
    "ResponseOutput",
    "StringCodec",
    "StringRequestCodec",
    "TensorData",
    "decode_args",
    "get_model_uri",
]
