# SPDX-License-Identifier: MIT
"""What node and registry say over HTTP: answers, errors as JSON, and a request's head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from math import ceil
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes

from attrs import frozen
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from smls.errors import SmlsError

STATUS = {
    "bad_request": 400,
    "bad_record": 400,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "bad_image": 415,
    "not_an_image": 415,
    "unsupported_encoding": 415,
    "broken_image": 422,
    "internal": 500,
    "unsupported": 501,
    "overloaded": 503,
    "unavailable": 503,
    "no_live_nodes": 503,
    "node_unreachable": 503,
    "registry_unavailable": 503,
    "deadline_exceeded": 504,
}
"""The HTTP status of an error's code."""

PREFLIGHT_SECONDS = 600
"""How long a browser may remember what it was allowed."""

EXPOSED = (
    "Server-Timing",
    "Endpoint-Load-Metrics",
    "Retry-After",
    "Inference-Header-Content-Length",
)
"""The headers that pages of other origins may read. Without the last, none could tell where the
bytes of an answer begin."""

log = Logger(namespace="smls.web")


@frozen
class Answer:
    """A whole HTTP answer: status, body, and headers besides Content-Length.

    ``error`` is the message of an answer that tells an error, for a ``Voice``.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    error: str = ""

    def closing_headers(self) -> Headers:
        """The headers of an answer that is written past Twisted's own, and ends its connection."""
        headers = Headers()
        self._add_to(headers)
        headers.setRawHeaders("Date", [datetimeToString().decode("ascii")])
        headers.setRawHeaders("Connection", ["close"])
        return headers

    def write_to(self, request: Request) -> bytes:
        """Sets the answer's status and headers on ``request``; the body is left to write."""
        request.setResponseCode(self.status)
        self._add_to(request.responseHeaders)
        return self.body

    def _add_to(self, headers: Headers) -> None:
        headers.setRawHeaders("Content-Type", [self.content_type])
        headers.setRawHeaders("Content-Length", [str(len(self.body))])
        for name, value in self.headers:
            headers.setRawHeaders(name, [value])


@frozen
class Head:
    """A request as far as its headers tell: all that an early answer may be decided by.

    ``length`` is the body's length in bytes, or ``None`` where it is sent in chunks. ``target``
    is path and query as they were sent, fit for a redirect's Location; ``is_text`` says whether
    the path is UTF-8.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Headers
    length: int | None
    target: str = "/"
    is_text: bool = True

    @classmethod
    def of(cls, method: bytes, uri: bytes, headers: Headers, length: int | None) -> Head:
        """The head of a request for ``uri``, which may hold any bytes."""
        path, query, target, is_text = _parts(uri)
        return cls(method.decode("latin-1"), path, query, headers, length, target, is_text)

    def argument(self, name: str) -> str | None:
        """The last value of the query's argument ``name``, if there is one."""
        values = self.query.get(name)
        return values[-1] if values else None


def origin_form(target: bytes) -> bytes:
    """A request's target without scheme and host, which a client may send as proxies are sent them
    (RFC 9112, 3.2.2).

    >>> origin_form(b"http://node:8501/v2?x"), origin_form(b"/v2"), origin_form(b"HTTP://node")
    (b'/v2?x', b'/v2', b'/')
    """
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    path = rest.find(b"/")
    return rest[path:] if path >= 0 else b"/"


_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@lru_cache(maxsize=256)
def _parts(uri: bytes) -> tuple[str, Mapping[str, list[str]], str, bool]:
    """Path, query, target, and whether the path is UTF-8: see ``Head``."""
    target = quote(uri, safe=_PRINTABLE)
    path, _, query = target.partition("?")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        is_text = False
    else:
        is_text = True
    return unquote(path), parse_qs(query, keep_blank_values=True) if query else {}, target, is_text


Screen = Callable[[Head], Answer | None]
"""Says for a request with a body whether it is answered before the body has been read."""


Voice = Callable[[str, Answer], Answer]
"""Tells the answer to a request for a path as who asks for such paths reads it."""


def as_it_is(path: str, answer: Answer) -> Answer:
    """The ``Voice`` that changes nothing."""
    return answer


def json_answer(
    value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = (), error: str = ""
) -> Answer:
    """``value`` as a JSON answer that ends in a newline, for people with ``curl``."""
    import orjson

    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return Answer(status, body, headers=headers, error=error)


def error_answer(code: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """``{"error": {"code", "message"}}`` with the status of ``code``."""
    error = {"code": code, "message": message}
    return json_answer({"error": error}, STATUS.get(code, 500), headers, message)


def answer_for(error: SmlsError) -> Answer:
    """The answer that tells ``error``; a Retry-After is in whole seconds, rounded up."""
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after_seconds is not None:
        headers = (("Retry-After", str(max(1, ceil(error.retry_after_seconds)))),)
    status = STATUS.get(error.code, 500)
    return json_answer({"error": error.to_json()}, status, headers, error.message)


def prefers_html(headers: Headers) -> bool:
    """Whether a page is wanted rather than JSON, as browsers do and programs do not."""
    from werkzeug.datastructures import MIMEAccept
    from werkzeug.http import parse_accept_header

    accepted = parse_accept_header(", ".join(headers.getRawHeaders("accept", [])), MIMEAccept)
    return accepted.best_match(["application/json", "text/html"]) == "text/html"


def is_packed(head: Head) -> bool:
    """Whether the request's body is sent as a file that ``Inflate`` reads."""
    return _encoding(head) in ("gzip", "x-gzip", "deflate")


def encoding_error(head: Head) -> Answer | None:
    """What is wrong with how the request's body is encoded (RFC 9110, 15.5.16)."""
    if _encoding(head) in ("", "identity") or is_packed(head):
        return None
    problem = f"Content-Encoding: got {_encoding(head)!r}, wanted gzip or deflate"
    return error_answer("unsupported_encoding", problem, (("Accept-Encoding", "gzip, deflate"),))


def _encoding(head: Head) -> str:
    return ", ".join(head.headers.getRawHeaders("content-encoding", [])).strip().lower()


def accepts_gzip(headers: Headers) -> bool:
    """Whether the answer may be sent as a gzip file."""
    from werkzeug.http import parse_accept_header

    accepted = parse_accept_header(", ".join(headers.getRawHeaders("accept-encoding", [])))
    return bool(accepted["gzip"])


def cors_headers(origins: Collection[str], head: Head) -> tuple[tuple[str, str], ...]:
    """The headers that let pages of these ``origins``, or any for ``*``, read the answer (the
    Fetch standard's CORS protocol)."""
    (origin,) = head.headers.getRawHeaders("origin", [""])[-1:]
    found = [] if "*" in origins else [("Vary", "Origin")]
    if not origin or not ("*" in origins or origin in origins):
        return tuple(found)
    found += [
        ("Access-Control-Allow-Origin", "*" if "*" in origins else origin),
        ("Access-Control-Expose-Headers", ", ".join(EXPOSED)),
    ]
    method = head.headers.getRawHeaders("access-control-request-method", [""])[-1]
    if head.method == "OPTIONS" and method:
        wanted = head.headers.getRawHeaders("access-control-request-headers", [""])[-1]
        found += [
            ("Access-Control-Allow-Methods", method),
            ("Access-Control-Allow-Headers", wanted),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        ]
    return tuple(found)
