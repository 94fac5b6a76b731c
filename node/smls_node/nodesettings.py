# SPDX-License-Identifier: MIT
"""What a node is told on its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from smls.folders import cache_folder
from smls_node import loading
from smls_node.repository import Source
from smls_node.settings import ModelSettings
from smls_node.works import Decoding


@frozen
class NodeSettings:
    """What a node was told on its command line; times in seconds, uploads in bytes.

    ``grpc_port`` is ``None`` where gRPC is not spoken.
    """

    host: str
    port: int
    grpc_port: int | None
    shares_grpc_port: bool
    node_name: str | None
    models: tuple[ModelSettings, ...]
    sources: tuple[Source, ...]
    defaults: ModelSettings
    default_model: str | None
    findings: Path
    accelerate: str
    registries: tuple[str, ...]
    mdns: bool
    advertise: str
    zone: str
    request_timeout: float
    max_upload: int
    decoding: Decoding
    drain_timeout: float
    origins: tuple[str, ...] = ()


def settings_of(options: Any) -> NodeSettings:
    """What ``smls_node.tap.Options`` tell a node."""
    return NodeSettings(
        host=options["host"],
        port=options["port"],
        grpc_port=options["grpc-port"],
        shares_grpc_port=options["replicas"] > 1,
        node_name=options["node-name"],
        models=loading.named_or_embedded(options),
        sources=tuple(options["sources"]),
        defaults=options["default"],
        default_model=options["default-model"],
        findings=options["findings"] or cache_folder() / "findings",
        accelerate=options["accelerate"],
        registries=tuple(options["registries"]),
        mdns=not options["no-mdns"],
        advertise=options["advertise"] or "",
        zone=options["zone"] or "",
        request_timeout=options["request-timeout"],
        max_upload=options["max-upload"],
        decoding=Decoding(options["max-pixels"], exact=options["decode"] == "exact"),
        drain_timeout=options["drain-timeout"],
        origins=tuple(options["origins"]),
    )
