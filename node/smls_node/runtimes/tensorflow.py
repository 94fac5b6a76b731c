# SPDX-License-Identifier: MIT
"""label_image's graphs: one long-lived TensorFlow session a model, and ``run_graph`` on it.

label_image opens a session for each image. Here the session is pulled out: it is made once, with
the graph, and lives as long as the model does. The other formats of TensorFlow share it.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BrokenImage, ModelUnusable
from smls.tensors import Tensors, TensorSpec, datatype_of
from smls_node import machine
from smls_node.runtimes import GraphFiles, folding
from smls_node.runtimes.session import SessionCall
from smls_node.settings import Device
from smls_node.signature import DEFAULT, Signature, zeros

log = logging.getLogger(__name__)


class TensorFlowGraph:
    """A frozen graph in its session, warmed up. Made by ``load``, in a thread."""

    process = problem = ""

    def __init__(
        self, session: Any, run: Callable[..., Any], signature: Signature, example: Tensors
    ) -> None:
        self._session = session
        self._run = run
        (self._input,), (self._output,) = signature.inputs, signature.outputs
        self.signatures = {DEFAULT: signature}
        self.example = example

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BrokenImage: where the graph itself cannot decode a JPEG.
        """
        given = inputs[self._input.name]
        rows = self._decode_and_run(given) if given.dtype == object else self._run(given)
        return {self._output.name: rows}

    def unload(self) -> None:
        """Closes the session, and gives back the memory of its weights and its graph."""
        close(self._session)

    def _decode_and_run(self, image: NDArray[Any]) -> NDArray[Any]:
        import tensorflow as tf

        try:
            rows: NDArray[Any] = self._run(image)
        except tf.errors.InvalidArgumentError as error:
            raise BrokenImage(f"the graph cannot decode the image: {reason(error)}") from error
        return rows


def preload() -> None:
    """Imports TensorFlow, which takes seconds, and nothing more."""
    # Its start-up notices are for people who build TensorFlow, not for those who serve with it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    importlib.import_module("tensorflow")


def close(session: Any) -> None:
    """Closes the session, and gives back the memory of its weights and its graph."""
    session.close()
    give_back(session.graph)


def give_back(graph: Any) -> None:
    """Gives back the memory of a graph that nothing uses any more."""
    from tensorflow.python.framework import ops

    # Else it would keep its constants, the weights once more, until all garbage is looked at,
    # and for ever if it was there when the garbage was frozen.
    ops.dismantle_graph(graph)
    machine.give_back_memory()


def configuration(operator_threads: int, runs: int, device: Device) -> Any:
    """What a session is to be made with: see ``load``."""
    import tensorflow as tf

    if device.memory_bytes is not None:
        raise ModelUnusable("gpu_memory_bytes: TensorFlow takes gpu_memory_fraction instead")
    gpus = accelerators() if device.gpu is not None else 0
    if device.gpu is not None and device.gpu >= gpus:
        raise ModelUnusable(f"device: got {device.name}, but TensorFlow finds {gpus} GPUs")
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=operator_threads,
        inter_op_parallelism_threads=max(2, runs),
        # Else these would be the first session's too, however few it asked for.
        use_per_session_threads=True,
        # What a GPU has no kernel for runs on the CPU.
        allow_soft_placement=True,
        device_count={"GPU": 0} if device.name == "cpu" else {},
        gpu_options=tf.compat.v1.GPUOptions(
            allow_growth=device.memory_growth,
            per_process_gpu_memory_fraction=device.memory_fraction or 0.0,
        ),
    )


def placed(device: Device) -> Any:
    """In this context what is put into a graph runs on the device that is named."""
    import tensorflow as tf

    return tf.device(None if device.gpu is None else f"/GPU:{device.gpu}")


