# SPDX-License-Identifier: MIT
"""ONNX models, in one session of onnxruntime each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest, ModelUnusable
from smls.tensors import Tensors, TensorSpec
from smls_node import machine
from smls_node.runtimes.opening import Draft, Output, opened
from smls_node.settings import Device, ModelSettings
from smls_node.signature import DEFAULT, Signature

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""What onnxruntime calls the types that travel."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

log = logging.getLogger(__name__)


class OnnxModel:
    """A model in its session, which several threads may run at once. Made by ``load``."""

    process = problem = ""

    def __init__(self, session: Any, texts: frozenset[str], outputs: list[str]) -> None:
        self._session = session
        self._texts = texts
        self._outputs = outputs
        self.signatures: Mapping[str, Signature] = {}
        self.example: Tensors = {}

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BadRequest: where a text is not UTF-8, or the model refuses the values.
        """
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        feed = {
            name: _texts(name, array) if name in self._texts else array
            for name, array in inputs.items()
        }
        try:
            values = self._session.run(self._outputs, feed)
        except InvalidArgument as error:
            raise BadRequest(f"the model refuses the inputs: {_reason(error)}") from error
        return {
            name: _bytes(array) if array.dtype == object else array
            for name, array in zip(self._outputs, map(np.asarray, values), strict=True)
        }

    def unload(self) -> None:
        """Gives up the session and its memory."""
        self._session = None
        machine.give_back_memory()


def load(settings: ModelSettings, *, operator_threads: int = 0, runs: int = 1) -> OnnxModel:
    """The model in a session, after a first run.

    An operator is spread over ``operator_threads`` threads, one a core for 0; these are the
    session's, and however many calls run side by side share them. With 1 each call runs in its
    caller's thread alone.

    :raises ModelUnusable: where the file is no model that this onnxruntime knows, its inputs are
        no plain tensors, the device is not there, or the first run fails.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = operator_threads
    options.log_severity_level = 3
    # Threads that wait for work by spinning take the cores from the node and its other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(settings.device, onnxruntime.get_available_providers())
    path = settings.path
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise ModelUnusable(f"{path} is no whole ONNX model: {_reason(error)}") from error
    draft = _draft(session, settings)
    texts = frozenset(spec.name for spec in draft.inputs if spec.datatype == "BYTES")
    model = OnnxModel(session, texts, [output.name for output in draft.outputs])
    model.signatures, model.example = opened(
        settings, {DEFAULT: draft}, lambda _, row: model.infer(row), _reason
    )
    return model


def _providers(device: Device, available: list[str]) -> list[Any]:
    if device.memory_fraction is not None:
        raise ModelUnusable("gpu_memory_fraction: onnxruntime takes gpu_memory_bytes instead")
    if device.gpu is not None and CUDA not in available:
        raise ModelUnusable(
            f"device: got {device.name}, but onnxruntime has only {', '.join(available)}; "
            "its GPU build is onnxruntime-gpu"
        )
    if device.name == "cpu" or CUDA not in available:
        return [CPU]
    growth = "kSameAsRequested" if device.memory_growth else "kNextPowerOfTwo"
    options: dict[str, Any] = {"device_id": device.gpu or 0, "arena_extend_strategy": growth}
    if device.memory_bytes is not None:
        options["gpu_mem_limit"] = device.memory_bytes
    return [(CUDA, options), CPU]


def _draft(session: Any, settings: ModelSettings) -> Draft:
    inputs, outputs = [], []
    for each in session.get_inputs():
        if each.type not in DATATYPES:
            raise ModelUnusable(
                f"{settings.path}: input {each.name}: got {each.type}, "
                f"wanted one of {', '.join(DATATYPES)}"
            )
        inputs.append(TensorSpec(each.name, DATATYPES[each.type], _sides(each)))
    for each in session.get_outputs():
        if each.type in DATATYPES:
            # An output whose rank is not known has no sides either.
            outputs.append(Output(each.name, DATATYPES[each.type], _sides(each) or None))
        else:
            told = "%s: output %s is not served: it is a %s"
            log.warning(told, settings.path, each.name, each.type)
    if not outputs:
        raise ModelUnusable(f"{settings.path} has no output that is a plain tensor")
    return Draft(tuple(inputs), tuple(outputs))


def _sides(tensor: Any) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) and side >= 0 else -1 for side in tensor.shape)


def _texts(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """onnxruntime would write out the bytes as Python does."""
    try:
        texts = [text.decode() for text in array.flat]
    except UnicodeDecodeError as error:
        raise BadRequest(f"input {name}: got a text that is not UTF-8: {error}") from error
    return np.array(texts, np.object_).reshape(array.shape)


def _bytes(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([text.encode() for text in array.flat], np.object_).reshape(array.shape)


def _reason(error: Exception) -> str:
    """The line that tells, without onnxruntime's own mark."""
    lines = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return lines.removeprefix("[ONNXRuntimeError] : ") or type(error).__name__
