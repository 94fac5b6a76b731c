# SPDX-License-Identifier: MIT
"""What may be asked of a node, whichever node it is, and how its answer is read.

A kind of call is a ``Question``; what picks nodes, retries and hedges knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar
from urllib.parse import urlencode

from attrs import field, frozen

from smls.results import Classification, read_classification
from smls.transport import Reply

T_co = TypeVar("T_co", covariant=True)


class Question(Protocol[T_co]):
    """A call; ``body`` and ``headers`` are the same for every node."""

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def target(self, model: str | None, version: str | None) -> str:
        """The path and query at a node for a model in a version, its default where ``None``."""
        ...

    def read(self, reply: Reply, address: str) -> T_co:
        """What the node at ``address`` answered with status 200.

        :raises NodeFault: where that is no such answer.
        """
        ...


@frozen
class Classify:
    """The ``top`` labels of the image in ``body``."""

    body: bytes = field(repr=False)
    top: int
    headers: Mapping[str, str] = {}

    def target(self, model: str | None, version: str | None) -> str:
        named = {"model": model, "version": version, "top": self.top}
        query = {name: value for name, value in named.items() if value is not None}
        return f"/classify?{urlencode(query)}"

    def read(self, reply: Reply, address: str) -> Classification:
        return read_classification(reply.body, address)
