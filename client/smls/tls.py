# SPDX-License-Identifier: MIT
"""What our programs do without: none of them speaks TLS yet, but a registry with its store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARY = "OpenSSL"


@contextmanager
def left_out() -> Iterator[None]:
    """Here Twisted is imported as if pyOpenSSL were not installed, which treq brings along.

    It would take 12 MB, and a sixth of the time in which ``smls-client`` starts. For a program's
    own start alone: a process that has been through here speaks no TLS with Twisted. Whoever wants
    OpenSSL for itself, as a user's model may, imports it afterwards as usual.
    """
    if _LIBRARY in sys.modules:
        yield
        return
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]
    try:
        yield
        # Else it would ask for it later.
        import twisted.web.client  # noqa: F401
    finally:
        del sys.modules[_LIBRARY]