def accelerators() -> int:
    """How many GPUs TensorFlow sees."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def load(files: GraphFiles, *, operator_threads: int = 0, runs: int = 1) -> TensorFlowGraph:
    """The graph in a session of its own, after a first run on a black image.

    An operator is spread over ``operator_threads`` threads, as many as TensorFlow likes for 0,
    and ``runs`` calls run side by side. The former belong to the process: its first session fixes
    how many there are (see ``smls_node.pools``).

    :raises ModelUnusable: where the file is no frozen graph that this TensorFlow knows, a layer
        is not there or not to be found, or the first run fails.
    """
    preload()
    import tensorflow as tf

    config = configuration(operator_threads, runs, files.device)
    try:
        definition = tf.compat.v1.GraphDef.FromString(files.graph.read_bytes())
        graph = imported(definition, files.device)
    except Exception as error:
        raise ModelUnusable(f"{files.graph} is no frozen graph: {reason(error)}") from error
    source = _input(graph, files)
    target = _output(graph, files, source)
    spec, batches = _takes(files, source)
    names = source.name, target.name
    graph = folded(graph, files.device, config, (source.op.name, target.op.name))
    source, target = map(graph.get_tensor_by_name, names)
    session = tf.compat.v1.Session(graph=graph, config=config)
    call = SessionCall(session, [source.name], [target.name])

    def run(value: Any) -> Any:
        return call(value)[0]

    try:
        example = _black(tf, spec)
        first = run(example)
    except Exception as error:
        session.close()
        raise ModelUnusable(f"{files.graph}: its first run failed: {reason(error)}") from error
    if first.ndim == 0 or first.size == 0:
        session.close()
        raise ModelUnusable(
            f"{files.graph}: {target.name} gives {first.shape}, wanted a row of scores an image; "
            "name another with --output-layer"
        )
    answer = (-1 if batches else first.shape[0], *first.shape[1:])
    call.spread_if_quicker(example)
    gives = TensorSpec(target.op.name, datatype_of(first.dtype), answer)
    signature = Signature((spec,), (gives,), batches)
    return TensorFlowGraph(session, run, signature, {spec.name: example})


def imported(definition: Any, device: Device) -> Any:
    """The graph of that definition, to be run on the device."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default(), placed(device):
        tf.compat.v1.import_graph_def(definition, name="")
    return graph


def folded(graph: Any, device: Device, config: Any, keep: Collection[str]) -> Any:
    """The graph with its convolutions in one piece, where that wins something; see ``folding``.
    The one that was given is gone then."""
    import tensorflow as tf

    def values(tensors: list[Any]) -> list[Any]:
        with tf.compat.v1.Session(graph=graph, config=config) as session:
            found: list[Any] = session.run(tensors)
        return found

    try:
        faster = folding.folded(graph, keep, values)
    except tf.errors.OpError as error:
        log.warning("the graph's convolutions stay in pieces: %s", reason(error))
        return graph
    if faster is None:
        return graph
    give_back(graph)
    return imported(faster, device)


def _input(graph: Any, files: GraphFiles) -> Any:
    if files.input_layer is not None:
        return _named(graph, files, "--input-layer", files.input_layer, _inputs(graph))
    return _only(files, "--input-layer", _inputs(graph), _all(graph, "Placeholder"))


def _output(graph: Any, files: GraphFiles, source: Any) -> Any:
    candidates = _outputs(graph, source)
    if files.output_layer is not None:
        return _named(graph, files, "--output-layer", files.output_layer, candidates)
    softmax = [tensor for tensor in candidates if tensor.op.type == "Softmax"]
    return _only(files, "--output-layer", softmax or candidates, _ends(graph))


def _inputs(graph: Any) -> list[Any]:
    """Where an image may be fed: float32[N, H, W, C], or JPEG bytes."""
    found = []
    for op in graph.get_operations():
        if op.name == "DecodeJpeg/contents":
            found.append(op.outputs[0])
        elif op.type in ("Placeholder", "PlaceholderWithDefault"):
            tensor = op.outputs[0]
            rank, kind = tensor.shape.rank, tensor.dtype.name
            if (kind == "float32" and rank in (None, 4)) or (
                kind == "string" and rank in (None, 0)
            ):
                found.append(tensor)
    return found


