# SPDX-License-Identifier: MIT
"""What a format leaves open of what it takes and gives, found by its first run.

The laws:

- Only the first signature is run: another may change the model.
- A tensor whose rank is open is taken as rows of single values.
- Where the first run fails on zeros though every side but the first is known, the model cannot be
  used. Where it takes texts, or has other open sides, they may have been the wrong ones: that is
  logged, and the model is served, unless only a run can tell what its outputs are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from attrs import evolve, frozen

from smls.errors import ModelUnusable
from smls.tensors import DATATYPES, Tensors, TensorSpec, datatype_of
from smls_node.layout import layout_of, sized
from smls_node.settings import ModelSettings, Tensor
from smls_node.signature import Signature, zeros

log = logging.getLogger(__name__)


@frozen
class Output:
    """An output as its format describes it: ``shape`` is ``None`` where its rank is not known,
    ``datatype`` empty where it is not."""

    name: str
    datatype: str = ""
    shape: tuple[int, ...] | None = None


@frozen
class Draft:
    """A signature as its format describes it; without ``outputs`` they are those of a run."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[Output, ...] = ()
    method: str = "predict"
    columns: tuple[str, ...] = ()


def opened(
    settings: ModelSettings,
    drafts: Mapping[str, Draft],
    infer: Callable[[str, Tensors], Tensors],
    reason: Callable[[Exception], str] = str,
) -> tuple[dict[str, Signature], Tensors]:
    """The signatures, and one row for the first of them, after a run of that one with ``infer``.

    ``reason`` is the line that tells out of what the library says.

    :raises ModelUnusable: where the first run fails and should not have.
    """
    name, draft = next(iter(drafts.items()))
    rows = 2 if _is_open(draft.inputs) else 1
    row = {spec.name: zeros(_sized(spec, settings)) for spec in draft.inputs}
    given = {each: np.concatenate([array] * rows) for each, array in row.items()}
    try:
        outputs = infer(name, row if rows == 1 else given)
    except Exception as error:
        told = f"{settings.path}: its first run, on zeros, failed: {reason(error)}"
        if not draft.outputs or not any(map(_may_refuse_zeros, draft.inputs)):
            raise ModelUnusable(told) from error
        log.warning("%s; it is served, not warmed up", told)
        outputs, row = {}, {}
    signatures = {each: _signature(other, {}, 0) for each, other in drafts.items()}
    signatures[name] = _signature(draft, outputs, rows)
    return signatures, row


def specs(settings: ModelSettings, told: Iterable[Tensor]) -> tuple[TensorSpec, ...]:
    """The tensors that the operator describes.

    :raises ModelUnusable: where a datatype is none.
    """
    for each in told:
        if each.datatype not in DATATYPES:
            raise ModelUnusable(
                f"{settings.path}: {each.name}: datatype: got {each.datatype!r}, "
                f"wanted one of {', '.join(DATATYPES)}"
            )
    return tuple(TensorSpec(each.name, each.datatype, each.shape) for each in told)


def _signature(draft: Draft, got: Tensors, rows: int) -> Signature:
    """What ``draft`` says, completed by what came of ``rows`` rows."""
    outputs = []
    batches = _is_open(draft.inputs)
    for each in draft.outputs or map(Output, got):
        spec, is_open = _completed(each, got, rows)
        outputs.append(spec)
        batches = batches and is_open
    return Signature(
        draft.inputs, tuple(outputs), batches, method=draft.method, columns=draft.columns
    )


def _completed(output: Output, got: Tensors, rows: int) -> tuple[TensorSpec, bool]:
    """The output, and whether its first side counts rows."""
    array = got.get(output.name)
    if array is None:
        shape = (-1,) if output.shape is None else output.shape
        is_open = output.shape is not None and shape[:1] == (-1,)
        return TensorSpec(output.name, output.datatype or "FP32", shape), is_open
    datatype = output.datatype or datatype_of(array.dtype)
    if output.shape is None:
        is_open = rows > 1 and array.shape[:1] == (rows,)
        first = (-1,) if is_open else array.shape[:1]
        return TensorSpec(output.name, datatype, (*first, *array.shape[1:])), is_open
    is_open = output.shape[:1] == (-1,) and array.shape[:1] == (rows,)
    return TensorSpec(output.name, datatype, output.shape), is_open


def _is_open(inputs: tuple[TensorSpec, ...]) -> bool:
    return bool(inputs) and all(spec.shape[:1] == (-1,) for spec in inputs)


def _may_refuse_zeros(spec: TensorSpec) -> bool:
    return spec.datatype == "BYTES" or -1 in spec.shape[1:]


def _sized(spec: TensorSpec, settings: ModelSettings) -> TensorSpec:
    """The spec of images with the height and the width that the operator gives."""
    layout = layout_of(spec.shape, settings.layout)
    if layout is None:
        return spec
    return evolve(spec, shape=sized(spec.shape, layout, settings.height, settings.width))
