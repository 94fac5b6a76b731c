# SPDX-License-Identifier: MIT
"""What a call brings back, and how it is read from a node's answer."""

from __future__ import annotations

import json
from math import nan
from typing import Any

from attrs import frozen

from smls.errors import NodeFault, Overloaded, SmlsError, from_code

_CODES = {
    400: "bad_request",
    404: "model_not_found",
    413: "too_large",
    501: "unsupported",
    503: "overloaded",
    504: "deadline_exceeded",
}


@frozen
class Prediction:
    """One label and how sure the model is of it, 0 to 1."""

    label: str
    score: float


@frozen
class Classification:
    """What a node said about one image; ``predictions`` come best first.

    ``node`` is the name of the node that answered, ``address`` its ``host:port``.
    """

    model: str
    version: str
    node: str
    address: str
    predictions: tuple[Prediction, ...]


@frozen
class ServedModel:
    """A version of a model, and the nodes that have it, by address.

    ``state`` is TensorFlow Serving's word; any but AVAILABLE is of no use to callers. ``labels``
    are names that the version goes by.
    """

    name: str
    version: str
    state: str
    labels: tuple[str, ...]
    nodes: tuple[str, ...]


def read_classification(body: bytes, address: str) -> Classification:
    """The classification in a node's answer.

    :raises NodeFault: where the answer is none, showing how it begins.
    """
    try:
        value = json.loads(body)
        return Classification(
            model=_text(value["model"]),
            version=_text(value["version"]),
            node=_text(value["node"]),
            address=address,
            predictions=tuple(
                Prediction(_text(item["label"]), _number(item["score"]))
                for item in value["predictions"]
            ),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise NodeFault(f"its answer is no classification: {_beginning(body)}") from error


def read_vectors(body: bytes, texts: int) -> list[list[float]]:
    """The vectors of so many texts in a node's answer; what is no number comes as ``null`` and
    is ``nan``.

    :raises NodeFault: where the answer is none.
    """
    try:
        vectors = [
            [nan if number is None else _number(number) for number in vector]
            for vector in _list(json.loads(body), texts)
        ]
    except (ValueError, TypeError) as error:
        raise NodeFault(f"its answer is not {texts} vectors: {_beginning(body)}") from error
    return vectors


def read_predictions(body: bytes, rows: int) -> list[Any]:
    """The predictions for so many rows in a node's answer, as JSON has them.

    :raises NodeFault: where the answer is none.
    """
    try:
        return _list(json.loads(body)["prediction"], rows)
    except (ValueError, TypeError, KeyError) as error:
        raise NodeFault(f"its answer is not {rows} predictions: {_beginning(body)}") from error


def read_error(status: int, body: bytes, retry_after: str | None) -> SmlsError:
    """The error that an answer with ``status`` tells; a ``NodeFault`` where it tells none.

    Under /v1/ and /v2/ an error is a message alone, and its kind is told by the status. Whoever
    answers 429 or 503 and says when to come back, a proxy too, is overloaded.
    """
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    try:
        error = json.loads(body)["error"]
        if isinstance(error, str):
            error = {"code": _CODES.get(status, "internal"), "message": error}
        code, message = _text(error["code"]), _text(error["message"])
    except (ValueError, TypeError, KeyError):
        message = f"it answered {status} as no node does: {_beginning(body)}"
        if status in (429, 503) and seconds is not None:
            return Overloaded(message, retry_after_seconds=seconds)
        return NodeFault(message)
    return from_code(code, message, retry_after_seconds=seconds)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _list(value: Any, size: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != size:
        raise TypeError(value)
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _beginning(body: bytes) -> str:
    text = body[:81].decode("utf-8", "replace").strip()
    return repr(text if len(body) <= 80 else f"{text[:77]}...") if text else "nothing"
