# SPDX-License-Identifier: MIT
"""The natural call of a model that takes no images: texts in, vectors out; features in,
predictions out."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from attrs import frozen
from twisted.internet.defer import Deferred

from smls.errors import BadRequest, NotAnImage
from smls.site import LimitedRequest
from smls.web import Answer
from smls_node.catalogue import Model
from smls_node.faces.terms import Terms
from smls_node.serving import Ask, Inferred, Serving
from smls_node.signature import Inputs
from smls_node.tables import TableTask
from smls_node.tasks import ImageTask
from smls_node.texts import TextTask

TYPES = ("application/json", "application/x-www-form-urlencoded")
"""The content types of bodies that are values, and no images."""

MESSAGE = "message"
"""The field of the texts, as the seeds have it."""

SHOWN = 80


def is_value(content_type: str) -> bool:
    """Whether a body of this type is one of values."""
    return content_type.partition(";")[0].strip().lower() in TYPES


async def answer(
    serving: Serving,
    terms: Terms,
    request: LimitedRequest,
    name: str | None,
    *,
    only_texts: bool = False,
) -> bytes:
    """The answer to values that were sent to the model ``name``, or to the only one.

    :raises BadRequest: where they are not what the model takes.
    """
    kind = request.getHeader("content-type") or ""
    if not is_value(kind):
        raise BadRequest(f"Content-Type: got {kind!r}, wanted {' or '.join(TYPES)}")
    head = request.head()
    ask = Ask(
        deadline=terms.deadline(request, serving.seconds()),
        model=name or head.argument("model"),
        version=head.argument("version"),
        label=head.argument("label"),
    )
    model = serving.find(ask)
    natural = _natural(model, only_texts=only_texts)
    body = request.content.whole()
    inputs: Inputs = await terms.offload(len(body), _inputs, natural, body, kind)
    found = await serving.infer(inputs.tensors, ask, inputs.signature)
    begun = serving.seconds()
    size = sum(array.nbytes for array in found.outputs.values())
    told: Answer = await terms.offload(size, _told, natural, found)
    terms.report(request, found.times, found.load, encode=serving.seconds() - begun)
    return told.write_to(request)


@frozen
class _Natural:
    """How values become a model's inputs, and its outputs the answer."""

    inputs: Callable[[Any], Inputs]
    answer: Callable[[Inferred], Any]


def _natural(model: Model, *, only_texts: bool) -> _Natural:
    task = model.task
    if isinstance(task, TextTask):
        return _Natural(
            lambda value: task.inputs(_texts(value)),
            lambda found: _plain(task.vectors(found.outputs)),
        )
    if isinstance(task, TableTask) and not only_texts:
        return _Natural(
            lambda value: task.inputs(_rows(value)),
            lambda found: {"prediction": _plain(task.predictions(found.outputs))},
        )
    if isinstance(task, ImageTask) and not only_texts:
        raise NotAnImage(f"model {model.name} takes images; send one as curl -F data=@image.jpg")
    wanted = "texts" if only_texts else "values; see GET / for what it takes"
    raise BadRequest(f"model {model.name} takes no {wanted}")


def _inputs(natural: _Natural, body: memoryview, content_type: str) -> Inputs:
    if content_type.lower().startswith("application/json"):
        try:
            return natural.inputs(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is no JSON: {error}") from None
    try:
        fields = parse_qs(str(body, "utf-8"), max_num_fields=100)
    except ValueError as error:
        raise BadRequest(f"the form cannot be read: {error}") from None
    if MESSAGE not in fields:
        raise BadRequest(f"got no field {MESSAGE!r}, wanted {MESSAGE}=['a text', 'another one']")
    return natural.inputs({MESSAGE: _literal(fields[MESSAGE][-1])})


def _literal(text: str) -> Any:
    """A list as JSON or as Python writes it; anything else is one text."""
    if not text.lstrip().startswith("["):
        return [text]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise BadRequest(
            f"{MESSAGE}: got {text[:SHOWN]!r}, wanted a list of texts such as ['a', 'b']"
        ) from None


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict) and set(value) == {MESSAGE}:
        value = value[MESSAGE]
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadRequest(
            f"got {value!r:.{SHOWN}}, wanted a list of texts, or an object with it as {MESSAGE}"
        )
    return value


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = value if isinstance(value, list) else [value]
    if not all(isinstance(row, dict) for row in rows):
        raise BadRequest(f"got {value!r:.{SHOWN}}, wanted an object of features, or a list of such")
    return rows


def _told(natural: _Natural, found: Inferred) -> Answer:
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return Answer(200, orjson.dumps(natural.answer(found), _text, options))


def _plain(array: Any) -> Any:
    """An array as orjson takes it: in rows of the machine's own numbers, texts as lists."""
    if array.dtype.kind in "OSU":
        return array.tolist()
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError(type(value).__name__)


def add_routes(app: Any, serving: Serving, terms: Terms) -> None:
    """Adds the call for texts alone to the Klein application."""

    @app.route("/embed", methods=["POST"])  # type: ignore[untyped-decorator]
    def embed(request: LimitedRequest) -> Deferred[bytes]:
        return Deferred.fromCoroutine(answer(serving, terms, request, None, only_texts=True))
