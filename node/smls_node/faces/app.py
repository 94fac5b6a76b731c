# SPDX-License-Identifier: MIT
"""The node's HTTP application: all its faces on one port.

Importing Klein installs a reactor, so this module is imported only where a service is assembled.
"""

from __future__ import annotations

from collections.abc import Collection

from attrs import evolve
from klein import Klein
from twisted.internet.interfaces import IReactorTime

from smls.routes import Routes
from smls.site import LimitedSite
from smls.web import Answer, Head, answer_for, json_answer
from smls_node.counts import Traffic
from smls_node.faces import docs, forms, health, metrics, natural, oip, page, tfserving
from smls_node.faces.terms import Terms, TimedRequest
from smls_node.faces.upload import Upload, Whole
from smls_node.serving import Serving

STANDARD = ("/v1/", "/v2/")
"""Where paths begin that other servers' clients ask for."""


def make_site(
    serving: Serving,
    clock: IReactorTime,
    terms: Terms,
    *,
    version: str,
    max_upload: int,
    origins: Collection[str] = (),
    calls: Traffic | None = None,
) -> LimitedSite:
    """A site that serves ``serving``'s models; uploads have ``max_upload`` bytes at most, and
    pages of ``origins`` may read its answers. ``calls`` are those of the gRPC port, if there is
    one, for the metrics."""
    app = Klein()
    forms.add_routes(app, serving, terms)
    natural.add_routes(app, serving, terms)
    health.add_routes(app, serving)
    oip.add_routes(app, serving, terms, version)
    docs.add_routes(app, serving, terms, version)
    page.add_routes(app, serving, version)
    tfserving.add_routes(app, serving, terms)
    traffic = Traffic(lambda: len(site.in_flight))
    metrics.add_routes(app, serving, traffic, calls, version)
    routes = Routes(app, voice)

    def screen(head: Head) -> Answer | None:
        """What is wrong with a request that its body could not mend."""
        refusal = serving.refusal()
        if refusal is not None:
            return answer_for(refusal)
        return routes.error(head.method, head.path)

    def body_for(head: Head) -> Upload | Whole:
        kind = head.headers.getRawHeaders("content-type", [""])[-1]
        return Whole() if _is_standard(head.path) or natural.is_value(kind) else Upload(kind)

    site = LimitedSite(
        routes,
        clock,
        max_body=max_upload,
        screen=screen,
        body_for=body_for,
        voice=voice,
        answered=traffic.answered,
        origins=origins,
        request_class=TimedRequest,
        crowded=serving.give_way,
        may_rest=serving.may_rest,
    )
    return site


def voice(path: str, answer: Answer) -> Answer:
    """Errors on standard paths as ``{"error": message}``: TensorFlow Serving's and the Open
    Inference Protocol's clients know no other."""
    if not answer.error or not _is_standard(path):
        return answer
    plain = json_answer({"error": answer.error}, answer.status, answer.headers)
    return evolve(answer, body=plain.body)


def _is_standard(path: str) -> bool:
    return f"{path}/".lower().startswith(STANDARD)
