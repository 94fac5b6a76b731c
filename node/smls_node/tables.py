# SPDX-License-Identifier: MIT
"""Models that predict from rows of named features. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import Tensors, TensorSpec
from smls_node.signature import Inputs, Signature


@frozen
class TableTask:
    """Rows of named features in, a prediction for each out.

    ``columns`` are the inputs where each feature is one of its own; otherwise they are the
    places in the rows of the one input ``matrix``.
    """

    signature: str
    features: tuple[str, ...]
    output: str
    columns: tuple[TensorSpec, ...] = ()
    matrix: TensorSpec | None = None

    def inputs(self, rows: Sequence[Mapping[str, Any]]) -> Inputs:
        """What is asked for the rows, each of which names every feature.

        :raises BadRequest: naming the feature, what was got and what was wanted.
        """
        if not rows:
            raise BadRequest("got no row, wanted an object of features, or a list of such")
        for row in rows:
            self._check(row)
        if self.matrix is not None:
            values = [[_number(name, row[name]) for name in self.features] for row in rows]
            tensors: Tensors = {self.matrix.name: np.array(values, self.matrix.dtype)}
        else:
            tensors = {spec.name: _column(spec, rows) for spec in self.columns}
        return Inputs(tensors, len(rows), self.signature)

    def predictions(self, outputs: Tensors) -> NDArray[Any]:
        """[N, ...], one prediction a row."""
        return outputs[self.output]

    def _check(self, row: Mapping[str, Any]) -> None:
        missing = [name for name in self.features if name not in row]
        unknown = [name for name in row if name not in self.features]
        if missing or unknown:
            problem = f"no {missing[0]!r}" if missing else f"{unknown[0]!r}"
            raise BadRequest(f"features: got {problem}, wanted {', '.join(self.features)}")


def table_task(
    signatures: Mapping[str, Signature], features: tuple[str, ...] = ()
) -> TableTask | None:
    """The task of a model whose first signature takes rows of features, whose names it has or
    ``features`` are, or several inputs of one value a row."""
    name, signature = next(iter(signatures.items()))
    if not signature.batches or not signature.outputs:
        return None
    output = signature.outputs[0].name
    features = features or signature.columns
    if len(signature.inputs) == 1 and features:
        (source,) = signature.inputs
        if len(source.shape) == 2 and source.shape[1] in (-1, len(features)):
            return TableTask(name, features, output, matrix=source)
    columns = signature.inputs
    if columns and all(spec.shape in ((-1,), (-1, 1)) for spec in columns):
        return TableTask(name, tuple(spec.name for spec in columns), output, columns)
    return None


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | int | float):
        return value
    raise BadRequest(f"feature {name}: got {value!r:.80}, wanted a number")


def _column(spec: TensorSpec, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    """[N] or [N, 1], as the input has it."""
    values: list[Any] = []
    for row in rows:
        value = row[spec.name]
        if spec.datatype != "BYTES":
            value = _number(spec.name, value)
        elif isinstance(value, str):
            value = value.encode()
        else:
            raise BadRequest(f"feature {spec.name}: got {value!r:.80}, wanted a text")
        values.append(value)
    try:
        column = np.array(values, spec.dtype)
    except OverflowError:
        raise BadRequest(f"feature {spec.name}: got a number beyond {spec.datatype}") from None
    return column[:, None] if len(spec.shape) == 2 else column
