# SPDX-License-Identifier: MIT
"""The node's HTTP application: all its faces on one port.

Importing Klein installs a reactor, so this module is imported only where a service is assembled.
"""

from __future__ import annotations

from klein import Klein
from twisted.internet.interfaces import IReactorTime

from smls.site import LimitedSite
from smls.web import Answer, Head, answer_for, errors_as_json, remember_routes, route_error
from smls_node.faces import forms, health, page
from smls_node.faces.terms import Terms
from smls_node.faces.upload import Upload
from smls_node.serving import Serving


def make_site(
    serving: Serving, clock: IReactorTime, *, version: str, max_upload: int, timeout_seconds: float
) -> LimitedSite:
    """A site that serves ``serving``'s models; uploads have ``max_upload`` bytes at most.

    A request that names no deadline is given ``timeout_seconds``.
    """
    app = Klein()
    errors_as_json(app)
    forms.add_routes(app, serving, Terms(timeout_seconds))
    health.add_routes(app, serving)
    page.add_routes(app, serving, version)
    remember_routes(app)

    def screen(head: Head) -> Answer | None:
        """What is wrong with a request that its body could not mend."""
        refusal = serving.refusal()
        if refusal is not None:
            return answer_for(refusal)
        return route_error(app, head.method, head.path)

    def body_for(head: Head) -> Upload:
        return Upload(head.headers.getRawHeaders("content-type", [""])[-1])

    return LimitedSite(app.resource(), clock, max_body=max_upload, screen=screen, body_for=body_for)
