# SPDX-License-Identifier: MIT
"""gRPC's standard health service: a service is SERVING while the node takes requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc

from smls_node.faces.grpc.messages import message
from smls_node.serving import Phase, Serving

SERVICE = "grpc.health.v1.Health"

_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")


class Health:
    """The state of ``services``, and of the server under the empty name.

    All but ``Health.__init__`` is called on gRPC's thread.
    """

    def __init__(self, serving: Serving, services: Iterable[str]) -> None:
        self._serving = serving
        self._services = {"", *services}
        self._news = asyncio.Event()
        self._is_closed = False

    def handler(self) -> grpc.GenericRpcHandler:
        codec = {
            "request_deserializer": _Request.FromString,
            "response_serializer": _Response.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, **codec),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **codec),
            },
        )

    def changed(self) -> None:
        """Tells who watches that the node's phase has changed."""
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """Ends what watches."""
        self._is_closed = True
        self.changed()

    async def _check(self, request: Any, context: Any) -> Any:
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"service: got {request.service!r}, wanted none or one of "
                f"{', '.join(sorted(self._services - {''}))}",
            )
        return _Response(status=self._status(request.service))

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        told = None
        while not self._is_closed:
            news = self._news
            status = self._status(request.service)
            if status != told:
                told = status
                yield _Response(status=status)
            await news.wait()

    def _status(self, service: str) -> str:
        if service not in self._services:
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._serving.phase is Phase.READY else "NOT_SERVING"
