# SPDX-License-Identifier: MIT
"""Images as people post them: ``POST /`` as the seed's server took it, and ``POST /classify``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smls.errors import BadRequest, SmlsError
from smls.web import LimitedRequest, answer_for, json_answer
from smls_node.faces.upload import Upload
from smls_node.labels import Prediction
from smls_node.serving import Classified, Serving

DEFAULT_TOP = 5


def add_routes(app: Any, serving: Serving) -> None:
    """Adds the two calls to the Klein application."""

    @app.route("/", methods=["POST"])  # type: ignore[untyped-decorator]
    def pairs(request: LimitedRequest) -> Deferred[bytes]:
        return _classify(request, serving).addCallback(_answer, request, _pairs)

    @app.route("/classify", methods=["POST"])  # type: ignore[untyped-decorator]
    def classify(request: LimitedRequest) -> Deferred[bytes]:
        def item(found: Classified, predictions: tuple[Prediction, ...]) -> Any:
            return {**_about(found, serving.node), "predictions": _objects(predictions)}

        def several(found: Classified, items: list[Any]) -> Any:
            return {**_about(found, serving.node), "results": items}

        return _classify(request, serving).addCallback(_answer, request, item, several)


def _classify(request: LimitedRequest, serving: Serving) -> Deferred[Classified]:
    upload: Upload = request.content
    form = upload.form()
    head = request.head()

    def named(field: str) -> str | None:
        return head.argument(field) or form.fields.get(field) or None

    return serving.classify(
        form.images, model=named("model"), version=named("version"), top=_top(named("top"))
    )


def _top(text: str | None) -> int:
    if text is None:
        return DEFAULT_TOP
    if not text.isascii() or not text.isdigit() or not int(text[:9]) > 0:
        raise BadRequest(f"top: got {text!r}, wanted a whole number from 1")
    return int(text[:9])


def _answer(found: Classified, request: LimitedRequest, item: Any, several: Any = None) -> bytes:
    """One image's answer as it is, its error as the answer's; several images' as a list."""
    if len(found.results) == 1:
        (only,) = found.results
        if isinstance(only, SmlsError):
            return answer_for(only).write_to(request)
        return json_answer(item(found, only)).write_to(request)
    items = [
        _error(result) if isinstance(result, SmlsError) else item(found, result)
        for result in found.results
    ]
    return json_answer(several(found, items) if several else items).write_to(request)


def _error(error: SmlsError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message}}


def _about(found: Classified, node: str) -> dict[str, str]:
    return {"model": found.model.name, "version": found.model.version, "node": node}


def _pairs(found: Classified, predictions: tuple[Prediction, ...]) -> list[list[Any]]:
    return [[prediction.label, prediction.score] for prediction in predictions]


def _objects(predictions: tuple[Prediction, ...]) -> list[dict[str, Any]]:
    return [{"label": each.label, "score": each.score} for each in predictions]
