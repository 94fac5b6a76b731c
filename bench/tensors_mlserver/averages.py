# SPDX-License-Identifier: MIT
"""MLServer: the mean of each image, by numpy alone."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Averages(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0])
        means = np.mean(images, axis=(1, 2))
        output = NumpyCodec.encode_output("means", means)
        return InferenceResponse(model_name=self.name, outputs=[output])
