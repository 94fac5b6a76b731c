# SPDX-License-Identifier: MIT
"""What people post: ``POST /`` as the seed's server took it and ``POST /models/<name>`` do what
comes naturally to the model; ``POST /classify`` takes images alone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smls.errors import BadRequest, NotAnImage, SmlsError
from smls.site import LimitedRequest
from smls.web import answer_for, json_answer
from smls_node.faces import natural
from smls_node.faces.terms import Terms
from smls_node.faces.upload import Upload, Whole
from smls_node.labels import Prediction
from smls_node.serving import DEFAULT_PRIORITY, Ask, Classified, Serving

DEFAULT_TOP = 5


def add_routes(app: Any, serving: Serving, terms: Terms) -> None:
    """Adds the calls to the Klein application."""

    @app.route("/", methods=["POST"])  # type: ignore[untyped-decorator]
    @app.route("/models/<name>", methods=["POST"])  # type: ignore[untyped-decorator]
    def pairs(request: LimitedRequest, name: str | None = None) -> Deferred[bytes]:
        if isinstance(request.content, Whole):
            return Deferred.fromCoroutine(natural.answer(serving, terms, request, name))

        def answer(found: Classified) -> Any:
            return [_error(each) if isinstance(each, SmlsError) else each for each in found.results]

        return _classify(request, name).addCallback(_answer, request, answer, lambda items: items)

    @app.route("/classify", methods=["POST"])  # type: ignore[untyped-decorator]
    def classify(request: LimitedRequest) -> Deferred[bytes]:
        def answer(found: Classified) -> Any:
            about = {
                "model": found.model.name,
                "version": found.model.version,
                "node": serving.node,
            }
            return [
                _error(each)
                if isinstance(each, SmlsError)
                else {**about, "predictions": _objects(each)}
                for each in found.results
            ]

        return _classify(request).addCallback(_answer, request, answer, lambda i: {"results": i})

    def _classify(request: LimitedRequest, name: str | None = None) -> Deferred[Classified]:
        form = _upload(request).form()
        head = request.head()

        def named(field: str) -> str | None:
            return head.argument(field) or form.fields.get(field) or None

        ask = Ask(
            deadline=terms.deadline(request, serving.seconds()),
            model=name or named("model"),
            version=named("version"),
            label=named("label"),
            top=_count("top", named("top"), DEFAULT_TOP, 10**9),
            priority=_count("priority", named("priority"), DEFAULT_PRIORITY, 9),
        )
        return serving.classify(form.images, ask)

    def _answer(found: Classified, request: LimitedRequest, items_of: Any, several: Any) -> bytes:
        """One image's answer as it is, its error as the answer's; several images' together."""
        begun = serving.seconds()
        if len(found.results) == 1 and isinstance(found.results[0], SmlsError):
            answer = answer_for(found.results[0])
        else:
            items = items_of(found)
            answer = json_answer(items[0] if len(items) == 1 else several(items))
        terms.report(request, found.times, found.load, encode=serving.seconds() - begun)
        return answer.write_to(request)


def _upload(request: LimitedRequest) -> Upload:
    if isinstance(request.content, Upload):
        return request.content
    raise NotAnImage(
        f"Content-Type: got {request.getHeader('content-type')!r}, wanted multipart/form-data "
        "(curl -F data=@image.jpg) or image/*"
    )


def _count(name: str, text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadRequest(f"{name}: got {text[:80]!r}, wanted a whole number 1-{most}")
    return int(text)


def _error(error: SmlsError) -> dict[str, Any]:
    return {"error": error.to_json()}


def _objects(predictions: tuple[Prediction, ...]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in predictions]
