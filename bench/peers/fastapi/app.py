# SPDX-License-Identifier: MIT
"""FastAPI: a plain function for blocking work, which it runs in its pool of threads."""

from typing import Any

from fastapi import FastAPI, UploadFile
from label_image import LabelImage

app = FastAPI()
model = LabelImage()


@app.post("/classify")
def classify(data: UploadFile) -> dict[str, Any]:
    return model.classify(data.file.read())
