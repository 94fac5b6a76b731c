# SPDX-License-Identifier: MIT
"""One call: the attempts that it takes until a node answers.

The laws of a call:

- It goes to each node once at most, and where all were tried asks for a new list first.
- Another attempt is paid for, unless the last one never reached its node.
- An error that is the request's fault is final; that a node lacks the model is not.
- An attempt has half of the time that is left, the last one all of it. The node is told the
  whole of it, and that nobody waits any more by the end of the connection.
- Whatever becomes of an attempt, the routing is told once.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from smls.balancer import Attempt, Outcome, Want
from smls.directory import Directory
from smls.errors import (
    BadRecord,
    BadRequest,
    DeadlineExceeded,
    ModelNotFound,
    NodeFault,
    NodeRefused,
    NodeUnreachable,
    Overloaded,
    RequestError,
    SmlsError,
    Unavailable,
)
from smls.questions import Question
from smls.race import Race
from smls.results import read_error
from smls.routing import Router
from smls.transport import Reply, Transport
from smls.wire import LOAD_HEADER, TIMEOUT_HEADER, LoadReport, NodeRecord, load_from_header

T = TypeVar("T")


class Call:
    """A call of one client; ``failures`` gathers what each node's address told.

    ``deadline`` is a moment of ``clock``; who makes the call ends it then.
    """

    def __init__(
        self,
        clock: Any,
        transport: Transport,
        directory: Directory,
        router: Router,
        deadline: float,
        failures: dict[str, SmlsError],
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._directory = directory
        self._router = router
        self._deadline = deadline
        self._failures = failures
        self._tried: set[str] = set()
        self._last = Outcome.REFUSED

    async def ask(self, question: Question[T], want: Want, key: str | None) -> T:
        """What the first node that answers says."""
        nodes = await self._nodes(want)
        self._router.call(self._clock.seconds())
        fresh = False
        while True:
            attempt = self._start(nodes, want, key)
            if attempt is None and not fresh:
                # All are tried. There may be others by now.
                fresh = True
                await self._directory.refresh()
                try:
                    nodes = await self._nodes(want)
                except Unavailable:
                    nodes = ()
                attempt = self._start(nodes, want, key)
            if attempt is None:
                raise _most_telling(self._failures)
            try:
                return await self._hedged(attempt, question, key)
            except SmlsError as error:
                if _final(error):
                    raise
            if not self._router.may_retry(self._last):
                raise _most_telling(self._failures)

    async def _nodes(self, want: Want) -> tuple[NodeRecord, ...]:
        return await self._directory.nodes(want.model, want.version, want.label)

    def _start(self, nodes: tuple[NodeRecord, ...], want: Want, key: str | None) -> Attempt | None:
        return self._router.start(nodes, want, self._tried, self._clock.seconds(), key)

    def _hedged(self, attempt: Attempt, question: Question[T], key: str | None) -> Deferred[T]:
        """``attempt``, and a second one beside it where it is late and that is wanted."""

        def second() -> Deferred[T] | None:
            now = self._clock.seconds()
            other = self._router.hedge(attempt, self._tried, now, key)
            return None if other is None else self._send(other, question)

        return Race(
            self._clock,
            self._send(attempt, question),
            wait=lambda: self._router.hedge_in(attempt, self._clock.seconds()),
            second=second,
            final=_final,
        ).result

    def _send(self, attempt: Attempt, question: Question[T]) -> Deferred[T]:
        self._tried.add(attempt.node.address)
        return Deferred.fromCoroutine(self._attempt(attempt, question))

    async def _attempt(self, attempt: Attempt, question: Question[T]) -> T:
        outcome, report, rest_seconds = Outcome.CANCELLED, None, None
        try:
            reply = await self._request(attempt, question)
            report = _load(reply)
            if reply.status != 200:
                raise read_error(reply.status, reply.body, reply.header("Retry-After"))
            found = question.read(reply, attempt.node.address)
            outcome = Outcome.ANSWERED
            return found
        except SmlsError as error:
            outcome, rest_seconds = _outcome(error), error.retry_after_seconds
            self._failures[attempt.node.address] = error
            if isinstance(error, NodeUnreachable):
                self._directory.refresh()
            raise
        finally:
            self._last = outcome
            self._router.end(attempt, outcome, self._clock.seconds(), report, rest_seconds)

    def _request(self, attempt: Attempt, question: Question[Any]) -> Deferred[Reply]:
        node = attempt.node
        if node.scheme != "http":
            raise NodeRefused(f"{node.scheme} is not spoken yet")
        left = self._deadline - self._clock.seconds()
        others = any(other.address not in self._tried for other in attempt.nodes)
        return self._transport.request(
            "POST",
            node.url(question.target(*_named(attempt))),
            body=question.body,
            headers={**question.headers, TIMEOUT_HEADER: f"{max(1.0, left * 1000):.0f}"},
            timeout_seconds=left / 2 if others else None,
        )


def told(failures: dict[str, SmlsError]) -> str:
    """What each node told, in one line."""
    return "; ".join(f"{address}: {error.message}" for address, error in failures.items())


def _named(attempt: Attempt) -> tuple[str | None, str | None]:
    """The model and version as they are named to the node, which is not asked by labels."""
    want = attempt.want
    if want.label is None:
        return want.model, want.version
    record = want.record(attempt.node)
    if record is None:
        raise BadRequest(
            f"label: got {want.label!r} for {attempt.node.address}, whose labels are not known; "
            "name a version, or a registry that lists the node"
        )
    return record.name, record.version


def _load(reply: Reply) -> LoadReport | None:
    header = reply.header(LOAD_HEADER)
    if header is None:
        return None
    try:
        return load_from_header(header)
    except BadRecord:
        return None  # an answer is as good without it


def _final(error: BaseException) -> bool:
    """Whether another node would say the same; the list may be older than a node's models."""
    return isinstance(error, RequestError) and not isinstance(error, ModelNotFound)


def _outcome(error: SmlsError) -> Outcome:
    if isinstance(error, Overloaded):
        return Outcome.PUSHBACK
    if isinstance(error, RequestError | DeadlineExceeded):
        return Outcome.ANSWERED
    return Outcome.REFUSED if isinstance(error, NodeRefused) else Outcome.FAILED


def _most_telling(failures: dict[str, SmlsError]) -> SmlsError:
    """One error for those of all nodes that were tried."""
    errors = list(failures.values())
    if not errors:
        return Overloaded(
            "each node has as many requests in flight as it took before it pushed back",
            retry_after_seconds=1.0,
        )
    overloaded = [error for error in errors if isinstance(error, Overloaded)]
    if overloaded:
        waits = [error.retry_after_seconds for error in overloaded if error.retry_after_seconds]
        return Overloaded(
            f"no node has room: {told(failures)}",
            retry_after_seconds=min(waits) if waits else None,
        )
    for kind in (ModelNotFound, NodeFault, DeadlineExceeded):
        if all(isinstance(error, kind) for error in errors):
            return kind(told(failures))
    return NodeUnreachable(f"no node answered: {told(failures)}")
