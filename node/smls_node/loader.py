# SPDX-License-Identifier: MIT
"""Loads the models of one node: those of its command line, and those that lie in its folders.

What is loaded before the node is ready may go into its own process; later ones never do.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from smls_node import loading
from smls_node.catalogue import Model
from smls_node.factory import OBJECTS
from smls_node.means import Means
from smls_node.nodesettings import NodeSettings
from smls_node.pools import Pools
from smls_node.serving import Phase, Serving
from smls_node.settings import ModelSettings
from smls_node.versions import Standing, State


class Loader:
    """``named`` and ``found`` block, and are called in threads."""

    log = Logger()

    def __init__(self, reactor: Any, serving: Serving, settings: NodeSettings) -> None:
        self._reactor = reactor
        self._serving = serving
        self._pools = Pools()
        self._means = Means(
            settings.findings,
            self._pools,
            serving.seconds,
            reactor,
            settings.accelerate,
            OBJECTS,
            decoding=settings.decoding,
            beside_http=True,
        )

    def named(self, settings: ModelSettings) -> Model:
        """A model of the command line. It is told that it is loading, since it may hang.

        :raises ModelUnusable: as ``loading.load``.
        """
        name, version = loading.name_of(settings), settings.version
        self.log.info("model {model} version {version}: loading", model=name, version=version)
        begun = Standing(name, version, State.LOADING, since=self._reactor.seconds())
        self._reactor.callFromThread(self._serving.catalogue.stand, [begun])
        return self._load(settings)

    def found(self, settings: ModelSettings, served: Model | None, given_up: Future[None]) -> Model:
        """A model of a folder, as ``upkeep.Upkeep`` has it loaded.

        :raises ModelUnusable: as ``loading.load``.
        """
        if self._serving.phase is Phase.LOADING:
            return self._load(settings, served=served)
        beside = self._pools.beside()
        given_up.add_done_callback(lambda _: beside.give_up())
        return self._load(settings, beside=beside, served=served)

    def close(self) -> None:
        """Ends the processes in which models are, at once."""
        self._pools.close()

    def _load(self, settings: ModelSettings, **how: Any) -> Model:
        begun = self._serving.seconds()
        model = loading.load(settings, self._means, **how)
        return evolve(model, load_seconds=self._serving.seconds() - begun)
