# SPDX-License-Identifier: MIT
"""Flask, as the tutorials on serving an image model have it."""

from flask import Flask, jsonify, request
from label_image import LabelImage

app = Flask(__name__)
model = LabelImage()


@app.post("/classify")
def classify():
    return jsonify(model.classify(request.files["data"].read()))
