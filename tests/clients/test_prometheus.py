# SPDX-License-Identifier: MIT
"""Prometheus's own parsers read what a node counts, whatever asked it."""

from __future__ import annotations

import numpy as np
import pytest
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from tests.processes import Running

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def answered(node: Running, accept: str) -> float:
    """How many requests the oldest version of half_plus_two has answered."""
    answer = requests.get(f"{node.url}metrics", headers={"Accept": accept}, timeout=30)
    reader = openmetrics if answer.headers["Content-Type"].startswith(OPENMETRICS[:26]) else parser
    assert (reader is openmetrics) == (accept == OPENMETRICS)
    wanted = {"model": "half_plus_two", "version": "7", "code": "ok"}
    return sum(
        sample.value
        for family in reader.text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "smls_requests_total" and sample.labels.items() >= wanted.items()
    )


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_each_dialect_is_counted_once(tensorflow_models: Running, accept: str) -> None:
    node = tensorflow_models
    before = answered(node, accept)
    path = f"{node.url}v1/models/half_plus_two/versions/7:predict"
    assert requests.post(path, json={"instances": [1.0]}, timeout=30).status_code == 200
    for module, address in ((triton_http, node.address), (triton_grpc, node.grpc_address)):
        given = module.InferInput("x", [1, 1], "FP32")
        given.set_data_from_numpy(np.ones((1, 1), np.float32))
        with module.InferenceServerClient(address) as client:
            client.infer("half_plus_two", [given], model_version="7")
    assert answered(node, accept) == before + 3
