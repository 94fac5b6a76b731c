# SPDX-License-Identifier: MIT
"""Cancel storms: thousands of clients that hang up wherever they are."""

from __future__ import annotations

import asyncio
from random import Random

from tests.integration.fleet import THREE, noise
from tests.load.clients import Client, many, upload
from tests.load.watch import FLAT_MB, Watch

REQUESTS = 2000
AT_ONCE = 200

STORMS = 6
"""In the first half, allocators and TensorFlow come to have all that they ever need."""

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
        resident = []
        for seed in range(STORMS):
            many(come_and_go, REQUESTS, AT_ONCE, seed)
            calm.at_rest()
            resident.append(calm.resident_mb())
    assert resident[-1] - resident[STORMS // 2 - 1] < FLAT_MB
