# SPDX-License-Identifier: MIT
"""Which process a model is loaded in.

TensorFlow's pool of operator threads belongs to the process, and the first session fixes it. The
first model is run in the node itself; one that wants another pool goes to a process apart, which
those that agree on it share. So do those that are so quick that HTTP costs more than they do: in
the node's process they and HTTP would wait for each other's turn of Python's lock.

Loading disturbs its process: importing a library or a graph holds Python's lock for tens of
milliseconds at a time. So while a node serves, a model is loaded in a process of its own, whose
memory is all given back when the model is dropped. Where the library takes seconds to be
imported, it is a fork of one that has imported it and shares its memory (``runtimes.forks``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from smls_node import machine
from smls_node.runtimes import Runtime
from smls_node.runtimes.apart import Apart
from smls_node.runtimes.forks import Forks, fresh


class Pools:
    """The operator pools of a node: its own, and those of the processes that it has started."""

    def __init__(self) -> None:
        self._own: int | None = None
        self._others: dict[int, Apart] = {}
        self._quick: dict[int, Apart] = {}
        self._fresh: list[Apart] = []
        self._forks: dict[str, Forks] = {}
        self._choosing = threading.Lock()

    def load(
        self,
        load: Callable[..., Runtime],
        given: Any,
        operator_threads: int,
        runs: int,
        *,
        is_quick: bool = False,
    ) -> Runtime:
        """What ``load`` makes of ``given``, in a session whose pool has ``operator_threads``, one
        a core for 0.

        :raises ModelUnusable: as ``load``.
        """
        threads = operator_threads or machine.cores()
        apart = self.quick(threads) if is_quick else self._apart(threads)
        if apart is None:
            return load(given, operator_threads=operator_threads, runs=runs)
        return apart.load(load, given, operator_threads=operator_threads, runs=runs)

    def quick(self, threads: int) -> Apart:
        """The process for models that cost less than HTTP, whose pool has so many threads."""
        with self._choosing:
            if threads not in self._quick:
                self._quick[threads] = Apart("quick: HTTP has the node's own to itself")
            return self._quick[threads]

    def beside(self) -> Beside:
        """Where one model is to be loaded while others are served."""
        return Beside(self)

    def own(self, preloaded: str) -> Apart:
        """A process for one model, which has the library of the runtime ``preloaded``, if any."""
        with self._choosing:
            if preloaded not in self._forks:
                self._forks[preloaded] = Forks(f"smls_node.runtimes.{preloaded}")
            apart = Apart(
                "loaded while others were served",
                in_background=True,
                begin=self._forks[preloaded].fork if preloaded else fresh,
            )
            self._fresh = [each for each in self._fresh if each.is_used] + [apart]
        return apart

    def close(self) -> None:
        """Ends the processes, at once."""
        for apart in (*self._others.values(), *self._quick.values(), *self._fresh):
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


class Beside:
    """A process of its own for one model that is loaded while others are served."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._apart: Apart | None = None
        self._is_given_up = False
        self._changing = threading.Lock()

    def load(
        self, preloaded: str, load: Callable[..., Runtime], *given: Any, **named: Any
    ) -> Runtime:
        """What ``load(*given, **named)`` gives, in the process, in the background; see
        ``Format.preloaded``.

        :raises ModelUnusable: as ``Apart.load``, and where it was given up.
        """
        apart = self._pools.own(preloaded)
        with self._changing:
            self._apart = apart
            if self._is_given_up:
                apart.close()
        return apart.load(load, *given, **named)

    def give_up(self) -> None:
        """Ends the process, whatever the model does there. In any thread; blocks."""
        with self._changing:
            self._is_given_up = True
            apart = self._apart
        if apart is not None:
            apart.close()
