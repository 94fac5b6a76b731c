# SPDX-License-Identifier: MIT
"""TensorFlow Serving's paths, and what it tells of models: their states and signatures. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from attrs import frozen

from smls.errors import BadRequest, ModelNotFound
from smls.tensors import TensorSpec
from smls_node.catalogue import Catalogue, Model
from smls_node.signature import Signature
from smls_node.versions import MAX_VERSION, State

_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"

_VERB = re.compile(_MODEL + r":(?P<verb>classify|regress|predict)", re.IGNORECASE)

_ABOUT = re.compile(_MODEL + r"(?:/(?P<verb>metadata))?", re.IGNORECASE)

STATUS = "status"

_DTYPES = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


@frozen
class Called:
    """What a path names: a model, perhaps a version or a label of it, and what is asked of it:
    ``predict``, ``classify``, ``regress``, ``metadata`` or ``status``."""

    model: str
    version: str | None
    label: str | None
    verb: str

    def not_found(self) -> ModelNotFound:
        """The error that this is not served, as TensorFlow Serving says it."""
        if self.version is not None:
            return ModelNotFound(
                f"Servable not found for request: Specific({self.model}, {self.version})"
            )
        return ModelNotFound(f"Servable not found for request: Latest({self.model})")


@frozen
class VersionStatus:
    """The state of a version; ``problem`` says what it failed of, where it did."""

    version: str
    state: str
    problem: str = ""

    @property
    def error_code(self) -> str:
        return "UNKNOWN" if self.problem else "OK"


def called(method: str, target: str) -> Called:
    """What a request for ``target``, as it was sent, asks for.

    >>> called("POST", "/V1/models/half:Predict?x")
    Called(model='half', version=None, label=None, verb='predict')

    :raises BadRequest: where TensorFlow Serving has no such call.
    """
    path = target.partition("?")[0]
    if path.lower().rstrip("/") == "/v1/models" and method != "POST":
        raise BadRequest("Missing model name in request.")
    match = (_VERB if method == "POST" else _ABOUT).fullmatch(path)
    if match is None:
        raise BadRequest(f"Malformed request: {method} {unquote(path)}")
    version = match["version"]
    if version is not None:
        version = version.lstrip("0") or "0"
        if len(version) > len(str(MAX_VERSION)) or int(version) > MAX_VERSION:
            raise BadRequest(f"Failed to convert version: {version[:80]} to numeric.")
    label = match["label"]
    verb = (match["verb"] or STATUS).lower()
    return Called(unquote(match["model"]), version, unquote(label) if label else None, verb)


def statuses(catalogue: Catalogue, name: str) -> tuple[VersionStatus, ...]:
    """The states of the model's versions, the latest first."""
    found = {
        each.version: VersionStatus(each.version, each.state.value, each.why)
        for each in catalogue.absent
        if each.name == name
    }
    for model in catalogue.models:
        if model.name == name:
            found[model.version] = VersionStatus(
                model.version, model.state.value, model.runtime.problem
            )
    return tuple(sorted(found.values(), key=lambda status: int(status.version), reverse=True))


def status(catalogue: Catalogue, asked: Called) -> dict[str, Any]:
    """The body that tells the states of a model's versions, or of the one that is asked for.

    ``ready`` is not TensorFlow Serving's: KServe's clients look for it there.

    :raises ModelNotFound: where there is none.
    :raises BadRequest: where there is no such label.
    """
    version = asked.version
    if asked.label is not None:
        version = labelled(catalogue, asked).version
    found = statuses(catalogue, asked.model)
    if version is not None:
        found = tuple(each for each in found if each.version == version)
        if not found:
            raise ModelNotFound(f"Could not find version {version} of model {asked.model}")
    if not found:
        raise ModelNotFound(f"Could not find any versions of model {asked.model}")
    return {
        "model_version_status": [
            {
                "version": each.version,
                "state": each.state,
                "status": {"error_code": each.error_code, "error_message": each.problem},
            }
            for each in found
        ],
        "ready": any(each.state == State.AVAILABLE.value for each in found),
    }


def labelled(catalogue: Catalogue, asked: Called) -> Model:
    """The model that the label stands for.

    :raises BadRequest: where there is no such label.
    """
    try:
        return catalogue.find(asked.model, None, asked.label)
    except ModelNotFound as error:
        told = f"Unrecognized servable version label: {asked.label}"
        raise BadRequest(f"{told}; {error.message}") from None


def metadata(model: Model) -> dict[str, Any]:
    """The body that tells a model's signatures."""
    signatures: Mapping[str, Signature] = model.runtime.signatures
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
        "metadata": {
            "signature_def": {
                "signature_def": {name: _signature(each) for name, each in signatures.items()}
            }
        },
    }


def dtype_of(spec: TensorSpec) -> str:
    """TensorFlow's name for the tensor's type.

    >>> dtype_of(TensorSpec("x", "FP32", (-1,)))
    'DT_FLOAT'
    """
    return _DTYPES.get(spec.datatype) or f"DT_{spec.datatype}"


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": f"tensorflow/serving/{signature.method}",
        "defaults": {},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "dtype": dtype_of(spec),
        "tensor_shape": {
            "dim": [{"size": str(side), "name": ""} for side in spec.shape],
            "unknown_rank": False,
        },
        "name": f"{spec.name}:0",
    }
