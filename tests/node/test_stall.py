# SPDX-License-Identifier: MIT
"""A process that stands still, and tells where."""

from __future__ import annotations

from tests.processes import run

HOLDS = """
import ctypes
from twisted.internet import reactor
from smls_node.stall import StallWatch

def hold_the_lock(seconds):
    # Called so, it keeps Python's lock: no other thread of the process runs.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))

watch = StallWatch(reactor, seconds=1)
reactor.callWhenRunning(watch.start)
reactor.callLater(0.1, hold_the_lock, 2)
reactor.callLater(0.2, watch.stop)
# Longer than it would take to tell once more.
reactor.callLater(3.5, reactor.stop)
reactor.run()
"""


def test_who_holds_the_lock_is_named_once() -> None:
    held = run(HOLDS)
    assert (held.returncode, held.stdout) == (0, "")
    assert held.stderr.startswith("Timeout (0:00:01)!\n")
    assert "in hold_the_lock\n" in held.stderr
    assert held.stderr.count("Timeout") == 1
