# SPDX-License-Identifier: MIT
"""What a node is told of a model that it is to serve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from attrs import field, frozen

MAX_BATCH_SIZE = 64
"""Larger batches win little even for tiny networks, and cost the first of them latency."""


@frozen
class Limits:
    """What an operator may set, by the names that TensorFlow Serving and Triton users know.

    ``max_queue_delay`` is in seconds. A batch is padded to the next of ``allowed_batch_sizes``
    where these are given. ``max_queue_size`` is in requests, ``max_queue_bytes`` in bytes.
    A ``max_batch_size`` of ``None`` leaves it to what was measured.
    """

    max_batch_size: int | None = None
    max_queue_delay: float = 0.0
    allowed_batch_sizes: tuple[int, ...] = ()
    max_queue_size: int = 4096
    max_queue_bytes: int = 1 << 30
    bound: int | None = field(init=False, eq=False, repr=False)
    """The most rows that the operator lets a batch, and so a request, have."""

    @bound.default
    def _bound(self) -> int | None:
        told = [size for size in (self.max_batch_size, *self.allowed_batch_sizes[-1:]) if size]
        return min(told, default=None)

    @property
    def largest(self) -> int:
        """The most rows that a batch of several requests may hold."""
        return self.bound or MAX_BATCH_SIZE

    def padded(self, size: int) -> int:
        """The size that a batch of ``size`` is run with."""
        return next((each for each in self.allowed_batch_sizes if each >= size), size)


@frozen
class Device:
    """Where a model runs: ``name`` is ``cpu``, ``cuda:N``, or empty for the library's own choice.

    Of a GPU's memory TensorFlow takes what it needs where ``memory_growth``, else all of it at
    once; ``memory_fraction`` of it or ``memory_bytes`` is the most, as the library has it.
    """

    name: str = ""
    memory_growth: bool = True
    memory_fraction: float | None = None
    memory_bytes: int | None = None

    @property
    def gpu(self) -> int | None:
        """The number of the GPU that is named, if one is."""
        return int(self.name.removeprefix("cuda:")) if self.name.startswith("cuda:") else None


def device_name(text: str) -> str:
    """``text`` where it names a device.

    :raises ValueError: where it does not.
    """
    if re.fullmatch(r"cpu|cuda:[0-9]{1,3}", text) is None:
        raise ValueError(f"device: got {text!r}, wanted cpu or cuda:N")
    return text


Channels = float | tuple[float, ...]
"""A number for all channels of an image, or one for each."""

AS_IS, SOFTMAX = "as-is", "softmax"
"""What becomes of an image model's scores: nothing, or parts of 1."""

SCORES = (AS_IS, SOFTMAX)


def channels(numbers: Sequence[float]) -> Channels:
    """``numbers``, one for all channels or one for each.

    :raises ValueError: where they are none, or not finite.
    """
    if len(numbers) not in (1, 3) or not all(map(isfinite, numbers)):
        raise ValueError(f"got {list(numbers)}, wanted one number, or three")
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def deviations(numbers: Sequence[float]) -> Channels:
    """``numbers`` as ``channels``, which divide values of 0-255.

    :raises ValueError: where they are none, or those of values of 0-1, or nothing can be divided.
    """
    if any(abs(each) < 1 for each in numbers):
        raise ValueError(f"got {list(numbers)}, wanted 1 at least: of pixel values of 0-255")
    return channels(numbers)


@frozen
class Tensor:
    """A tensor as the operator describes it, with -1 for each side that is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@frozen
class Document:
    """A model's settings file as it was read."""

    path: Path
    text: str


@frozen
class ModelSettings:
    """One model: where it lies, in which format, its labels and how to feed it.

    ``path`` is a file or a folder, as the format has it; ``format`` is one of
    ``smls_node.formats``, found from what lies there where it is empty. What is ``None`` is
    looked for in the model, measured, or has a default that depends on the others. ``mean`` and
    ``std`` are of pixel values of 0-255, ``layout`` is one of ``smls_node.layout`` or found in
    the signature, and ``scores`` says what is told of the scores of images. ``limits``
    are those of its batches and their queue. ``inputs`` and ``outputs`` are for formats that do
    not say what they take and give. ``trust_pickle`` lets pickled files run what code they hold,
    and ``trusted_types`` are the types that a skops file may hold besides the usual ones.
    ``implementation`` names a class of the user's own, as ``module.Class``, which may see the
    whole ``document``. ``platform`` is what people are told that the model is made with, the
    format's where it is empty.
    """

    path: Path
    labels: Path | None = None
    name: str | None = None
    version: str = "1"
    format: str = ""
    input_layer: str | None = None
    output_layer: str | None = None
    mean: Channels = 0.0
    std: Channels = 255.0
    height: int | None = None
    width: int | None = None
    layout: str = ""
    scores: str = AS_IS
    operator_threads: int | None = None
    runs: int | None = None
    limits: Limits = field(factory=Limits)
    device: Device = field(factory=Device)
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    trust_pickle: bool = False
    trusted_types: tuple[str, ...] = ()
    implementation: str = ""
    platform: str = ""
    document: Document | None = None