def _outputs(graph: Any, source: Any) -> list[Any]:
    """The scores that nothing else in the graph uses and that depend on ``source``."""
    reached = {source.op.name}
    for op in graph.get_operations():
        if any(tensor.op.name in reached for tensor in op.inputs):
            reached.add(op.name)
    return [tensor for tensor in _ends(graph) if tensor.op.name in reached]


def _ends(graph: Any) -> list[Any]:
    return [
        tensor
        for op in graph.get_operations()
        for tensor in op.outputs[:1]
        if tensor.dtype.name == "float32"
        and tensor.shape.rank in (None, 1, 2)
        and op.inputs
        and not any(output.consumers() for output in op.outputs)
    ]


def _all(graph: Any, kind: str) -> list[Any]:
    return [op.outputs[0] for op in graph.get_operations() if op.type == kind]


def _only(files: GraphFiles, option: str, candidates: list[Any], others: list[Any]) -> Any:
    if len(candidates) == 1:
        return candidates[0]
    problem = "several layers would do" if candidates else "no layer is of a known kind"
    raise ModelUnusable(
        f"{files.graph}: {problem}; name one with {option}: {_list(candidates or others)}"
    )


def _named(graph: Any, files: GraphFiles, option: str, name: str, candidates: list[Any]) -> Any:
    # label_image's own names may carry the "import/" that its import_graph_def gave them.
    plain = name.removeprefix("import/")
    try:
        return graph.get_tensor_by_name(plain if ":" in plain else f"{plain}:0")
    except (KeyError, ValueError) as error:
        raise ModelUnusable(
            f"{files.graph}: {option}: got {name!r}, wanted a layer of the graph such as "
            f"{_list(candidates)}"
        ) from error


def _list(tensors: list[Any]) -> str:
    shown = [f"{tensor.name} {tensor.dtype.name}{_shape(tensor)}" for tensor in tensors[:12]]
    return ", ".join(shown) or "none was found"


def _shape(tensor: Any) -> str:
    return str(list(tensor.shape)) if tensor.shape.rank is not None else "[unknown]"


def _takes(files: GraphFiles, source: Any) -> tuple[TensorSpec, bool]:
    """The input, and whether its first side counts rows."""
    if source.dtype.name == "string":
        return TensorSpec(source.op.name, "BYTES", ()), False
    shape = source.shape.as_list() if source.shape.rank == 4 else [None, None, None, 3]
    if source.dtype.name != "float32" or source.shape.rank not in (None, 4):
        raise ModelUnusable(
            f"{files.graph}: {_list([source])} cannot be fed with images; wanted "
            "float32[N, H, W, C] or a string"
        )
    batch, height, width, channels = shape
    height, width = height or files.height, width or files.width
    if height is None or width is None:
        raise ModelUnusable(
            f"{files.graph}: {_list([source])} leaves its size open; "
            "give --input-height and --input-width"
        )
    if channels not in (None, 1, 3):
        raise ModelUnusable(f"{files.graph}: got {channels} channels, wanted 1 or 3")
    sides = (batch or -1, height, width, channels or 3)
    return TensorSpec(source.op.name, "FP32", sides), batch is None


def _black(tf: Any, spec: TensorSpec) -> NDArray[Any]:
    if spec.datatype == "BYTES":
        jpeg = tf.io.encode_jpeg(np.zeros((64, 64, 3), np.uint8)).numpy()
        return np.array(jpeg, np.object_)
    return zeros(spec)


def reason(error: Exception) -> str:
    """The line that tells, out of all that TensorFlow says."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_PREAMBLE)]
    return telling[0] if telling else type(error).__name__


_PREAMBLE = ("Graph execution error", "Detected at node", "Node:", "[[")
