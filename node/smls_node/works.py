# SPDX-License-Identifier: MIT
"""What is done for one request: what the model is asked, and what is answered of what it gives.

Works are values that travel to the process in which their model runs. What the works of a model
have in common travels there once, and is handed to each of their calls.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import frozen

from smls.tensors import Tensors
from smls_node import images
from smls_node.labels import Prediction, top_k
from smls_node.signature import Inputs
from smls_node.tasks import ImageTask


@frozen
class Decoding:
    """How images are decoded: none of more than ``max_pixels``; ``exact`` as label_image does."""

    max_pixels: int = 50_000_000
    exact: bool = False


@frozen
class Classifier:
    """What the images of a model have in common: ``labels`` are those of its scores."""

    task: ImageTask
    labels: tuple[str, ...]
    decoding: Decoding = Decoding()

    def inputs(self, upload: bytes) -> Inputs:
        """The pixels, or JPEG bytes for a graph that decodes by itself.

        :raises BadImage: as ``images.decode``.
        """
        spec, most = self.task.pixels, self.decoding.max_pixels
        if spec is None:
            return self.task.inputs(images.as_jpeg(upload, most))
        return self.task.inputs(images.decode(upload, spec, most, exact=self.decoding.exact))

    def best(self, outputs: Tensors, count: int) -> tuple[Prediction, ...]:
        """The ``count`` best labels of one image, the best first."""
        return top_k(self.task.scores(outputs), self.labels, count)


class Work(Protocol):
    """Both calls are made in a thread that may be blocked. ``classifier`` is the model's, if it
    has one."""

    def prepare(self, classifier: Any) -> Any:
        """What the model is asked. What it raises is this request's answer."""
        ...

    def finish(self, classifier: Any, outputs: Any) -> Any:
        """The answer, from what the model gave for it."""
        ...


@frozen
class ClassifyWork:
    """One image: decoded, run, and its best labels taken."""

    upload: bytes
    top: int

    def prepare(self, classifier: Classifier) -> Inputs:
        return classifier.inputs(self.upload)

    def finish(self, classifier: Classifier, outputs: Tensors) -> tuple[Prediction, ...]:
        return classifier.best(outputs, self.top)


@frozen
class InferWork:
    """The tensors of a request as they are."""

    inputs: Inputs

    def prepare(self, classifier: Classifier | None) -> Inputs:
        return self.inputs

    def finish(self, classifier: Classifier | None, outputs: Tensors) -> Tensors:
        return outputs
