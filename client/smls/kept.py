# SPDX-License-Identifier: MIT
"""The end of kept connections."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.web.client import HTTPConnectionPool


def close_kept(pool: HTTPConnectionPool) -> Deferred[None]:
    """Closes what ``pool`` keeps; fires when that is closed.

    A connection whose call was cancelled within its answer comes back to the pool when that is
    read to its end. It is closed then.
    """
    pool.cachedConnectionTimeout = 0
    closed: Deferred[None] = pool.closeCachedConnections()
    return closed
