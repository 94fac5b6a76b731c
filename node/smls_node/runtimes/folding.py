# SPDX-License-Identifier: MIT
"""What stands before and after a convolution put into it, in a frozen graph: batch norms and
biases, and zeros about the picture.

TensorFlow's own optimizer (Grappler) does it for most convolutions, but leaves depthwise ones in
pieces, and those whose result is added to something: of MobileNetV2 these are 27 of 52, each
followed by two more passes over all pixels and an activation apart. With the factors in the weights
and the rest in one ``BiasAdd``, TensorFlow runs each as one operator with its activation or sum.

For a convolution is linear: (x * w) · s + b = x * (w · s) + b, with a factor and a summand for each
channel of its result (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, section 3.2). Products are rounded at other places, so
that scores move in the seventh digit.

Keras's networks for phones surround a picture with zeros before each convolution that halves it: a
copy of all pixels, and just the zeros that ``SAME`` padding has where it is asked for instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

DEPTHWISE = "DepthwiseConv2dNative"

Values = Callable[[list[Any]], list[NDArray[Any]]]
"""What tensors are that depend on no input."""


@frozen
class _Chain:
    """A convolution, what pads its picture, if anything does, and the operations after it that
    only scale and shift its channels."""

    convolution: Any
    pad: Any = None
    steps: list[Any] = field(factory=list)

    def constants(self) -> Iterator[Any]:
        """The tensors that it is folded from: the weights, by how much is padded, and what each
        step is done with."""
        yield self.convolution.inputs[1]
        if self.pad is not None:
            yield self.pad.inputs[1]
        before = self.convolution
        for step in self.steps:
            yield from (each for each in step.inputs if each.op is not before)
            before = step


def folded(graph: Any, keep: Collection[str], values: Values) -> Any:
    """The definition of ``graph`` with such convolutions in one piece, or ``None`` where it has
    none. Operations named in ``keep`` stay as they are."""
    chains = list(_chains(graph, keep))
    if not chains:
        return None
    wanted = {each.name: each for chain in chains for each in chain.constants()}
    found = dict(zip(wanted, values(list(wanted.values())), strict=True))
    places: dict[str, list[Any]] = {}
    for chain in chains:
        places.update(_folded(chain, found))
    if not places:
        return None
    definition = graph.as_graph_def()
    kept = [made for node in definition.node for made in places.get(node.name, [node])]
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del definition.node[:]
    definition.node.extend(copies)
    return definition


def _chains(graph: Any, keep: Collection[str]) -> Iterator[_Chain]:
    """The convolutions that TensorFlow would leave in pieces."""
    operations = graph.get_operations()
    fixed = _fixed(operations, keep)
    held = {*keep, *(each.name for op in operations for each in op.control_inputs)}
    for op in operations:
        if op.type not in (DEPTHWISE, "Conv2D") or op.control_inputs:
            continue
        is_plain = op.get_attr("data_format") == b"NHWC" and op.get_attr("T").name == "float32"
        if not is_plain or op.inputs[1].op.name not in fixed:
            continue
        pad, steps, end = _pad(op, fixed, held), [], op
        while (step := _step(end, fixed)) is not None and end.name not in held:
            steps.append(step)
            end = step
        if not (op.type == DEPTHWISE or _is_summed(end)):
            steps = []
        if pad is not None or steps:
            yield _Chain(op, pad, steps)


def _fixed(operations: list[Any], keep: Collection[str]) -> set[str]:
    """The names of those that always give the same. What is kept may be fed."""
    fixed: set[str] = set()
    for op in operations:
        if op.name in keep:
            continue
        if op.type == "Const" or (
            (op.inputs or op.type == "NoOp")
            and not op.op_def.is_stateful
            and op.type != "PlaceholderWithDefault"
            and all(each.op.name in fixed for each in op.inputs)
            and all(each.name in fixed for each in op.control_inputs)
        ):
            fixed.add(op.name)
    return fixed


def _pad(op: Any, fixed: set[str], held: Collection[str]) -> Any:
    """What surrounds the picture of ``op`` with zeros for it alone; else ``None``."""
    pad = op.inputs[0].op
    if op.get_attr("padding") != b"VALID" or pad.type != "Pad" or pad.control_inputs:
        return None
    is_alone = len(pad.outputs[0].consumers()) == 1 and pad.name not in held
    return pad if is_alone and pad.inputs[1].op.name in fixed else None


def _step(op: Any, fixed: set[str]) -> Any:
    """The only operation that uses the result of ``op``, where it scales or shifts that by what is
    fixed; else ``None``."""
    users = op.outputs[0].consumers()
    if len(users) != 1 or users[0].control_inputs:
        return None
    (user,) = users
    others = [each for each in user.inputs if each.op is not op]
    if len(others) != len(user.inputs) - 1 or any(each.op.name not in fixed for each in others):
        return None
    if user.type in ("Mul", "Add", "AddV2", "BiasAdd"):
        return user
    if user.type == "Sub" and user.inputs[0].op is op:
        return user
    if user.type.startswith("FusedBatchNorm") and user.inputs[0].op is op:
        is_alone = not any(each.consumers() for each in user.outputs[1:])
        return user if is_alone and not user.get_attr("is_training") else None
    return None


def _is_summed(op: Any) -> bool:
    return any(user.type in ("Add", "AddV2", "AddN") for user in op.outputs[0].consumers())


def _folded(chain: _Chain, found: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """What takes the place of the nodes in ``chain``, up to a step that is done with something else
    than a number for each channel; the last one is named as what it takes the place of."""
    weights = found[chain.convolution.inputs[1].name].astype(np.float64)
    channels = weights.shape[2:] if chain.convolution.type == DEPTHWISE else weights.shape[3:]
    count = int(np.prod(channels))
    factor, summand = np.ones(count), np.zeros(count)
    gone = [chain.convolution]
    for step in chain.steps:
        given = [found[each.name] for each in step.inputs if each.op is not gone[-1]]
        told = [_for_channels(each.astype(np.float64), count) for each in given]
        if any(each is None for each in told):
            break
        times, plus = _scaling(step, *told)
        factor, summand = factor * times, summand * times + plus
        gone.append(step)
    with np.errstate(over="ignore"):
        folded = (weights * factor.reshape(channels)).astype(np.float32)
        bias = summand.astype(np.float32)
    places: dict[str, list[Any]] = {}
    convolution = chain.convolution.node_def
    if chain.pad is not None and _is_same(chain, weights.shape, found[chain.pad.inputs[1].name]):
        convolution.input[0] = chain.pad.node_def.input[0]
        convolution.attr["padding"].s = b"SAME"
        places = {chain.pad.name: [], convolution.name: [convolution]}
    if len(gone) > 1 and np.isfinite(folded).all() and np.isfinite(bias).all():
        places.update({each.name: [] for each in gone})
        places[gone[-1].name] = _nodes(convolution, gone[-1].name, folded, bias)
    return places


def _is_same(chain: _Chain, weights: tuple[int, ...], paddings: NDArray[Any]) -> bool:
    """Whether ``SAME`` padding surrounds such a picture with just those zeros; ``weights`` is
    their shape."""
    strides, dilations = (chain.convolution.get_attr(name) for name in ("strides", "dilations"))
    picture = chain.pad.inputs[0].shape
    wanted = [(0, 0)] * 4
    for axis in (1, 2):
        size = picture[axis] if picture.rank == 4 else None
        if size is None:
            return False
        kernel = (weights[axis - 1] - 1) * dilations[axis] + 1
        results = -(-size // strides[axis])
        zeros = max(0, (results - 1) * strides[axis] + kernel - size)
        wanted[axis] = zeros // 2, zeros - zeros // 2
    return bool(np.array_equal(paddings, wanted))


def _for_channels(value: NDArray[np.float64], count: int) -> NDArray[np.float64] | None:
    if value.size == 1:
        return np.full(count, value.reshape(()))
    return value.reshape(count) if value.shape[-1:] == (count,) and value.size == count else None


def _scaling(step: Any, given: Any, *others: Any) -> tuple[Any, Any]:
    """By what ``step`` multiplies each channel, and what it adds then."""
    if step.type == "Mul":
        return given, 0.0
    if step.type == "Sub":
        return 1.0, -given
    if not others:
        return 1.0, given
    offset, mean, variance = others
    times = given / np.sqrt(variance + step.get_attr("epsilon"))
    return times, offset - mean * times


def _nodes(
    convolution: Any, end: str, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> list[Any]:
    """The convolution with other weights, and a shift by ``bias`` that is named ``end``."""
    import tensorflow as tf

    def constant(name: str, value: NDArray[np.float32]) -> Any:
        node = type(convolution)(op="Const", name=name)
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return node

    inside, beside = (f"{convolution.name}/folded_{each}" for each in ("weights", "bias"))
    del convolution.input[1:]
    convolution.input.append(inside)
    shifted = type(convolution)(op="BiasAdd", name=end)
    shifted.input.extend([convolution.name, beside])
    shifted.attr["T"].type = tf.float32.as_datatype_enum
    return [constant(inside, weights), constant(beside, bias), convolution, shifted]
