# SPDX-License-Identifier: MIT
"""``/metrics`` of a real node."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.fleet import THREE, Fleet, ask, classify


def test_prometheus_reads_a_real_nodes_metrics(pair: Fleet) -> None:
    node = pair.nodes[0]
    classify(node.url, THREE.read_bytes())
    reply = ask(f"{node.url}metrics")
    values = {
        (sample.name, sample.labels.get("code", "")): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }
    assert values["smls_requests_total", "ok"] >= 1
    assert values["smls_inference_seconds_sum", ""] > 0
    assert values["smls_model_load_seconds", ""] > 0
    assert values["process_resident_memory_bytes", ""] > 1e6
