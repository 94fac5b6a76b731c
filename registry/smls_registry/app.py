# SPDX-License-Identifier: MIT
"""The registry over HTTP: announce, renew, withdraw, list, watch, take turns, send on to a node.

Importing this module imports Klein, which installs a reactor.
"""

from __future__ import annotations

import json

from attrs import evolve
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smls.errors import BadRecord, BadRequest, NoLiveNodes, SmlsError, Unavailable
from smls.routes import Routes
from smls.site import LimitedRequest, LimitedSite
from smls.web import (
    Answer,
    Head,
    answer_for,
    error_answer,
    json_answer,
    prefers_html,
)
from smls.wire import (
    NodeRecord,
    NodeState,
    check_name,
    listing_to_json,
    node_from_json,
    node_to_json,
)
from smls_registry import page
from smls_registry.channel import RegistrySite, channel_of
from smls_registry.events import EventId
from smls_registry.holders import Holders
from smls_registry.paths import NODE_ROOTS, is_for_node, model_of
from smls_registry.roster import Change, Roster
from smls_registry.stores import Store
from smls_registry.streams import Heartbeats, Stream
from smls_registry.watch import Watchers

MAX_BODY = 65536
"""Bytes of a node's record: a thousand models with their labels' hashes hold no more."""

RETRY_AFTER_SECONDS = 1.0
"""Where no node lives, one that starts or comes back may be announced by then."""

_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FRESH = (("Cache-Control", "no-store"),)
_VARIES = (("Vary", "Accept"), *_FRESH)
_STREAM = Answer(200, b"", "text/event-stream", _FRESH)


