# SPDX-License-Identifier: MIT
"""A label_image graph in OpenVINO, which reads the frozen ``.pb`` as it is.

It runs many networks faster than TensorFlow on a CPU, starts at once and takes little memory. It
knows no strings and decodes no JPEG, so those graphs stay with the session. That its answers are
the session's is not taken for granted: see ``smls_node.acceleration``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from smls.errors import ModelUnusable
from smls.tensors import Tensors, TensorSpec
from smls_node.kept import Kept
from smls_node.runtimes import GraphFiles, quantizing
from smls_node.signature import DEFAULT, Signature

PRECISIONS = {"f32": "f32", "bf16": "bf16", quantizing.I8: "f32"}
"""What a network may be computed in, and for each what OpenVINO is told for what is not quantized.
Its own default may be a lower one, so that the precision is always named."""


log = logging.getLogger(__name__)


class OpenVinoGraph:
    """A frozen graph compiled by OpenVINO. Made by ``load``, in a thread."""

    process = problem = ""

    def __init__(self, compiled: Any, signature: Signature, one_by_one: bool) -> None:
        self._compiled = compiled
        self._one_by_one = one_by_one
        self._local = threading.local()
        (self._input,), (self._output,) = signature.inputs, signature.outputs
        self.signatures = {DEFAULT: signature}
        self.example = signature.zeros()

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``."""
        batch = inputs[self._input.name]
        if self._one_by_one:
            rows = [self._run(batch[index : index + 1]) for index in range(len(batch))]
            return {self._output.name: np.concatenate(rows)}
        return {self._output.name: self._run(batch)}

    def unload(self) -> None:
        """Lets go of the compiled network and its weights."""
        self._local = threading.local()
        self._compiled = None

    def _run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        request = getattr(self._local, "request", None)
        if request is None:
            # A request belongs to one thread; its buffers are made once.
            request = self._local.request = self._compiled.create_infer_request()
        request.infer([batch], share_inputs=True)
        return np.array(request.get_output_tensor(0).data, np.float32)


