# SPDX-License-Identifier: MIT
"""Which process a model is loaded in.

TensorFlow's pool of operator threads belongs to the process, and the first session fixes it. The
first model is run in the node itself; one that wants another pool goes to a process apart, which
those that agree on it share.

Loading disturbs its process: importing a library or a graph holds Python's lock for tens of
milliseconds at a time. So while a node serves, a model is loaded in a fresh process of its own,
whose memory is all given back when the model is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from smls_node import machine
from smls_node.runtimes import Runtime
from smls_node.runtimes.apart import Apart


class Pools:
    """The operator pools of a node: its own, and those of the processes that it has started."""

    def __init__(self) -> None:
        self._own: int | None = None
        self._others: dict[int, Apart] = {}
        self._fresh: list[Apart] = []
        self._choosing = threading.Lock()

    def load(
        self, load: Callable[..., Runtime], given: Any, operator_threads: int, runs: int
    ) -> Runtime:
        """What ``load`` makes of ``given``, in a session whose pool has ``operator_threads``, one
        a core for 0.

        :raises ModelUnusable: as ``load``.
        """
        apart = self._apart(operator_threads or machine.cores())
        if apart is None:
            return load(given, operator_threads=operator_threads, runs=runs)
        return apart.load(load, given, operator_threads=operator_threads, runs=runs)

    def load_beside(self, load: Callable[..., Runtime], *given: Any, **named: Any) -> Runtime:
        """What ``load(*given, **named)`` gives, in a fresh process, in the background.

        :raises ModelUnusable: as ``Apart.load``.
        """
        apart = Apart("loaded while others were served", in_background=True)
        with self._choosing:
            self._fresh = [each for each in self._fresh if each.is_used] + [apart]
        return apart.load(load, *given, **named)

    def close(self) -> None:
        """Ends the processes, at once."""
        for apart in (*self._others.values(), *self._fresh):
            apart.close()

    def _apart(self, threads: int) -> Apart | None:
        """The process apart that has so many operator threads; none where the node's own has."""
        with self._choosing:
            if self._own is None:
                self._own = threads
            if threads == self._own:
                return None
            if threads not in self._others:
                self._others[threads] = Apart(
                    f"its pool of operator threads has {threads}, the node's own {self._own}"
                )
            return self._others[threads]
