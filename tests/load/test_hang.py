# SPDX-License-Identifier: MIT
"""A model that hangs: its own requests are told so, and nobody else notices."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smls_node import embedded
from tests.integration.fleet import UNMEASURED, ask
from tests.integration.graphs import write_hanging
from tests.load.clients import upload
from tests.load.watch import Watch
from tests.memory import Reply
from tests.node.memory import image
from tests.processes import LOCAL, running, until

DRAIN_SECONDS = 5

GRACE_SECONDS = 15
"""For threads that are left behind and a machine that is busy."""

WORKERS = 2
"""Those of UNMEASURED."""

ASKED = 40


@pytest.mark.parametrize("in_flight", [False, True])
def test_a_model_that_hangs_harms_nobody_else(tmp_path: Path, in_flight: bool) -> None:
    digits = ("--graph", embedded.GRAPH, "--labels", embedded.LABELS, "--name", "digits")
    hanging = (*write_hanging(tmp_path, "hanging"), "--max-batch-size", "1")
    options = (*digits, *hanging, "--default-model", "digits", "--log-format", "json")
    limit = ("--drain-timeout", DRAIN_SECONDS)
    with running("smls-node", *LOCAL, *UNMEASURED, *options, *limit) as node:
        watch = Watch(node)

        def ask_hanging(_: int) -> Reply:
            url = f"{node.url}classify?model=hanging"
            headers = {"Content_Type": "image/png", "X_Request_Timeout_Ms": "1000"}
            return ask(url, image(255), **headers)

        with watch.neighbour(), ThreadPoolExecutor(ASKED) as pool:
            replies = list(pool.map(ask_hanging, range(ASKED)))
        assert {(reply.status, reply.code) for reply in replies} == {(504, "deadline_exceeded")}
        # What runs cannot be stopped; nothing waits behind it any more.
        assert watch.waiting() == {"digits": (0, 0), "hanging": (WORKERS, 0)}
        watch.check("three.jpg")
        if in_flight:
            waiting = watch.send(upload(image(255), "/classify?model=hanging"))
            until(lambda: watch.waiting()["hanging"] == (WORKERS + 1, 1))
        begun = time.monotonic()
        status, _, log = node.stop()
        assert time.monotonic() - begun < DRAIN_SECONDS + GRACE_SECONDS
        assert status == int(in_flight)
        assert "Traceback" not in log
        if in_flight:
            waiting.close()
            assert "POST /classify?model=hanging" in log
