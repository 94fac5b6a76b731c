# SPDX-License-Identifier: MIT
"""What may be asked of a node, whichever node it is, and how its answer is read.

A kind of call is a ``Question``; what picks nodes, retries and hedges knows nothing else of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from attrs import field, frozen

from smls.errors import BadRequest
from smls.results import Classification, read_classification, read_predictions, read_vectors
from smls.transport import Reply

T_co = TypeVar("T_co", covariant=True)

_JSON = {"Content-Type": "application/json"}


class Question(Protocol[T_co]):
    """A call; ``body`` and ``headers`` are the same for every node, which counts it as so many
    ``rows``."""

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def rows(self) -> int: ...

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
    rows: int = 1

    def target(self, model: str | None, version: str | None) -> str:
        return _target("/classify", model=model, version=version, top=self.top)

    def read(self, reply: Reply, address: str) -> Classification:
        return read_classification(reply.body, address)


@frozen
class Embed:
    """A vector for each of the texts that ``body`` lists; ``rows`` is how many."""

    body: bytes = field(repr=False)
    rows: int
    headers: Mapping[str, str] = _JSON

    @classmethod
    def of(cls, texts: str | Iterable[str]) -> Embed:
        """The question for the texts, or for the only one.

        :raises BadRequest: where there is none, or one of them is no text.
        """
        listed = [texts] if isinstance(texts, str) else _listed("texts", texts)
        for number, text in enumerate(listed, 1):
            if not isinstance(text, str):
                raise BadRequest(f"text {number}: got {text!r:.80}, wanted a text")
        return cls(_written("texts", listed), len(listed))

    def target(self, model: str | None, version: str | None) -> str:
        return _target("/embed", model=model, version=version)

    def read(self, reply: Reply, address: str) -> list[list[float]]:
        return read_vectors(reply.body, self.rows)


@frozen
class Predict:
    """A prediction for each of the ``rows`` that ``body`` lists."""

    body: bytes = field(repr=False)
    rows: int
    headers: Mapping[str, str] = _JSON

    @classmethod
    def of(cls, rows: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Predict:
        """The question for the rows, or for the only one, each with its features by name.

        :raises BadRequest: where there is none, or JSON cannot tell what is in one of them.
        """
        listed = [rows] if isinstance(rows, Mapping) else _listed("rows", rows)
        for number, row in enumerate(listed, 1):
            if not isinstance(row, Mapping):
                raise BadRequest(f"row {number}: got {row!r:.80}, wanted features by their names")
        return cls(_written("rows", [dict(row) for row in listed]), len(listed))

    def target(self, model: str | None, version: str | None) -> str:
        return _target("/", model=model, version=version)

    def read(self, reply: Reply, address: str) -> list[Any]:
        return read_predictions(reply.body, self.rows)


def _target(path: str, **query: object) -> str:
    told = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{path}?{told}" if told else path


def _listed(what: str, values: object) -> list[Any]:
    if not isinstance(values, Iterable) or isinstance(values, bytes):
        raise BadRequest(f"{what}: got {values!r:.80}, wanted a list of them")
    listed = list(values)
    if not listed:
        raise BadRequest(f"{what}: got none, wanted one at least")
    return listed


def _written(what: str, values: list[Any]) -> bytes:
    """The values as JSON; numbers of numpy and its like are numbers."""

    def plain(value: Any) -> Any:
        if not hasattr(value, "item"):
            raise TypeError(f"got {value!r:.80}, wanted numbers and texts")
        return value.item()

    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, default=plain).encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{what}: got bytes among them that are no UTF-8") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"{what}: JSON cannot tell them: {error}") from error
