# SPDX-License-Identifier: MIT
"""What holds for all tests."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, globalLogPublisher

# A shell starts what runs in its background with SIGINT ignored, and ignoring is inherited: the
# programs that are interrupted in tests would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Looks no more for garbage in the libraries that all tests together have imported: each time
    it would stop the clients and reactors of this process for a sixth of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of their own, also for the programs that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """What was told to Twisted's log meanwhile."""
    caught: list[LogEvent] = []
    globalLogPublisher.addObserver(caught.append)
    yield caught
    globalLogPublisher.removeObserver(caught.append)
