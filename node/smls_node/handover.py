# SPDX-License-Identifier: MIT
"""Accepted connections, given by one process to another over a socket between them.

The socket is of the kind SOCK_SEQPACKET: a message stays one, and its end is seen.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.logger import Logger

AT_ONCE = 64
"""Connections that are taken before other work has its turn."""

BEAT_SECONDS = 0.5
"""How often one who takes connections says that it still does."""

CONNECTION = b"c"
STOP = b"s"

log = Logger()


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends; neither ever blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def give(end: socket.socket, connection: socket.socket) -> None:
    """Gives ``connection`` to who holds the other end; ours is left to close.

    :raises OSError: where nobody holds it any more, or takes nothing.
    """
    socket.send_fds(end, [CONNECTION], [connection.fileno()])


def take(end: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """The next message, empty where the other end is closed, and the connection it brought.

    :raises BlockingIOError: where there is none now.
    """
    try:
        said, descriptors, flags, _ = socket.recv_fds(end, 1, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    if flags & socket.MSG_CTRUNC:
        log.error("a connection is lost: this process has too many open files")
    return said, [socket.socket(fileno=descriptor) for descriptor in descriptors]


def serve(reactor: Any, connection: socket.socket, site: Any) -> None:
    """Has ``site`` serve ``connection``, which must not block; ours is closed."""
    with connection:
        try:
            reactor.adoptStreamConnection(connection.fileno(), connection.family, site)
        except OSError as error:
            log.info(
                "a client has left before it was served: {error}",
                error=os.strerror(error.errno or 0),
            )
