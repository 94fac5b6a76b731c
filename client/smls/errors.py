# SPDX-License-Identifier: MIT
"""Everything that can go wrong, as one tree; each error has a stable ``code``.

::

    SmlsError
    ├── RequestError            the request is at fault: another node would say the same
    │   ├── BadRequest          bad_request
    │   │   └── BadRecord       bad_record
    │   ├── ModelNotFound       model_not_found
    │   ├── TooLarge            too_large
    │   ├── Unsupported         unsupported
    │   └── BadImage            bad_image
    │       ├── NotAnImage      not_an_image
    │       └── BrokenImage     broken_image
    ├── Unavailable             nobody could serve it just now: later may be better
    │   ├── NoLiveNodes         no_live_nodes
    │   ├── RegistryUnavailable registry_unavailable
    │   ├── NodeUnreachable     node_unreachable
    │   │   └── NodeRefused     node_refused
    │   ├── Overloaded          overloaded
    │   └── DeadlineExceeded    deadline_exceeded
    ├── NodeFault               internal: a fault of ours, with an id that is in the node's log
    ├── ModelUnusable           model_unusable: a model cannot be loaded as it is
    ├── PortTaken               port_taken
    ├── MissingExtra            missing_extra
    ├── ForkedClient            forked_client
    └── ClientClosed            client_closed

The errors know no HTTP: ``smls.web`` maps a code to a status and ``from_code`` maps it back.
"""

from __future__ import annotations

from collections.abc import Mapping


class SmlsError(Exception):
    """Any error that smls names. ``code`` is stable and travels; the message is for people.

    ``details`` are plain values that travel beside them, such as the state of a queue.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        details: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.details = dict(details or {})

    def to_json(self) -> dict[str, object]:
        """What travels of the error, as what ``json.dumps`` takes."""
        return {"code": self.code, "message": self.message, **self.details}


class RequestError(SmlsError):
    """The request itself is at fault: sending it elsewhere would not help."""

    code = "request_error"


class BadRequest(RequestError):
    """The request is malformed."""

    code = "bad_request"


class BadRecord(BadRequest):
    """A node or model record has a missing, mistyped or over-long value."""

    code = "bad_record"


class ModelNotFound(RequestError):
    """No such model, or no such version of it, is served."""

    code = "model_not_found"


class TooLarge(RequestError):
    """The upload has more bytes, or the image more pixels, than is allowed."""

    code = "too_large"


class Unsupported(RequestError):
    """A part of a protocol that is not served here."""

    code = "unsupported"


class BadImage(RequestError):
    """What was sent cannot be classified as an image."""

    code = "bad_image"


class NotAnImage(BadImage):
    """What was sent is in no image format that is known."""

    code = "not_an_image"


class BrokenImage(BadImage):
    """An image in a known format which is broken or cut short."""

    code = "broken_image"


class Unavailable(SmlsError):
    """Nobody could serve the request just now."""

    code = "unavailable"


class NoLiveNodes(Unavailable):
    """The registry knows no live node that serves the model."""

    code = "no_live_nodes"


class RegistryUnavailable(Unavailable):
    """No registry answered, and no list of nodes is known from before."""

    code = "registry_unavailable"


class NodeUnreachable(Unavailable):
    """Every node that was tried refused, reset or timed out."""

    code = "node_unreachable"


class NodeRefused(NodeUnreachable):
    """A node took no connection: nothing of the request reached it."""

    code = "node_refused"


class Overloaded(Unavailable):
    """A node is loading, draining or full; ``retry_after_seconds`` says when to come back."""

    code = "overloaded"


class DeadlineExceeded(Unavailable):
    """The call's ``timeout`` ran out before a node answered."""

    code = "deadline_exceeded"


class NodeFault(SmlsError):
    """A node failed in a way that is not the request's fault."""

    code = "internal"


class ModelUnusable(SmlsError):
    """A model's files are missing, broken or do not fit together."""

    code = "model_unusable"


class PortTaken(SmlsError):
    """The port to listen on cannot be had."""

    code = "port_taken"


class MissingExtra(SmlsError):
    """A command needs an extra of the distribution that is not installed."""

    code = "missing_extra"


class ForkedClient(SmlsError):
    """A blocking client was made before a fork and used after it; make it after the fork."""

    code = "forked_client"


class ClientClosed(SmlsError):
    """The client was closed before the call."""

    code = "client_closed"


def from_code(code: str, message: str, *, retry_after_seconds: float | None = None) -> SmlsError:
    """The error that ``code`` names, or a ``NodeFault`` where the code is not known here.

    >>> from_code("broken_image", "cut short at byte 17")
    BrokenImage('cut short at byte 17')
    """
    kind = _BY_CODE.get(code, NodeFault)
    return kind(message, retry_after_seconds=retry_after_seconds)


def _tree(kind: type[SmlsError]) -> list[type[SmlsError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _tree(child))]


_BY_CODE = {kind.code: kind for kind in _tree(SmlsError)}