def library() -> Any:
    """OpenVINO, imported as if its telemetry were not installed: that could report over the
    network, and brings an HTTP client that takes a tenth of a second to be imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def preload() -> None:
    """Imports the library. Where that fails, it fails again for who needs it."""
    with contextlib.suppress(ImportError):
        library()


def load(
    files: GraphFiles,
    *,
    precision: str,
    streams: int,
    one_by_one: bool,
    kept: Kept | None = None,
    quantized: Kept | None = None,
) -> OpenVinoGraph:
    """The graph, compiled for ``streams`` runs at once and after a first one.

    :param one_by_one: whether it is compiled for one image a run, which is faster for networks
        that win nothing by batches.
    :param kept: where the compiled network is kept for the graph's bytes and what else it is made
        of, on this machine: from there it comes in a fraction of the time. What is not there, or
        refused by OpenVINO, is put there.
    :param quantized: where ``quantizing`` has left the network for the precision ``i8``.
    :raises ModelUnusable: where OpenVINO cannot read the graph, or it is of no kind that is
        served here; where it is to be quantized and was not.
    """
    # OpenVINO gives the thread that compiles a stack for its signals, and takes it away with the
    # network (as of 2026.4): the next signal there would end the process. So it is one for this.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_load, files, precision, streams, one_by_one, kept, quantized).result()


def _load(
    files: GraphFiles,
    precision: str,
    streams: int,
    one_by_one: bool,
    kept: Kept | None,
    quantized: Kept | None,
) -> OpenVinoGraph:
    how = f"{precision} {streams} {'one' if one_by_one else 'any'}"
    kept = kept and evolve(kept, key=f"{kept.key} {how}")
    data = kept and kept.read()
    openvino = library()
    config = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    try:
        core = openvino.Core()
        if data is not None:
            try:
                compiled = core.import_model(openvino.Tensor(data), "CPU", config)
                return _graph(compiled, files, one_by_one)
            except Exception as error:
                _warn(files, "OpenVINO refuses the compiled network that was kept", error)
        batch = 1 if one_by_one else -1
        if precision == quantizing.I8:
            network = _shaped(quantizing.read(core, files, quantized), files, batch)
        else:
            network = network_of(core, files, batch)
        compiled = core.compile_model(network, "CPU", config)
        graph = _graph(compiled, files, one_by_one)
    except ModelUnusable:
        raise
    except Exception as error:
        raise ModelUnusable(f"{files.graph}: OpenVINO cannot run it: {_reason(error)}") from error
    if kept is not None:
        try:
            kept.write(lambda: compiled.export_model().getbuffer())
        except Exception as error:
            _warn(files, "the compiled network cannot be kept for the next start", error)
    return graph


def network_of(core: Any, files: GraphFiles, batch: int) -> Any:
    """The graph as OpenVINO reads it, not compiled, for ``batch`` images a run, any for -1.

    :raises ModelUnusable: as ``load``.
    """
    return _shaped(core.read_model(files.graph), files, batch)


def _shaped(network: Any, files: GraphFiles, batch: int) -> Any:
    source = _source(network, files)
    network.reshape({source: [batch, *_shape(source, files)]})
    return network


def _graph(compiled: Any, files: GraphFiles, one_by_one: bool) -> OpenVinoGraph:
    """The compiled network after a first run."""
    source, target = _source(compiled, files), compiled.outputs[0]
    shape = _shape(source, files)
    first = compiled([np.zeros((1, *shape), np.float32)])[0]
    takes = TensorSpec(_name(source, files.input_layer), "FP32", (-1, *shape))
    gives = TensorSpec(_name(target, files.output_layer), "FP32", (-1, *first.shape[1:]))
    return OpenVinoGraph(compiled, Signature((takes,), (gives,)), one_by_one)


def _warn(files: GraphFiles, what: str, error: Exception) -> None:
    log.warning("%s: %s: %s", files.graph, what, _reason(error))


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def _source(network: Any, files: GraphFiles) -> Any:
    """The network's only input, if its only output is what is wanted too."""
    _only(network.outputs, files.output_layer, "output", files)
    return _only(network.inputs, files.input_layer, "input", files)


def _only(ports: list[Any], name: str | None, what: str, files: GraphFiles) -> Any:
    if len(ports) != 1:
        raise ModelUnusable(f"{files.graph}: OpenVINO finds {len(ports)} {what}s, wanted one")
    names = _names(ports[0])
    plain = _plain(name)
    if plain and plain not in names:
        raise ModelUnusable(
            f"{files.graph}: OpenVINO's {what} is {', '.join(sorted(names))}, not {plain}"
        )
    return ports[0]


def _names(port: Any) -> set[str]:
    return {each.split(":")[0] for each in port.get_names()}


def _plain(name: str | None) -> str:
    """label_image's own names may carry the "import/" that its import_graph_def gave them."""
    return (name or "").removeprefix("import/").split(":")[0]


def _name(port: Any, told: str | None) -> str:
    """What TensorFlow calls it: what the operator said, or else the shortest of its names."""
    return _plain(told) or min(_names(port), key=lambda name: (len(name), name))


def _shape(source: Any, files: GraphFiles) -> tuple[int, ...]:
    """Height, width and channels of an image."""
    shape = source.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or source.get_element_type().to_string() != "f32":
        raise ModelUnusable(f"{files.graph}: got input {shape}, wanted float32[N, H, W, C]")
    _, height, width, channels = (side.get_length() if side.is_static else None for side in shape)
    height, width, channels = height or files.height, width or files.width, channels or 3
    if height is None or width is None or channels not in (1, 3):
        raise ModelUnusable(f"{files.graph}: got input {shape}, wanted a known size")
    return height, width, channels
