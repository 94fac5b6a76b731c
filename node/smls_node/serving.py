# SPDX-License-Identifier: MIT
"""The one way in to a node's models, whatever the dialect that asks."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import Overloaded, SmlsError
from smls.log import fault
from smls_node import images
from smls_node.catalogue import Catalogue, Model
from smls_node.labels import Prediction, top_k
from smls_node.worker import Worker

RETRY_LOADING_SECONDS = 2.0
RETRY_DRAINING_SECONDS = 1.0


class Phase(Enum):
    """Where a node is in its life: each follows the one before."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@frozen
class Classified:
    """A model's answers to several images, in their order; an error stands in its item's place."""

    model: Model
    results: tuple[tuple[Prediction, ...] | SmlsError, ...]


class Serving:
    """Classifies images in a worker's threads while the node is ready.

    ``node`` is the name that answers carry.
    """

    log = Logger()

    def __init__(self, catalogue: Catalogue, worker: Worker, *, max_pixels: int) -> None:
        self.catalogue = catalogue
        self.phase = Phase.LOADING
        self.node = ""
        self._worker = worker
        self._max_pixels = max_pixels

    def refusal(self) -> Overloaded | None:
        """Why the node takes no requests now, where it takes none."""
        if self.phase is Phase.LOADING:
            return Overloaded(
                "the node is still loading its models", retry_after_seconds=RETRY_LOADING_SECONDS
            )
        if self.phase is Phase.DRAINING:
            return Overloaded(
                "the node is draining before it stops; ask another one",
                retry_after_seconds=RETRY_DRAINING_SECONDS,
            )
        return None

    def classify(
        self, uploads: Sequence[bytes], *, model: str | None, version: str | None, top: int
    ) -> Deferred[Classified]:
        """The ``top`` best labels of each image.

        :raises Overloaded: while the node loads or drains.
        :raises BadRequest, ModelNotFound: as ``Catalogue.find``.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        chosen = self.catalogue.find(model, version)

        def one(upload: bytes) -> Deferred[tuple[Prediction, ...] | SmlsError]:
            done = self._worker.do(lambda: self._classify(chosen, upload, top))
            return done.addErrback(self._told)

        def together(
            results: list[tuple[Prediction, ...] | SmlsError],
        ) -> Classified:
            return Classified(chosen, tuple(results))

        return gatherResults([one(upload) for upload in uploads]).addCallback(together)

    def _classify(self, model: Model, upload: bytes, top: int) -> tuple[Prediction, ...]:
        """Blocks: decodes the image, runs the model, and takes the best labels."""
        spec = model.runtime.signature.pixels
        image = (
            images.as_jpeg(upload, self._max_pixels)
            if spec is None
            else images.decode(upload, spec, self._max_pixels)
        )
        return top_k(model.runtime.infer([image])[0], model.labels, top)

    def _told(self, failure: Failure) -> SmlsError:
        if isinstance(failure.value, SmlsError):
            return failure.value
        return fault(self.log, failure)
