# SPDX-License-Identifier: MIT
"""``GET /metrics``, for Prometheus; also where TensorFlow Serving has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from smls.site import LimitedRequest
from smls.web import Answer
from smls_node.catalogue import Model
from smls_node.counts import Counts, Histogram, Traffic
from smls_node.serving import Phase, Serving
from smls_node.versions import State

PATHS = ("/metrics", "/monitoring/prometheus/metrics")

MODEL = ("model", "version")

_TIMES: tuple[tuple[str, str, Callable[[Counts], Histogram]], ...] = (
    (
        "smls_request_seconds",
        "Seconds of a request from the queue to its answer, the upload apart",
        lambda counts: counts.total,
    ),
    ("smls_queue_seconds", "Seconds of a request in the queue", lambda counts: counts.queue),
    (
        "smls_decode_seconds",
        "Seconds in which a batch's inputs were decoded",
        lambda counts: counts.decode,
    ),
    (
        "smls_inference_seconds",
        "Seconds of a batch in the model, with its wait for a run of the model",
        lambda counts: counts.infer,
    ),
    ("smls_batch_rows", "Rows of a batch", lambda counts: counts.rows),
)


def add_routes(
    app: Any, serving: Serving, traffic: Traffic, calls: Traffic | None, version: str
) -> None:
    """Adds the calls to the Klein application; ``traffic`` is that over HTTP, ``calls`` over gRPC
    where that is spoken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ModelMetrics(serving))
    registry.register(NodeMetrics(serving, version))
    registry.register(PortMetrics(traffic, calls))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    def metrics(request: LimitedRequest) -> bytes:
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        return Answer(200, encode(registry), content_type).write_to(request)

    for path in PATHS:
        app.route(path, methods=["GET"])(metrics)


class ModelMetrics(Collector):
    """The metrics of each model and version that is served, read when they are asked for."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        models = self._serving.catalogue.models
        counted = [(model, model.workers.counted()) for model in models]
        requests = CounterMetricFamily(
            "smls_requests",
            "Requests by their outcome: ok, cancelled, or an error's code; each image is one",
            labels=(*MODEL, "code"),
        )
        for model, counts in counted:
            for code, count in counts.outcomes.items():
                requests.add_metric((*_named(model), code), count)
        yield requests
        for name, about, chosen in _TIMES:
            family = HistogramMetricFamily(name, about, labels=MODEL)
            for model, counts in counted:
                seen = chosen(counts)
                family.add_metric(_named(model), seen.buckets(), seen.sum)
            yield family
        yield from self._gauges(models)

    def _gauges(self, models: Iterable[Model]) -> Iterator[Metric]:
        families = [
            GaugeMetricFamily(name, about, labels=MODEL)
            for name, about in (
                ("smls_queued_rows", "Rows that wait in the queue"),
                ("smls_in_flight_rows", "Rows that wait or run"),
                ("smls_workers", "Batches that the model has at once, prepared or run"),
                ("smls_model_load_seconds", "Seconds that it took to load the model"),
            )
        ]
        for model in models:
            load = model.workers.load()
            values = (load.queue, load.in_flight, load.runs, model.load_seconds)
            for family, value in zip(families, values, strict=True):
                family.add_metric(_named(model), value)
        yield from families
        yield self._states(models)

    def _states(self, models: Iterable[Model]) -> Metric:
        family = GaugeMetricFamily(
            "smls_model_state",
            "1 for the state that a version is in, as TensorFlow Serving names them",
            labels=(*MODEL, "state"),
        )
        absent = {(each.name, each.version): each.state for each in self._serving.catalogue.absent}
        here = {_named(model): model.state for model in models}
        for key, state in {**absent, **here}.items():
            for each in State:
                family.add_metric((*key, each.value), float(each is state))
        return family


class NodeMetrics(Collector):
    """The node's phase, and the program's version."""

    def __init__(self, serving: Serving, version: str) -> None:
        self._serving = serving
        self._version = version

    def collect(self) -> Iterator[Metric]:
        ready = float(self._serving.phase is Phase.READY)
        yield GaugeMetricFamily("smls_ready", "1 while the node takes requests", ready)
        about = GaugeMetricFamily("smls_node_info", "The node", labels=("node", "version"))
        about.add_metric((self._serving.node, self._version), 1)
        yield about


class PortMetrics(Collector):
    """What each port is asked and answers, whatever it is."""

    def __init__(self, traffic: Traffic, calls: Traffic | None) -> None:
        self._traffic = traffic
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        yield from _port(
            "smls_http",
            self._traffic,
            CounterMetricFamily(
                "smls_http_responses", "Answers over HTTP by their status", labels=("status",)
            ),
            "Seconds from a request's headers to its answer, the upload included",
            "Requests over HTTP not yet answered, this one too",
        )
        if self._calls is not None:
            yield from _port(
                "smls_grpc",
                self._calls,
                CounterMetricFamily(
                    "smls_grpc_responses", "Answers over gRPC by their status", labels=("code",)
                ),
                "Seconds from a call's message to its answer",
                "Calls over gRPC not yet answered",
            )


def _port(
    name: str, traffic: Traffic, responses: CounterMetricFamily, seconds: str, in_flight: str
) -> Iterator[Metric]:
    # Copied at once: gRPC's thread may add a status meanwhile.
    for status, count in dict(traffic.statuses).items():
        responses.add_metric((str(status),), count)
    yield responses
    family = HistogramMetricFamily(f"{name}_request_seconds", seconds)
    family.add_metric((), traffic.seconds.buckets(), traffic.seconds.sum)
    yield family
    yield GaugeMetricFamily(f"{name}_in_flight", in_flight, traffic.in_flight())


def _named(model: Model) -> tuple[str, str]:
    return model.name, model.version
