# SPDX-License-Identifier: MIT
"""What every dialect over HTTP has in common: a request's deadline, work that must not block the
reactor, an answer's times and load."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from math import isfinite
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from smls.errors import BadRequest
from smls.site import LimitedRequest
from smls.web import Answer, accepts_gzip
from smls.wire import LOAD_HEADER, TIMEOUT_HEADER, LoadReport
from smls_node.worker import Times

SMALL_BYTES = 1 << 14
"""So much is parsed or written in less time than a thread is woken in, some 100 microseconds."""

TIMING_HEADER = "Server-Timing"

GZIP_BYTES = 1 << 16
"""An answer of fewer bytes is sent as it is: packing costs more than its way does."""

GZIP_LEVEL = 1


@frozen
class Terms:
    """``timeout_seconds`` is the deadline of requests that name none; ``in_thread`` calls a
    function in a thread, as ``deferToThreadPool`` does."""

    timeout_seconds: float
    in_thread: Callable[..., Deferred[Any]] = maybeDeferred

    def offload(self, size_bytes: int, work: Callable[..., Any], *given: Any) -> Deferred[Any]:
        """What ``work(*given)`` gives, which takes time in proportion to ``size_bytes``: in a
        thread, unless it is small."""
        call = self.in_thread if size_bytes > SMALL_BYTES else maybeDeferred
        return call(work, *given)

    def told(self, request: LimitedRequest, answer: Answer) -> Deferred[bytes]:
        """The answer's body, all else of it set on ``request``; a large one is packed where the
        client takes gzip."""
        if len(answer.body) < GZIP_BYTES or not accepts_gzip(request.requestHeaders):
            return succeed(answer.write_to(request))

        def packed(body: bytes) -> bytes:
            # Beside what the answer varies by already, such as the page's origin.
            varies = [*request.responseHeaders.getRawHeaders("Vary", []), "Accept-Encoding"]
            packing = (("Content-Encoding", "gzip"), ("Vary", ", ".join(varies)))
            headers = (*answer.headers, *packing)
            return evolve(answer, body=body, headers=headers).write_to(request)

        body = self.offload(len(answer.body), gzip.compress, answer.body, GZIP_LEVEL)
        return body.addCallback(packed)

    def deadline(
        self, request: LimitedRequest, now: float, asked_seconds: float | None = None
    ) -> float:
        """The moment by which the request wants its answer, counted from its headers: the sooner
        of what they and its body ask for.

        :raises BadRequest: where the header for it is no number of milliseconds above 0.
        """
        text = request.getHeader(TIMEOUT_HEADER)
        told = None if text is None else _milliseconds(text) / 1000
        asked = [seconds for seconds in (told, asked_seconds) if seconds is not None]
        seconds = min(asked, default=self.timeout_seconds)
        return now - request.age() + seconds

    def report(
        self, request: LimitedRequest, times: Times, load: LoadReport, *, encode: float
    ) -> None:
        """Sets the headers that say where the time went (W3C Server-Timing) and how busy the
        node is (ORCA)."""
        timing = server_timing(
            times,
            read=request.read_seconds,
            encode=encode,
            total=max(times.total + encode, request.age()),
        )
        request.responseHeaders.setRawHeaders(TIMING_HEADER, [timing])
        request.responseHeaders.setRawHeaders(LOAD_HEADER, [load.to_header()])


class TimedRequest(LimitedRequest):
    """Says with its answer how long that took, where no face has said more."""

    def write(self, data: bytes) -> None:
        if not self.startedWriting and not self.responseHeaders.hasHeader(TIMING_HEADER):
            timing = f"read;dur={self.read_seconds * 1000:.2f}, total;dur={self.age() * 1000:.2f}"
            self.responseHeaders.setRawHeaders(TIMING_HEADER, [timing])
        super().write(data)  # type: ignore[no-untyped-call]


def server_timing(times: Times, *, read: float, encode: float, total: float) -> str:
    """Where a request's seconds went, as W3C's Server-Timing tells it."""
    return (
        f"read;dur={read * 1000:.2f}, queue;dur={times.queue * 1000:.2f}, "
        f"decode;dur={times.prepare * 1000:.2f}, infer;dur={times.infer * 1000:.2f}, "
        f"encode;dur={(times.finish + encode) * 1000:.2f}, total;dur={total * 1000:.2f}"
    )


def _milliseconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (isfinite(number) and number > 0):
        raise BadRequest(f"{TIMEOUT_HEADER}: got {text[:80]!r}, wanted milliseconds above 0")
    return number
