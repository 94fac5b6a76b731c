# SPDX-License-Identifier: MIT
"""The registry over HTTP: announce, renew, withdraw, list, take turns, send on to a node.

Importing this module imports Klein, which installs a reactor.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smls.errors import BadRecord, BadRequest, NoLiveNodes, SmlsError
from smls.site import LimitedRequest, LimitedSite
from smls.web import (
    Answer,
    Head,
    answer_for,
    error_answer,
    errors_as_json,
    json_answer,
    prefers_html,
    route_error,
)
from smls.wire import NodeRecord, check_name, listing_to_json, node_from_json, node_to_json
from smls_registry import page
from smls_registry.leases import Lease, LeaseTable
from smls_registry.paths import NODE_ROOTS, is_for_node, model_of

MAX_BODY = 65536
"""Bytes of a node's record: a thousand models with their labels' hashes hold no more."""

RETRY_AFTER_SECONDS = 1.0
"""Where no node lives, one that starts or comes back may be announced by then."""

_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FRESH = (("Cache-Control", "no-store"),)
_VARIES = (("Vary", "Accept"), *_FRESH)


class RegistryApp:
    """The HTTP face of a ``LeaseTable``; ``seconds`` reads a monotonic clock."""

    log = Logger()

    def __init__(self, table: LeaseTable, seconds: Callable[[], float]) -> None:
        self._table = table
        self._seconds = seconds
        self.klein = klein = Klein()
        klein.url_map.merge_slashes = False
        klein.route("/", methods=["GET"])(self._index)
        klein.route("/healthz", methods=["GET"])(self._health)
        klein.route("/next", methods=["GET"])(self._next)
        klein.route("/v1/nodes", methods=["GET"])(self._list)
        klein.route("/v1/nodes/<node_id>", methods=["GET"])(self._show)
        klein.route("/v1/nodes/<node_id>", methods=["PUT"])(self._announce)
        klein.route("/v1/nodes/<node_id>", methods=["DELETE"])(self._withdraw)
        klein.route("/", methods=["POST"])(self._send_on)
        for root in NODE_ROOTS:
            for pattern in (root, f"{root}/", f"{root}/<path:below>"):
                klein.route(pattern, methods=_ANY_METHOD)(self._send_on)
        errors_as_json(klein)

    def site(self, clock: IReactorTime) -> LimitedSite:
        """The site to listen with; ``clock`` times its connections."""
        return LimitedSite(self.klein.resource(), clock, max_body=MAX_BODY, screen=self.screen)

    def screen(self, head: Head) -> Answer | None:
        """Answers what needs no body, so that an upload goes to the node and not through here."""
        if is_for_node(head.method, head.path):
            return self._redirect(head)
        return route_error(self.klein, head.method, head.path)

    def sweep(self) -> None:
        """Ends the leases that ran out."""
        self._now()

    def _index(self, request: LimitedRequest) -> bytes:
        about = {"name": "smls-registry", "ttl_seconds": self._table.ttl_seconds}
        return self._listing_answer(request, about).write_to(request)

    def _health(self, request: LimitedRequest) -> bytes:
        return json_answer({"status": "ok"}).write_to(request)

    def _next(self, request: LimitedRequest) -> bytes:
        node = self._turn(_queried_model(request))
        line = f"{node.address}\n".encode()
        return Answer(200, line, "text/plain; charset=utf-8", _FRESH).write_to(request)

    def _list(self, request: LimitedRequest) -> bytes:
        return self._listing_answer(request, {}).write_to(request)

    def _show(self, request: LimitedRequest, node_id: str) -> bytes:
        now = self._now()
        lease = self._table.lease(check_name("id", node_id))
        answer = _unknown(node_id) if lease is None else _lease_answer(lease, now)
        return answer.write_to(request)

    def _announce(self, request: LimitedRequest, node_id: str) -> bytes:
        node = _record(node_id, request.body())
        done = self._table.announce(node, self._now())
        if done.replaced is not None:
            self.log.info(
                "node {node_id} replaced {replaced_id} at {address}",
                node_id=node.id,
                replaced_id=done.replaced.id,
                address=node.address,
            )
        if done.is_new:
            self._tell("announced", node)
        elif done.old != node:
            self._tell("changed", node)
        answer = {
            "id": node.id,
            "ttl_seconds": self._table.ttl_seconds,
            "revision": self._table.revision,
        }
        return json_answer(answer, 201 if done.is_new else 200).write_to(request)

    def _withdraw(self, request: LimitedRequest, node_id: str) -> bytes:
        self._now()
        node = self._table.withdraw(check_name("id", node_id))
        if node is None:
            return _unknown(node_id).write_to(request)
        self._tell("withdrawn", node)
        answer = {"id": node.id, "revision": self._table.revision}
        return json_answer(answer).write_to(request)

    def _send_on(self, request: LimitedRequest, below: str = "") -> bytes:
        return self._redirect(request.head()).write_to(request)

    def _redirect(self, head: Head) -> Answer:
        try:
            node = self._turn(model_of(head.path, head.query))
        except SmlsError as error:
            return answer_for(error)
        location = node.url(head.target)
        return Answer(
            307, f"{location}\n".encode(), "text/plain", (("Location", location), *_FRESH)
        )

    def _turn(self, model: str | None) -> NodeRecord:
        self._now()
        node = self._table.next(model)
        if node is None:
            wanted = "" if model is None else f" that serves the model {model}"
            raise NoLiveNodes(
                f"the registry knows no live node{wanted}",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return node

    def _listing_answer(self, request: LimitedRequest, about: dict[str, object]) -> Answer:
        model = _queried_model(request)
        now = self._now()
        listing = self._table.listing(model)
        if not prefers_html(request.requestHeaders):
            return json_answer({**about, **listing_to_json(listing)}, headers=_VARIES)
        leases = [lease for lease in self._table.leases() if lease.node.serves(model)]
        body = page.render(leases, listing.revision, now, model)
        return Answer(200, body, page.CONTENT_TYPE, (*page.HEADERS, *_VARIES))

    def _now(self) -> float:
        now = self._seconds()
        for node in self._table.expire(now):
            self._tell("expired", node)
        return now

    def _tell(self, what: str, node: NodeRecord) -> None:
        self.log.info(
            "node {node_id} at {address} {what}",
            what=what,
            node_id=node.id,
            address=node.address,
            models=", ".join(sorted({model.name for model in node.models})),
            revision=self._table.revision,
        )


def _queried_model(request: LimitedRequest) -> str | None:
    return model_of("", request.head().query)


def _record(node_id: str, body: bytes) -> NodeRecord:
    check_name("id", node_id)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    if isinstance(value, dict):
        value = {"id": node_id, **value}
    node = node_from_json(value)
    if node.id != node_id:
        raise BadRecord(f"id: got {node.id!r}, wanted {node_id!r} as in the path")
    return node


def _lease_answer(lease: Lease, now: float) -> Answer:
    times = {
        "age_seconds": now - lease.announced_at,
        "expires_in_seconds": lease.expires_at - now,
    }
    return json_answer({**node_to_json(lease.node), "lease": times}, headers=_FRESH)


def _unknown(node_id: str) -> Answer:
    return error_answer("not_found", f"no live node has the id {node_id}")
