# SPDX-License-Identifier: MIT
"""BentoML, by its guides to services, image inputs, workers and adaptive batching."""

import os
from typing import Any

import bentoml
import numpy as np
from label_image import LabelImage
from PIL.Image import Image

BATCH = int(os.environ.get("BENTO_BATCH", "1"))


@bentoml.service(
    workers=int(os.environ.get("BENTO_WORKERS", "1")),
    threads=int(os.environ.get("BENTO_THREADS", "1")),
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
)
class Classifier:
    def __init__(self) -> None:
        self.model = LabelImage()

    if BATCH > 1:

        @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
        def classify(self, data: list[Image]) -> list[dict[str, Any]]:
            batch = np.stack([self.model.pixels(image) for image in data])
            return [self.model.answer(row) for row in self.model.infer(batch)]

    else:

        @bentoml.api
        def classify(self, data: Image) -> dict[str, Any]:
            return self.model.answer(self.model.infer(self.model.pixels(data)[None])[0])
