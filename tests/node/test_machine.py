# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from smls_node import machine

LOADS = """
import gc, os
from smls_node import machine

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

# In pieces that come from the heap, with one after them that keeps it from shrinking by itself.
pieces = [bytearray(b"x") * 100_000 for _ in range(2000)]
last = bytearray(100_000)
before = resident()
del pieces
machine.settle()
print(before - resident(), gc.get_freeze_count() > 1000)
"""


def test_replicas_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, key = machine.cores(), machine.fingerprint("tensorflow")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    monkeypatch.delenv(machine.REPLICAS, raising=False)
    assert machine.cores() == 7
    whole = machine.fingerprint("tensorflow")
    monkeypatch.setenv(machine.REPLICAS, "3")
    assert machine.cores() == 2
    assert machine.fingerprint("tensorflow") != whole
    monkeypatch.setenv(machine.REPLICAS, "100")
    assert machine.cores() == 1
    monkeypatch.undo()
    assert (machine.cores(), machine.fingerprint("tensorflow")) == (alone, key)


@pytest.mark.parametrize(
    ("status", "kills", "now", "told"),
    [
        (0, 1, 1, "ended with status 0"),
        (3, 1, 2, "ended with status 3"),
        (-11, 1, 2, "was killed by SIGSEGV"),
        (-63, 1, 2, "was killed by signal 63"),
        (-9, 1, 1, "was killed by SIGKILL"),
        (-9, 1, 2, "was killed by SIGKILL, probably for want of memory"),
        (-9, None, None, "was killed by SIGKILL, perhaps for want of memory"),
    ],
)
def test_an_end_is_told(status: int, kills: int | None, now: int | None, told: str) -> None:
    assert machine.told_end(status, kills, now) == told


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library gives memory back"
)
def test_what_loading_has_freed_is_given_back_and_what_it_left_is_no_garbage() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADS], capture_output=True, text=True, check=True
    )
    given_back, is_frozen = ended.stdout.split()
    assert int(given_back) > 150_000_000
    assert is_frozen == "True"
