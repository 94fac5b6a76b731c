# SPDX-License-Identifier: MIT
"""One module a library; what they have in common is here and imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from smls.tensors import Tensors
from smls_node.settings import Channels, Device
from smls_node.signature import Signature


@frozen
class GraphFiles:
    """A frozen graph and how its input is to be fed.

    Layers left out are looked for in the graph. ``height`` and ``width`` are needed only where
    the graph leaves them open.
    """

    graph: Path
    input_layer: str | None = None
    output_layer: str | None = None
    mean: Channels = 0.0
    std: Channels = 255.0
    height: int | None = None
    width: int | None = None
    device: Device = field(factory=Device)


class Runtime(Protocol):
    """A loaded model. ``infer`` blocks and may be called from several threads at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to call it by name, the one that is meant by default first."""
        ...

    @property
    def example(self) -> Tensors:
        """One row for the first signature, to warm up and to measure with; nothing where the
        model refuses whatever can be made up."""
        ...

    @property
    def process(self) -> str:
        """Which process of its own it runs in and why, for people; empty for the node's."""
        ...

    @property
    def problem(self) -> str:
        """Why it cannot be run just now; empty where it can."""
        ...

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        """The outputs for inputs that the signature admits.

        The inputs may be lent: they hold until the call returns. Requests that bring
        ``parameters`` are run alone.
        """
        ...

    def unload(self) -> None: ...
