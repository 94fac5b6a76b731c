# SPDX-License-Identifier: MIT
from __future__ import annotations

import os

import pytest

from smls_node import machine


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
