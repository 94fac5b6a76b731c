# SPDX-License-Identifier: MIT
"""TensorFlow Serving's REST: ``/v1/models/MODEL[/versions/N|/labels/L]`` and what may follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import FirstError, gatherResults, inlineCallbacks
from twisted.python.failure import Failure

from smls.errors import BadImage, BadRequest, ModelNotFound
from smls.site import LimitedRequest
from smls.tensors import Tensors
from smls.web import Answer, json_answer
from smls.wire import LoadReport
from smls_node.catalogue import Model
from smls_node.faces import tfexamplejson, tfexamples, tfjson, tfmodels
from smls_node.faces.terms import Terms
from smls_node.faces.tfmodels import STATUS, Called
from smls_node.serving import Ask, Serving
from smls_node.worker import Times


def add_routes(app: Any, serving: Serving, terms: Terms) -> None:
    """Adds the calls to the Klein application."""
    calls = _Calls(serving, terms)
    verbs: dict[str, Callable[[LimitedRequest, Ask, Model], Any]] = {
        "predict": calls.predict,
        "classify": partial(calls.results, tfexamples.classify, tfexamplejson.classified),
        "regress": partial(calls.results, tfexamples.regress, tfexamplejson.regressed),
    }

    # TensorFlow Serving takes the paths in any case; ``tfmodels.called`` has its rules.
    @app.route("/<any(v1,V1):_>/<path:rest>", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    def answer(request: LimitedRequest, _: str, rest: str) -> Any:
        head = request.head()
        called = tfmodels.called(head.method.replace("HEAD", "GET"), head.target)
        if called.verb == STATUS:
            return json_answer(calls.status(called)).write_to(request)
        deadline = terms.deadline(request, serving.seconds())
        ask = Ask(deadline, called.model, called.version, called.label)
        model = calls.find(called, ask)
        if called.verb == "metadata":
            return json_answer(tfmodels.metadata(model)).write_to(request)
        return verbs[called.verb](request, ask, model).addErrback(_plainly)


def _plainly(failure: Failure) -> Failure:
    """What is wrong with an image, as a bad request: no other code is known here for it."""
    if isinstance(failure.value, BadImage):
        raise BadRequest(failure.value.message) from None
    return failure


class _Calls:
    """The calls on models. Those that infer give Deferreds of bodies."""

    def __init__(self, serving: Serving, terms: Terms) -> None:
        self._serving = serving
        self._terms = terms

    def find(self, called: Called, ask: Ask) -> Model:
        try:
            return self._serving.find(ask)
        except ModelNotFound:
            if called.label is not None:
                return tfmodels.labelled(self._serving.catalogue, called)
            raise called.not_found() from None

    def status(self, called: Called) -> dict[str, Any]:
        try:
            return tfmodels.status(self._serving.catalogue, called)
        except ModelNotFound as error:
            # While the node loads, it may still come.
            raise self._serving.refusal() or error from None

    @inlineCallbacks
    def predict(self, request: LimitedRequest, ask: Ask, model: Model) -> Any:
        body = request.content.whole()
        signatures = model.runtime.signatures
        asked = yield self._terms.offload(len(body), tfjson.predict, body, signatures)
        found = yield self._infer(asked, ask)
        outputs: list[Tensors] = [each.outputs for each in found]
        size = sum(array.nbytes for each in outputs for array in each.values())
        slowest = max(found, key=lambda each: each.times.total)
        return (
            yield self._answer(request, slowest.times, found[-1].load, size, asked.answer, outputs)
        )

    @inlineCallbacks
    def results(
        self,
        run: Callable[..., Any],
        written: Callable[..., bytes],
        request: LimitedRequest,
        ask: Ask,
        model: Model,
    ) -> Any:
        """What ``run`` finds for examples, ``written`` as a body."""
        body = request.content.whole()
        signatures = model.runtime.signatures
        asked = yield self._terms.offload(len(body), tfexamplejson.examples, body, signatures)
        found = yield run(self._serving, ask, model, asked.signature, asked.examples)
        size = len(found.rows) * max(1, len(model.labels)) * 8
        return (yield self._answer(request, found.times, found.load, size, written, found.rows))

    @inlineCallbacks
    def _infer(self, asked: tfjson.Predict, ask: Ask) -> Any:
        runs = [self._serving.infer(each, ask, asked.signature) for each in asked.runs]
        if len(runs) == 1:
            return [(yield runs[0])]
        try:
            return (yield gatherResults(runs, consumeErrors=True))
        except FirstError as error:
            for run in runs:
                run.cancel()
            error.subFailure.raiseException()

    @inlineCallbacks
    def _answer(
        self,
        request: LimitedRequest,
        times: Times,
        load: LoadReport,
        size_bytes: int,
        written: Callable[[Sequence[Any]], bytes],
        rows: Sequence[Any],
    ) -> Any:
        begun = self._serving.seconds()
        body = yield self._terms.offload(size_bytes, written, rows)
        self._terms.report(request, times, load, encode=self._serving.seconds() - begun)
        return (yield self._terms.told(request, Answer(200, body)))
