# SPDX-License-Identifier: MIT
"""Errors as gRPC's status codes, and what rides on answers as trailing metadata."""

from __future__ import annotations

from attrs import asdict
from grpc import StatusCode

from smls.errors import SmlsError
from smls.wire import LOAD_HEADER, LoadReport
from smls_node.faces.grpc.messages import message

Metadata = tuple[tuple[str, str | bytes], ...]

STATUS = {
    "bad_request": StatusCode.INVALID_ARGUMENT,
    "bad_record": StatusCode.INVALID_ARGUMENT,
    "bad_image": StatusCode.INVALID_ARGUMENT,
    "not_an_image": StatusCode.INVALID_ARGUMENT,
    "broken_image": StatusCode.INVALID_ARGUMENT,
    "too_large": StatusCode.INVALID_ARGUMENT,
    "model_not_found": StatusCode.NOT_FOUND,
    "overloaded": StatusCode.UNAVAILABLE,
    "unavailable": StatusCode.UNAVAILABLE,
    "deadline_exceeded": StatusCode.DEADLINE_EXCEEDED,
    "model_unusable": StatusCode.FAILED_PRECONDITION,
    "unsupported": StatusCode.UNIMPLEMENTED,
}
"""The status of an error's code; INTERNAL for any other. Overload is UNAVAILABLE, with which
gRPC's clients go elsewhere by themselves."""

LOAD_KEY = f"{LOAD_HEADER}-bin"

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""By which gRPC's own retries are told when to come back."""

TIMING_KEY = "server-timing"

_Report = message("xds.data.orca.v3.OrcaLoadReport")


def status_of(error: SmlsError) -> StatusCode:
    return STATUS.get(error.code, StatusCode.INTERNAL)


def pushback(error: SmlsError) -> Metadata:
    """When to come back, where ``error`` says so."""
    if error.retry_after_seconds is None:
        return ()
    return ((PUSHBACK_KEY, str(round(error.retry_after_seconds * 1000))),)


def load_metadata(report: LoadReport) -> Metadata:
    """``report`` as ORCA's message, its figures under ``named_metrics``, for gRPC's own balancing;
    and as the text that our HTTP has, since gRPC hands the message to no program."""
    message = _Report(named_metrics=asdict(report))
    return (LOAD_KEY, message.SerializeToString()), (LOAD_HEADER, report.to_header())
