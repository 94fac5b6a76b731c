# SPDX-License-Identifier: MIT
"""What a model takes and gives, by name; what is asked of it is held against that. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import Tensors, TensorSpec, datatype_of

DEFAULT = "serving_default"
"""What TensorFlow calls the signature that is meant where none is named."""


OF_INPUTS = "parameters of inputs"
"""Where the parameters of a request keep those of its inputs, by their names."""


@frozen
class Signature:
    """The tensors that one way to call a model takes and gives.

    ``batches`` says that the first side of each of them counts rows that know nothing of each
    other, so that the rows of several requests may be run together; it stands in the shapes, as
    -1. ``is_open`` is for models that say themselves what they will not have: ``inputs`` are then
    what people are told, and nothing is held against them. ``method`` is what TensorFlow Serving
    may be asked for it: ``predict``, ``classify`` or ``regress``. ``columns`` are the names of
    those of the only input, where it is a table that has them.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batches: bool = True
    is_open: bool = False
    method: str = "predict"
    columns: tuple[str, ...] = ()

    def rows(self, tensors: Tensors) -> int:
        """How many rows ``tensors`` have, which are what the signature takes; 1 where it does
        not batch.

        :raises BadRequest: naming the tensor, what was got and what was wanted.
        """
        if not self.is_open:
            self._check_names(tensors)
        for spec in () if self.is_open else self.inputs:
            got = tensors[spec.name]
            if datatype_of(got.dtype) != spec.datatype or not spec.admits(got.shape):
                shown = TensorSpec("", datatype_of(got.dtype), got.shape)
                raise BadRequest(f"input {spec.name}: got {shown}, wanted {spec}")
        if not self.batches:
            return 1
        counts = {name: array.shape[0] if array.ndim else 1 for name, array in tensors.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise BadRequest(f"inputs: got rows {told}, wanted the same number of each")
        rows = next(iter(counts.values()), 1)
        if rows < 1:
            raise BadRequest("inputs: got no row, wanted one at least")
        return rows

    def zeros(self) -> Tensors:
        """The smallest inputs that will do, of nothing but zeros and empty texts."""
        return {spec.name: zeros(spec) for spec in self.inputs}

    def _check_names(self, tensors: Tensors) -> None:
        names = [spec.name for spec in self.inputs]
        missing = [name for name in names if name not in tensors]
        unknown = [name for name in tensors if name not in names]
        if missing or unknown:
            problem = f"no {missing[0]!r}" if missing else f"{unknown[0]!r}"
            raise BadRequest(f"inputs: got {problem}, wanted {', '.join(names) or 'none'}")


@frozen(eq=False)
class Inputs:
    """What one request asks a model: ``rows`` rows of tensors for one of its signatures."""

    tensors: Tensors
    rows: int = 1
    signature: str = DEFAULT
    parameters: Mapping[str, Any] = field(factory=dict)


def zeros(spec: TensorSpec) -> NDArray[Any]:
    """The smallest tensor that ``spec`` admits, all zeros or empty texts; open sides are 1."""
    shape = tuple(1 if side < 0 else side for side in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, spec.dtype)
