# SPDX-License-Identifier: MIT
"""A Klein application's routes as a resource of a ``LimitedSite``.

Klein's own resource answers each request by functions that know each other. So the request, and all
that hangs on it, would stay until Python looks for such cycles, and in that time a server stands
still. Here nothing is left behind, a path is looked up once, and every error is told as JSON, never
with a traceback.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from smls.errors import SmlsError
from smls.log import fault
from smls.request import LimitedRequest
from smls.web import Answer, Voice, answer_for, as_it_is, error_answer
from smls.web import log as faults

REMEMBERED = 2048
"""So many paths are looked up once: that costs a tenth of a small request."""


class Routes(Resource):
    """The routes of the Klein application ``app``, which has all of them by now.

    A route's function gives the body to write, or ``None`` for none, or either of them later. What
    it raises is told in ``voice``; a fault of ours becomes a 500 whose id stands in the log beside
    the traceback. Where the client leaves, what is to come later is cancelled.
    """

    isLeaf = True

    def __init__(self, app: Any, voice: Voice = as_it_is) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._app = app
        self._voice = voice
        self._match = lru_cache(maxsize=REMEMBERED)(app.url_map.bind("").match)

    def error(self, method: str, path: str) -> Answer | None:
        """404 or 405 where there is no route for such a request."""
        from werkzeug.exceptions import HTTPException

        try:
            self._match(path, method)
        except HTTPException as refusal:
            return _http_error(refusal, method, path)
        return None

    def render(self, request: LimitedRequest) -> int:
        """Has the request answered, at once or later."""
        request.answering = maybeDeferred(self._call, request)
        request.answering.addErrback(self._told, request)
        request.answering.addCallback(_write, request)
        request.answering.addErrback(partial(faults.failure, "an answer could not be written"))
        return NOT_DONE_YET

    def _call(self, request: LimitedRequest) -> Any:
        head = request.head()
        endpoint, arguments = self._match(head.path, head.method)
        return self._app.execute_endpoint(endpoint, request, **arguments)

    def _told(self, failure: Failure, request: LimitedRequest) -> bytes | None:
        from werkzeug.exceptions import HTTPException

        if not request.is_open:
            # Nobody is left to be told.
            if not failure.check(CancelledError):
                faults.failure("a request whose client had left failed", failure)
            return None
        head, error = request.head(), failure.value
        if isinstance(error, HTTPException):
            answer = _http_error(error, head.method, head.path)
        else:
            answer = answer_for(error if isinstance(error, SmlsError) else fault(faults, failure))
        # The frames that it came through hold it, and the request.
        failure.cleanFailure()
        return self._voice(head.path, answer).write_to(request)


def _write(body: bytes | None, request: LimitedRequest) -> None:
    if not request.is_open:
        return
    if body is not None:
        request.write(body)  # type: ignore[no-untyped-call]
    request.finish()


def _http_error(refusal: Any, method: str, path: str) -> Answer:
    if refusal.code == 405:
        allowed = ", ".join(sorted(refusal.valid_methods or ()))
        if method == "OPTIONS":
            return Answer(200, b"", "text/plain", (("Allow", f"{allowed}, OPTIONS"),))
        return error_answer(
            "method_not_allowed",
            f"{path} does not take {method}; it takes {allowed}",
            headers=(("Allow", allowed),),
        )
    # A redirect is how werkzeug says that doubled slashes would have to go.
    if refusal.code in (404, 308):
        return error_answer("not_found", f"there is nothing at {path}")
    return error_answer("bad_request", f"{method} {path}: {refusal.name}")
