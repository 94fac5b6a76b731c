# SPDX-License-Identifier: MIT
"""Fleets that are fakes, for the tests of programs that use smls.

::

    from smls.testing import FakeFleet, FakeModel, fail

    FLOWERS = FakeModel("flowers", classify={"daisy": 0.9, "rose": 0.1})

    with FakeFleet(FLOWERS, nodes=2) as fleet, fleet.client() as client:
        assert client.classify(b"any bytes").predictions[0].label == "daisy"
        fleet.nodes[0].behaviour = fail("overloaded", retry_after_seconds=3)
        assert client.classify(b"any bytes").node == "node-2"

A registry and nodes listen on free ports of 127.0.0.1, so programs go through all of the client:
it watches, picks, retries, and speaks HTTP. Nothing but the bare client is needed. They are tested
beside a real registry and a real node, which answer the same to the same calls.
"""

from __future__ import annotations

from smls.testing.fleet import FakeFleet
from smls.testing.node import Asked, FakeModel, FakeNode
from smls.testing.registry import FakeRegistry
from smls.testing.server import Behaviour, FakeRequest, FakeServer, fail, hang, late, reset, respond

__all__ = [
    "Asked",
    "Behaviour",
    "FakeFleet",
    "FakeModel",
    "FakeNode",
    "FakeRegistry",
    "FakeRequest",
    "FakeServer",
    "fail",
    "hang",
    "late",
    "reset",
    "respond",
]
