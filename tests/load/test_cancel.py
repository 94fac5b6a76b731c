# SPDX-License-Identifier: MIT
"""Cancel storms: thousands of clients that hang up wherever they are."""

from __future__ import annotations

import asyncio
from random import Random

from tests.integration.fleet import THREE, noise
from tests.load.clients import Client, many, upload
from tests.load.watch import Watch

REQUESTS = 2000
AT_ONCE = 200

STAY_SECONDS = 0.3
"""Longer than a run of the slow model: some leave while they wait, others while they are run."""


def test_a_storm_of_cancellations_leaves_nothing_behind(calm: Watch) -> None:
    small, large = THREE.read_bytes(), noise(600, 600)

    async def come_and_go(number: int, random: Random) -> None:
        path = random.choice(["/classify", "/classify?model=slow", "/classify?model=slow&top=1"])
        whole = upload(random.choice([small, small, large]), path)
        client = await Client.to(calm.url)
        moment = number % 4
        if moment == 1:
            await client.send(whole[: random.randint(1, 80)])
        elif moment == 2:
            await client.send(whole[: random.randint(80, len(whole) - 1)])
        elif moment == 3:
            await client.send(whole)
        await asyncio.sleep(random.uniform(0, STAY_SECONDS))
        client.leave(reset=random.random() < 0.5)

    with calm.neighbour():
        calm.leaks_nothing_by(lambda seed: many(come_and_go, REQUESTS, AT_ONCE, seed))
