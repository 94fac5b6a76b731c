# SPDX-License-Identifier: MIT
"""MLServer: a runtime of our own, images as base64 in the V2 protocol, as its guides have it."""

import asyncio
import json

from label_image import LabelImage
from mlserver import MLModel
from mlserver.codecs import Base64Codec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    async def load(self) -> bool:
        self.model = LabelImage()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = Base64Codec.decode_input(payload.inputs[0])
        # In a thread: the event loop goes on reading, and several runs go at once.
        answers = await asyncio.to_thread(self.model.classify_many, images)
        output = StringCodec.encode_output(
            "predictions", [json.dumps(answer) for answer in answers], use_bytes=False
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
