# SPDX-License-Identifier: MIT
"""PyTorch's TorchScript modules.

They name their arguments and say nothing of types and shapes, so the operator does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from smls.errors import BadRequest, ModelUnusable
from smls.tensors import Tensors
from smls_node import machine
from smls_node.runtimes.opening import Draft, opened, specs
from smls_node.settings import Device, ModelSettings
from smls_node.signature import DEFAULT, Signature


class TorchScript:
    """A module on its device. Made by ``load``."""

    process = problem = ""

    def __init__(
        self,
        module: Any,
        device: Any,
        names: Sequence[str],
        outputs: Sequence[str],
        operator_threads: int,
    ) -> None:
        self._module = module
        self._device = device
        self._names = names
        self._outputs = outputs
        self._operator_threads = operator_threads
        self._threads = threading.local()
        self.signatures: Mapping[str, Signature] = {}
        self.example: Tensors = {}

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BadRequest: where the module refuses the values.
        """
        import torch

        self._settle_thread()
        # PyTorch warns of arrays that cannot be written to, and lent ones cannot.
        given = [
            torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._device)
            for array in (inputs[name] for name in self._names)
        ]
        try:
            with torch.inference_mode():
                return self._named(self._module(*given))
        except torch.jit.Error as error:
            raise BadRequest(f"the model refuses the inputs: {_reason(error)}") from error

    def unload(self) -> None:
        """Gives up the module and its memory, a GPU's too."""
        import torch

        self._module = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        machine.give_back_memory()

    def _settle_thread(self) -> None:
        """The threads of an operator are the caller's, who has them from its first call on."""
        import torch

        if self._operator_threads and not getattr(self._threads, "settled", False):
            torch.set_num_threads(self._operator_threads)
            self._threads.settled = True

    def _named(self, value: Any) -> Tensors:
        """The tensors that a module gives, by its own names, or those told, or their numbers."""
        if isinstance(value, dict):
            return {str(name): _array(each) for name, each in value.items()}
        values = list(value) if isinstance(value, tuple | list) else [value]
        names = self._outputs or [f"output_{place}" for place in range(len(values))]
        if len(names) != len(values):
            raise ModelUnusable(f"outputs: got {len(names)}, but the module gives {len(values)}")
        return dict(zip(names, map(_array, values), strict=True))


def load(settings: ModelSettings, *, operator_threads: int = 0, runs: int = 1) -> TorchScript:
    """The module on its device, after a first run, which says what its outputs are.

    An operator is spread over ``operator_threads`` threads of OpenMP's, as many as PyTorch likes
    for 0; each thread that calls has its own.

    :raises ModelUnusable: where the file is no TorchScript, its inputs are not described, the
        device is not there, or the first run fails.
    """
    import torch

    path = settings.path
    device = _device(settings.device)
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
        wanted = [each.name for each in module.forward.schema.arguments[1:]]
    except Exception as error:
        raise ModelUnusable(f"{path} is no whole TorchScript module: {_reason(error)}") from error
    if not settings.inputs:
        raise ModelUnusable(
            f"{path}: TorchScript does not say the shapes of {', '.join(wanted)}; describe them "
            'with inputs, as [{name = "x", datatype = "FP32", shape = [-1, 4]}]'
        )
    if len(settings.inputs) > len(wanted):
        raise ModelUnusable(
            f"{path}: inputs: got {len(settings.inputs)}, wanted those of "
            f"forward({', '.join(wanted)})"
        )
    inputs = specs(settings, settings.inputs)
    if any(spec.datatype == "BYTES" for spec in inputs):
        raise ModelUnusable(f"{path}: inputs: got BYTES, which PyTorch has no tensors of")
    told = [each.name for each in settings.outputs]
    # Arguments by their names in any order, or by other names in their own.
    names = [spec.name for spec in inputs]
    ordered = sorted(names, key=wanted.index) if set(names) <= set(wanted) else names
    model = TorchScript(module, device, ordered, told, operator_threads)
    model.signatures, model.example = opened(
        settings, {DEFAULT: Draft(inputs)}, lambda _, row: model.infer(row), _reason
    )
    return model


def _device(device: Device) -> Any:
    import torch

    if device.memory_bytes is not None:
        raise ModelUnusable("gpu_memory_bytes: PyTorch takes gpu_memory_fraction instead")
    gpus = torch.cuda.device_count()
    if device.gpu is not None and device.gpu >= gpus:
        raise ModelUnusable(f"device: got {device.name}, but PyTorch finds {gpus} GPUs")
    chosen = torch.device(device.name or ("cuda:0" if gpus else "cpu"))
    if chosen.type == "cuda" and device.memory_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(device.memory_fraction, chosen)
    return chosen


def _array(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = value.detach().cpu().numpy()
    return array


def _reason(error: Exception) -> str:
    """The last line: TorchScript's errors begin with where in the module they arose."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
