# SPDX-License-Identifier: MIT
"""The requests of a batch in as few runs of the model as they fit into, and each one's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import NodeFault, Unavailable
from smls.tensors import Tensors
from smls_node import aligning
from smls_node.runtimes import Runtime
from smls_node.signature import OF_INPUTS, Inputs


class Runner:
    """Runs batches in ``runtime``; ``padded`` is the number of rows that so many are run as.

    Requests of one signature whose tensors differ in their rows alone are one run. Where a run
    fails it is halved, until the requests at fault stand alone.
    """

    def __init__(self, runtime: Runtime, padded: Callable[[int], int] = lambda rows: rows) -> None:
        self._runtime = runtime
        self._padded = padded

    def __call__(self, batch: Sequence[Inputs]) -> list[Tensors | Exception]:
        """The outputs for each request, or what it fails of."""
        answers: dict[int, Tensors | Exception] = {}
        for members in self._alike(batch):
            runs = self._run([batch[index] for index in members])
            answers.update(zip(members, runs, strict=True))
        return [answers[index] for index in range(len(batch))]

    def _alike(self, batch: Sequence[Inputs]) -> Iterator[list[int]]:
        """The places in ``batch`` of those that can be one run."""
        groups: dict[Any, list[int]] = {}
        for index, each in enumerate(batch):
            signature = self._runtime.signatures[each.signature]
            alone = not signature.batches or each.parameters.keys() - {OF_INPUTS}
            groups.setdefault(index if alone else _kind(each), []).append(index)
        yield from groups.values()

    def _run(self, batch: Sequence[Inputs]) -> Sequence[Tensors | Exception]:
        try:
            return self._together(batch)
        except Exception as error:
            # What is no request's fault would be every half's.
            if len(batch) == 1 or isinstance(error, (NodeFault, Unavailable)):
                return [error] * len(batch)
            middle = len(batch) // 2
            return [*self._run(batch[:middle]), *self._run(batch[middle:])]

    def _together(self, batch: Sequence[Inputs]) -> Sequence[Tensors]:
        first = batch[0]
        if not self._runtime.signatures[first.signature].batches:
            return [self._runtime.infer(first.tensors, first.signature, first.parameters)]
        rows = sum(each.rows for each in batch)
        padded = self._padded(rows)
        inputs = {
            name: _joined([each.tensors[name] for each in batch], padded - rows)
            for name in first.tensors
        }
        outputs = self._runtime.infer(inputs, first.signature, first.parameters)
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != padded:
                got = len(array) if array.ndim else "no"
                raise ValueError(f"the model gave {got} rows of {name} for {padded} rows")
        if len(batch) == 1 and padded == rows:
            return [outputs]
        return _cut(outputs, [each.rows for each in batch])


def _kind(inputs: Inputs) -> tuple[Any, ...]:
    """What is the same for requests that can be one run."""
    shapes = [(name, each.dtype, each.shape[1:]) for name, each in inputs.tensors.items()]
    told = repr(inputs.parameters.get(OF_INPUTS))
    return inputs.signature, told, *sorted(shapes, key=lambda shape: shape[0])


def _joined(arrays: list[NDArray[Any]], more: int) -> NDArray[Any]:
    """The rows of ``arrays`` and the last one ``more`` times."""
    if len(arrays) == 1 and not more:
        return arrays[0]
    rows = sum(map(len, arrays)) + more
    joined = aligning.empty((rows, *arrays[0].shape[1:]), arrays[0].dtype)
    return np.concatenate([*arrays, *[arrays[-1][-1:]] * more], out=joined)


def _cut(outputs: Tensors, counts: Sequence[int]) -> list[Tensors]:
    """The outputs in pieces of so many rows."""
    pieces: list[Tensors] = []
    end = 0
    for count in counts:
        begin, end = end, end + count
        pieces.append({name: array[begin:end] for name, array in outputs.items()})
    return pieces
