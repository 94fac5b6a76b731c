# SPDX-License-Identifier: MIT
"""``GET /healthz``: the process is alive. ``GET /readyz``: it takes requests."""

from __future__ import annotations

from typing import Any

from smls.errors import Overloaded
from smls.site import LimitedRequest
from smls.web import answer_for, json_answer
from smls_node.serving import Serving


def add_routes(app: Any, serving: Serving) -> None:
    """Adds the two calls to the Klein application."""

    @app.route("/healthz", methods=["GET"])  # type: ignore[untyped-decorator]
    def alive(request: LimitedRequest) -> bytes:
        return json_answer({"status": "alive", "phase": serving.phase.value}).write_to(request)

    @app.route("/readyz", methods=["GET"])  # type: ignore[untyped-decorator]
    def ready(request: LimitedRequest) -> bytes:
        refusal = serving.refusal()
        if refusal is None and not serving.catalogue.can_answer:
            refusal = Overloaded("no model can answer just now; see GET /")
        answer = json_answer({"status": "ready"}) if refusal is None else answer_for(refusal)
        return answer.write_to(request)
