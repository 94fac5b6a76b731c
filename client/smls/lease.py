# SPDX-License-Identifier: MIT
"""Keeps one node announced at each of its registries.

A lease is renewed each third of the TTL that the registry named. While a registry is away it is
tried again and again, further apart each time; its first failure and its return are logged, the
attempts between are not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import treq
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from smls.address import Advertise, Reached, reach
from smls.errors import SmlsError
from smls.wire import NodeRecord, node_to_json

ATTEMPT_SECONDS = 5.0
"""An announcement that takes longer is given up: it is half the usual TTL."""

WITHDRAW_SECONDS = 2.0
"""A node that stops waits no longer for each registry; its lease runs out anyway."""

MOST_RETRY_SECONDS = 10.0
"""A registry that comes back hears of each node within this."""

REFUSED_SECONDS = 30.0
"""A record that the registry refuses is rarely taken later: it is not asked often."""

LEAST_RENEWAL_SECONDS = 0.1
"""However short the TTL, a node renews no faster."""


def renewal_delay(ttl_seconds: float, random: Random) -> float:
    """Seconds until a lease is renewed: a third of its TTL, ±10 % so that nodes spread out."""
    return max(LEAST_RENEWAL_SECONDS, ttl_seconds / 3 * random.uniform(0.9, 1.1))


def retry_delay(attempt: int, random: Random) -> float:
    """Seconds until the next try after ``attempt`` failures: 0.5-1 s at first, 5-10 s at last.

    It doubles, and half of it is random ("equal jitter", M. Brooker, Exponential Backoff And
    Jitter, 2015).
    """
    longest = min(MOST_RETRY_SECONDS, 2.0 ** min(attempt - 1, 10))
    return longest * random.uniform(0.5, 1.0)


class Announcer:
    """Keeps the node announced at each registry from ``start`` to ``withdraw``.

    ``record`` makes the node's record for the address (``host:port``) that is advertised at a
    registry; it may say something else each time, but the node's id stays. ``http`` is a
    ``treq.client.HTTPClient``. All methods are called on the reactor's thread.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        http: Any,
        urls: Iterable[str],
        record: Callable[[str], NodeRecord],
        advertise: Advertise,
        random: Random,
        *,
        reach: Callable[[str, int], Deferred[Reached]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._http = http
        self._record = record
        self._advertise = advertise
        self._random = random
        self._reach = reach or _Resolver(reactor).reach
        self._started = False
        self._leases: dict[str, _Lease] = {}
        self._configured = frozenset(map(_base, urls))
        for url in sorted(self._configured):
            self.add(url)

    def start(self) -> None:
        """Announces the node at each registry, and goes on doing so."""
        self._started = True
        for lease in self._leases.values():
            lease.start()

    def update(self) -> None:
        """Announces at once, for the record has changed."""
        for lease in self._leases.values():
            lease.wake()

    def add(self, url: str) -> None:
        """Announces the node at the registry ``url`` too, such as one that was found."""
        base = _base(url)
        if base in self._leases:
            return
        self._leases[base] = lease = _Lease(self, base)
        if self._started:
            lease.start()

    def remove(self, url: str) -> None:
        """Forgets the registry ``url``, such as one that is lost, unless it was there at first."""
        base = _base(url)
        if base in self._leases and base not in self._configured:
            self._leases.pop(base).stop()

    def withdraw(self) -> Deferred[None]:
        """Stops, and fires when each registry that holds a lease has been told, or was too slow.

        It never fails.
        """
        self._started = False
        leases, self._leases = self._leases, {}
        told = gatherResults([lease.withdraw() for lease in leases.values()], consumeErrors=True)
        return told.addCallback(lambda _: None)

    @property
    def announced(self) -> list[str]:
        """The URLs of the registries that know the node just now, as far as it knows."""
        return [url for url, lease in self._leases.items() if lease.announced]


class _Refused(SmlsError):
    """The registry understood and said no."""


class _Lease:
    """The node's lease at one registry."""

    def __init__(self, owner: Announcer, url: str) -> None:
        self.announced = False
        self._owner = owner
        self._url = url
        self._clock: IReactorTime = owner._reactor
        self._may_be_known: str | None = None
        self._failures = 0
        self._refusal = ""
        self._stale = False
        self._stopped = False
        self._loop: Deferred[None] | None = None
        self._nap: Deferred[None] | None = None

    def start(self) -> None:
        if self._loop is None:
            self._loop = Deferred.fromCoroutine(self._keep())
            self._loop.addErrback(self._ended)

    def wake(self) -> None:
        self._stale = True
        if self._nap is not None:
            nap, self._nap = self._nap, None
            nap.callback(None)

    def stop(self) -> None:
        self.announced = False
        self._stopped = True
        if self._loop is not None:
            self._loop.cancel()

    def withdraw(self) -> Deferred[None]:
        self.stop()
        if self._may_be_known is None:
            return succeed(None)
        told: Deferred[Any] = Deferred.fromCoroutine(self._delete(self._may_be_known))
        told.addTimeout(WITHDRAW_SECONDS, self._clock)
        return told.addErrback(
            lambda failure: self._owner.log.warn(
                "registry {endpoint} was not told that the node stops: {reason}",
                endpoint=self._url,
                reason=failure.getErrorMessage(),
            )
        )

    async def _keep(self) -> None:
        while True:
            self._stale = False
            try:
                attempt: Deferred[float] = Deferred.fromCoroutine(self._announce())
                ttl_seconds = await attempt.addTimeout(ATTEMPT_SECONDS, self._clock)
            except Exception as error:
                # A cancelled request may end in another error than CancelledError.
                if self._stopped:
                    return
                delay = self._failed(error)
            else:
                delay = renewal_delay(ttl_seconds, self._owner._random)
            if not self._stale:
                await self._sleep(delay)

    async def _announce(self) -> float:
        address = await self._address()
        node = self._owner._record(address)
        body = json.dumps(node_to_json(node)).encode()
        try:
            status, answer = await self._call("PUT", node.id, body)
        except (ConnectError, DNSLookupError):
            raise
        except Exception:
            # The announcement may have arrived although its answer did not.
            self._may_be_known = node.id
            raise
        if 400 <= status < 500:
            raise _Refused(f"{status} {_message(answer)}")
        ttl_seconds = _ttl(answer) if status in (200, 201) else None
        if ttl_seconds is None:
            raise SmlsError(f"{status} {_message(answer)}")
        self._succeeded(node)
        return ttl_seconds

    async def _delete(self, node_id: str) -> None:
        await self._call("DELETE", node_id, b"")

    async def _call(self, method: str, node_id: str, body: bytes) -> tuple[int, bytes]:
        response = await self._owner._http.request(
            method,
            f"{self._url}/v1/nodes/{node_id}",
            data=body or None,
            headers={"Content-Type": "application/json"} if body else {},
        )
        return response.code, await treq.content(response)

    async def _address(self) -> str:
        advertise = self._owner._advertise
        fixed = advertise.fixed()
        if fixed is not None:
            return fixed
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return advertise.address(await self._owner._reach(parts.hostname or "", port))

    def _succeeded(self, node: NodeRecord) -> None:
        if not self.announced:
            self._owner.log.info(
                "announced at registry {endpoint} as {address}, after {attempt} failures",
                endpoint=self._url,
                address=node.address,
                attempt=self._failures,
            )
        self.announced = True
        self._may_be_known = node.id
        self._failures = 0
        self._refusal = ""

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        refusal = error.message if isinstance(error, _Refused) else ""
        if refusal:
            delay = REFUSED_SECONDS * self._owner._random.uniform(0.9, 1.1)
        else:
            delay = retry_delay(self._failures, self._owner._random)
        is_news = self._failures == 1 or refusal not in ("", self._refusal)
        self._refusal = refusal or self._refusal
        if is_news:
            self._owner.log.warn(
                "not announced at registry {endpoint}: {reason}; it is tried again and again",
                endpoint=self._url,
                reason=str(error) or type(error).__name__,
                attempt=self._failures,
                delay=delay,
            )
        self.announced = False
        return delay

    async def _sleep(self, seconds: float) -> None:
        nap: Deferred[None] = Deferred()
        self._nap = nap
        timer = self._clock.callLater(seconds, self.wake)
        try:
            await nap
        finally:
            self._nap = None
            if timer.active():
                timer.cancel()

    def _ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._owner.log.failure("the lease at {endpoint} broke", failure, endpoint=self._url)


@frozen
class _Resolver:
    """Asks the system, in one of the reactor's threads, how a registry is reached."""

    reactor: Any

    def reach(self, host: str, port: int) -> Deferred[Reached]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), reach, host, port)


def _base(url: str) -> str:
    return url.rstrip("/")


def _ttl(answer: bytes) -> float | None:
    try:
        seconds = json.loads(answer)["ttl_seconds"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return float(seconds) if 0 < seconds < math.inf else None


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"and no registry's answer: {answer[:80]!r}"