class RegistryApp:
    """The HTTP face of a ``store``; ``clock`` times connections and streams."""

    log = Logger()

    def __init__(self, store: Store, clock: IReactorTime) -> None:
        self._store = store
        self._roster = store.roster
        self._clock = clock
        self._heartbeats = Heartbeats(clock)
        self._watchers = Watchers(store, clock)
        self._holders = Holders(store)
        self._announced: dict[str, bytes] = {}
        store.roster.listeners.append(self._changed)
        klein = Klein()
        klein.url_map.merge_slashes = False
        klein.route("/", methods=["GET"])(self._index)
        klein.route("/healthz", methods=["GET"])(self._health)
        klein.route("/next", methods=["GET"])(self._next)
        klein.route("/v1/watch", methods=["GET"])(self._watch)
        klein.route("/v1/nodes", methods=["GET"])(self._list)
        klein.route("/v1/nodes/<node_id>", methods=["GET"])(self._show)
        klein.route("/v1/nodes/<node_id>", methods=["PUT"])(self._announce)
        klein.route("/v1/nodes/<node_id>", methods=["DELETE"])(self._withdraw)
        klein.route("/v1/nodes/<node_id>/lease", methods=["GET"])(self._hold)
        klein.route("/", methods=["POST"])(self._send_on)
        for root in NODE_ROOTS:
            for pattern in (root, f"{root}/", f"{root}/<path:below>"):
                klein.route(pattern, methods=_ANY_METHOD)(self._send_on)
        self._routes = Routes(klein)

    def site(self) -> LimitedSite:
        """The site to listen with."""
        return RegistrySite(self._routes, self._clock, max_body=MAX_BODY, screen=self.screen)

    def start(self) -> None:
        """Starts the store and the heartbeats of the streams."""
        self._store.start()
        self._heartbeats.start()

    async def stop(self) -> None:
        """Ends the streams, and the store's work; no lease ends by it."""
        self._watchers.stop()
        self._heartbeats.stop()
        await self._store.stop()

    def screen(self, head: Head) -> Answer | None:
        """Answers what needs no body, so that an upload goes to the node and not through here."""
        if is_for_node(head.method, head.path):
            return self._redirect(head)
        return self._routes.error(head.method, head.path)

    def sweep(self) -> None:
        """Ends the leases that ran out."""
        self._store.sweep()

    def _index(self, request: LimitedRequest) -> bytes:
        about = {"name": "smls-registry", "ttl_seconds": self._store.ttl_seconds}
        return self._listing_answer(request, about).write_to(request)

    def _health(self, request: LimitedRequest) -> bytes:
        return json_answer({"status": "ok"}).write_to(request)

    def _next(self, request: LimitedRequest) -> bytes:
        node = self._turn(_queried_model(request))
        line = f"{node.address}\n".encode()
        return Answer(200, line, "text/plain; charset=utf-8", _FRESH).write_to(request)

    def _list(self, request: LimitedRequest) -> bytes:
        return self._listing_answer(request, {}).write_to(request)

    def _watch(self, request: LimitedRequest) -> bytes | None:
        model = _queried_model(request)
        if request.method == b"HEAD":
            return _STREAM.write_to(request)
        last = EventId.parse(request.requestHeaders.getRawHeaders(b"last-event-id", [b""])[-1])
        self._read()
        self._watchers.add(self._open(request), model, last)
        return None

    def _hold(self, request: LimitedRequest, node_id: str) -> bytes | None:
        if self._read().get(check_name("id", node_id)) is None:
            return _unknown(node_id).write_to(request)
        if request.method == b"HEAD":
            return _STREAM.write_to(request)
        self._holders.add(self._open(request), node_id)
        return None

    async def _show(self, request: LimitedRequest, node_id: str) -> bytes:
        node = self._read().get(check_name("id", node_id))
        if node is None:
            return _unknown(node_id).write_to(request)
        now = self._store.seconds()
        times = {
            "age_seconds": now - self._store.known_since(node_id),
            "expires_in_seconds": await self._store.expires_at(node_id) - now,
        }
        answer = json_answer({**node_to_json(node), "lease": times}, headers=_FRESH)
        return answer.write_to(request)

    async def _announce(self, request: LimitedRequest, node_id: str) -> bytes:
        body = request.body()
        # Nodes renew by saying the same again, which need not be read again.
        answer = self._renew(node_id, body)
        if answer is None:
            is_new = await self._store.announce(_record(node_id, body))
            self._announced[node_id] = body
            answer = self._leased(node_id, 201 if is_new else 200)
        else:
            channel_of(request).remember(body, lambda: self._renew(node_id, body))
        return answer.write_to(request)

    def _renew(self, node_id: str, body: bytes) -> Answer | None:
        if body != self._announced.get(node_id) or not self._store.renew(node_id):
            return None
        return self._leased(node_id, 200)

    def _leased(self, node_id: str, status: int) -> Answer:
        ttl_seconds, revision = self._store.ttl_seconds, self._roster.revision
        lease = {"id": node_id, "ttl_seconds": ttl_seconds, "revision": revision}
        return json_answer(lease, status)

    async def _withdraw(self, request: LimitedRequest, node_id: str) -> bytes:
        node = await self._store.withdraw(check_name("id", node_id))
        if node is None:
            return _unknown(node_id).write_to(request)
        answer = {"id": node.id, "revision": self._roster.revision}
        return json_answer(answer).write_to(request)

    def _send_on(self, request: LimitedRequest, below: str = "") -> bytes:
        return self._redirect(request.head()).write_to(request)

    def _open(self, request: LimitedRequest) -> Stream:
        stream = Stream(channel_of(request))
        self._heartbeats.add(stream)
        return stream

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
        node = self._read().next(model)
        if node is None:
            wanted = "" if model is None else f" that serves the model {model}"
            raise NoLiveNodes(
                f"the registry knows no live node{wanted}",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return node

    def _listing_answer(self, request: LimitedRequest, about: dict[str, object]) -> Answer:
        model = _queried_model(request)
        listing = self._read().listing(model)
        if not prefers_html(request.requestHeaders):
            return json_answer({**about, **listing_to_json(listing)}, headers=_VARIES)
        now = self._store.seconds()
        body = page.render(
            listing.nodes,
            lambda node: now - self._store.known_since(node.id),
            listing.revision,
            model,
        )
        return Answer(200, body, page.CONTENT_TYPE, (*page.HEADERS, *_VARIES))

    def _read(self) -> Roster:
        self._store.sweep()
        if not self._store.known:
            raise Unavailable(
                "the registry has not reached its store yet",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return self._roster

    def _changed(self, change: Change) -> None:
        addresses = {node.address: node for node in change.now}
        before = {node.id: node for node in change.was}
        for node in change.was:
            if self._roster.get(node.id) is not None:
                continue
            self._announced.pop(node.id, None)
            follower = addresses.get(node.address)
            if follower is None:
                self._tell(change.why, node)
            else:
                self.log.info(
                    "node {node_id} replaced {replaced_id} at {address}",
                    node_id=follower.id,
                    replaced_id=node.id,
                    address=node.address,
                )
        for node in change.now:
            self._tell(_what_happened(before.get(node.id), node), node)

    def _tell(self, what: str, node: NodeRecord) -> None:
        self.log.info(
            "node {node_id} at {address} {what}",
            what=what,
            node_id=node.id,
            address=node.address,
            models=", ".join(sorted({model.name for model in node.models})),
            revision=self._roster.revision,
        )


def _what_happened(old: NodeRecord | None, new: NodeRecord) -> str:
    if new.state is NodeState.SUSPECT:
        return "suspected"
    if old is None:
        return "announced"
    return "recovered" if old.state is NodeState.SUSPECT else "changed"


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
    # Who announces himself lives; his state is not his to say.
    return evolve(node, state=NodeState.LIVE)


def _unknown(node_id: str) -> Answer:
    return error_answer("not_found", f"no live node has the id {node_id}")
