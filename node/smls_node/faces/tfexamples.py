# SPDX-License-Identifier: MIT
"""TensorFlow Serving's classify and regress on a model, the same for REST and gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, inlineCallbacks

from smls.errors import BadImage, BadRequest, SmlsError
from smls.wire import LoadReport
from smls_node import examples
from smls_node.catalogue import Model
from smls_node.examples import Example
from smls_node.labels import top_k
from smls_node.serving import Ask, Inferred, Serving
from smls_node.tasks import ImageTask
from smls_node.worker import Times

REGRESS = "regress"

_METHOD = "tensorflow/serving/"


@frozen
class Results:
    """What was found for each example: its classes with their scores, or its value."""

    rows: Sequence[Any]
    times: Times
    load: LoadReport


def classify(
    serving: Serving, ask: Ask, model: Model, signature: str, rows: Sequence[Example]
) -> Deferred[Results]:
    """The classes of each example and their scores, as lists of ``ClassScore``.

    An image model takes images in any format, or their pixels, and gives all its labels, the best
    first. Any other needs a signature whose outputs are ``classes`` and ``scores``.

    :raises BadRequest: where the examples, or the signature's outputs, will not do.
    """
    if not isinstance(model.task, ImageTask) or model.task.signature != signature:
        return _infer(serving, ask, model, signature, rows).addCallback(_classes, len(rows))
    uploads = examples.images_in(rows)
    if uploads is not None:
        return _classify_images(serving, evolve(ask, top=len(model.labels)), uploads)
    return _infer(serving, ask, model, signature, rows).addCallback(_labelled, len(rows))


def regress(
    serving: Serving, ask: Ask, model: Model, signature: str, rows: Sequence[Example]
) -> Deferred[Results]:
    """The value of each example, a float.

    :raises BadRequest: where the signature is none to regress, or the examples or its outputs will
        not do.
    """
    _, wanted = model.signature(signature)
    if wanted.method != REGRESS:
        raise BadRequest(
            f"Expected regression signature method_name to be {_METHOD}{REGRESS}. "
            f"Was: {_METHOD}{wanted.method}"
        )

    def values(found: Inferred) -> Results:
        return Results(examples.regressions(found.outputs, len(rows)), found.times, found.load)

    return _infer(serving, ask, model, signature, rows).addCallback(values)


def _infer(
    serving: Serving, ask: Ask, model: Model, signature: str, rows: Sequence[Example]
) -> Deferred[Inferred]:
    _, wanted = model.signature(signature)
    return serving.infer(examples.inputs_of(rows, wanted), ask, signature)


def _classes(found: Inferred, count: int) -> Results:
    return Results(examples.classifications(found.outputs, count), found.times, found.load)


def _labelled(found: Inferred, count: int) -> Results:
    """The labels of an image model's scores."""
    task, labels = found.model.task, found.model.labels
    assert isinstance(task, ImageTask)
    scores = task.rows(found.outputs, count)
    rows = [list(top_k(row, labels, len(labels))) for row in scores]
    return Results(rows, found.times, found.load)


@inlineCallbacks
def _classify_images(serving: Serving, ask: Ask, uploads: Sequence[bytes]) -> Any:
    found = yield serving.classify(uploads, ask)
    for number, result in enumerate(found.results):
        if isinstance(result, BadImage):
            raise type(result)(f"example {number}: {result.message}")
        if isinstance(result, SmlsError):
            raise result
    return Results([list(each) for each in found.results], found.times, found.load)
