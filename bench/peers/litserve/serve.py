# SPDX-License-Identifier: MIT
"""LitServe, by its guides to files, workers and batching."""

import os
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from label_image import LabelImage

BATCH = int(os.environ.get("LITSERVE_BATCH", "1"))


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = LabelImage()

    def decode_request(self, request: Request) -> Any:
        return self.model.decode(request["data"].file.read())

    def predict(self, pixels: Any) -> Any:
        return self.model.infer(np.atleast_2d(pixels) if BATCH > 1 else pixels[None])

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return self.model.answer(output if BATCH > 1 else output[0])


if __name__ == "__main__":
    batching: dict[str, Any] = {"max_batch_size": BATCH, "batch_timeout": 0.002}
    api = Classifier(api_path="/classify", **(batching if BATCH > 1 else {}))
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ.get("LITSERVE_WORKERS", "1")),
        timeout=120,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
