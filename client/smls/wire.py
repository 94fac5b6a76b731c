# SPDX-License-Identifier: MIT
"""What travels between node, registry and client about nodes, as values and as JSON.

A record that comes from elsewhere is checked here and nowhere else: unknown fields are ignored,
so that newer programs can speak to older ones; a missing, mistyped or over-long value is a
``BadRecord`` that names the field, what was got and what was wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import asdict, frozen

from smls import fields
from smls.errors import BadRecord
from smls.fields import NAME as NAME
from smls.fields import shown

REGISTRY_PORT = 12480
"""Where a registry listens if nothing else is said."""

SETTLING_SECONDS = 2.0
"""A registry that keeps its nodes in memory hears from all that live within so long of its start:
a node tries one that is away each 1.5 s at most."""

MAX_MODELS = 1000
"""Models that one node may list: 64 kB of JSON hold no more."""

# A host is put into redirects, pages and shells, so it is nothing but a host.
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]{1,253}):(?P<port>[0-9]{1,5})")


AVAILABLE = "AVAILABLE"
"""The state of a model's version that answers."""


class NodeState(StrEnum):
    """What a registry thinks of a node: suspects are asked last."""

    LIVE = "live"
    SUSPECT = "suspect"


@frozen
class ModelRecord:
    """One version of a model on a node.

    ``labels_hash`` is a hash of the labels: nodes that agree on it give comparable answers.
    ``labels`` are the names that the version goes by, such as ``canary``. ``capacity`` is how
    many requests a second the node can answer, 0 where it is not known.
    """

    name: str
    version: str = "1"
    state: str = AVAILABLE
    labels_hash: str = ""
    labels: tuple[str, ...] = ()
    capacity: float = 0.0

    def answers(self, version: str | None, label: str | None) -> bool:
        """Whether this version can be asked, and is the one that is wanted, ``None`` for any."""
        return (
            self.state == AVAILABLE
            and version in (None, self.version)
            and (label is None or label in self.labels)
        )


@frozen
class NodeRecord:
    """A node as it announces itself.

    ``id`` is random at each start, so a restarted node is a new one at an old ``address``
    (``host:port``). ``protocols`` names the dialects that the node speaks on that port, and with
    ``grpc`` on ``grpc_port`` of the same host, 0 where it does not. ``state`` is the registry's to
    say.
    """

    id: str
    address: str
    name: str = ""
    scheme: str = "http"
    zone: str = ""
    protocols: tuple[str, ...] = ()
    grpc_port: int = 0
    models: tuple[ModelRecord, ...] = ()
    state: NodeState = NodeState.LIVE

    def serves(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> bool:
        """Whether the node answers for ``model``; every node serves ``None``, any model."""
        if model is None and version is None and label is None:
            return True
        return any(
            known.answers(version, label) for known in self.models if model in (None, known.name)
        )

    def url(self, path: str = "/") -> str:
        return f"{self.scheme}://{self.address}{path}"


@frozen
class Listing:
    """The live nodes at one revision of a registry.

    One that is ``settling`` is of a registry which has just started, and which may not have heard
    again from nodes that it knew before.
    """

    revision: int
    nodes: tuple[NodeRecord, ...]
    settling: bool = False


@frozen
class Delta:
    """What changed between two revisions of a registry, as its watch tells it.

    ``put`` nodes came or changed, those whose ids are ``gone`` left; where a watch is for one
    model, also those that no longer serve it.
    """

    revision: int
    put: tuple[NodeRecord, ...] = ()
    gone: tuple[str, ...] = ()


@frozen
class LoadReport:
    """How busy a node's model is, as it rides on each answer; times in milliseconds.

    A batch of n takes ``a_ms + b_ms * n``, decoding included; ``busy_ms`` is the time until the
    first of the batches that run ends. ``batch_max`` is the largest batch that is run, ``runs``
    how many run at once.
    """

    in_flight: int
    queue: int
    busy_ms: float
    a_ms: float
    b_ms: float
    batch_max: int
    runs: int

    def to_header(self) -> str:
        """The value of the header ``LOAD_HEADER``, 200 bytes at most (ORCA's JSON format)."""
        return (
            f'JSON {{"named_metrics":{{"in_flight":{self.in_flight},"queue":{self.queue},'
            f'"busy_ms":{self.busy_ms:.4g},"a_ms":{self.a_ms:.4g},"b_ms":{self.b_ms:.4g},'
            f'"batch_max":{self.batch_max},"runs":{self.runs}}}}}'
        )


LOAD_HEADER = "endpoint-load-metrics"
"""ORCA's header for a load report that rides on a response."""

TIMEOUT_HEADER = "x-request-timeout-ms"
"""The header in which a request says in how many milliseconds it wants its answer."""


def load_from_header(value: str) -> LoadReport:
    """The report in a ``LOAD_HEADER``'s value.

    :raises BadRecord: where it is in another format, or a number is missing or mistyped.
    """
    kind, _, text = value.partition(" ")
    try:
        if kind != "JSON":
            raise ValueError(kind)
        metrics: dict[str, float] = json.loads(text)["named_metrics"]
        return LoadReport(
            in_flight=int(metrics["in_flight"]),
            queue=int(metrics["queue"]),
            busy_ms=float(metrics["busy_ms"]),
            a_ms=float(metrics["a_ms"]),
            b_ms=float(metrics["b_ms"]),
            batch_max=int(metrics["batch_max"]),
            runs=int(metrics["runs"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise BadRecord(f"{LOAD_HEADER}: got {shown(value)}, wanted JSON named_metrics") from error


def split_address(address: str) -> tuple[str, int]:
    """The host and the port of ``host:port``; an IPv6 host loses its brackets.

    >>> split_address("[::1]:8501")
    ('::1', 8501)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise BadRecord(f"address: got {shown(address)}, wanted HOST:PORT with a port of 1-65535")
    return match["host"].strip("[]"), int(match["port"])


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets about an IPv6 host.

    >>> join_address("::1", 8501)
    '[::1]:8501'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def registry_url(text: str) -> str:
    """The URL of the registry that a person named as ``HOST``, ``HOST:PORT`` or a URL.

    >>> registry_url("registry")
    'http://registry:12480'

    :raises BadRecord: where it is none of these.
    """
    scheme, separator, rest = text.strip().rpartition("://")
    address = rest.rstrip("/")
    if scheme == "https":
        raise BadRecord(f"registry: got {shown(text)}, but https is not spoken yet; use http")
    if separator and scheme != "http":
        raise BadRecord(f"registry: got {shown(text)}, wanted http://HOST:PORT")
    if re.search(r":[0-9]+$", address) is None:
        address = f"{address}:{80 if separator else REGISTRY_PORT}"
    split_address(address)
    return f"http://{address}"


def node_to_json(node: NodeRecord) -> dict[str, Any]:
    """The record as what ``json.dumps`` takes."""
    return asdict(node)


def node_from_json(value: object) -> NodeRecord:
    """The record that ``value``, parsed JSON, holds.

    :raises BadRecord: where a field is missing, mistyped or over-long.
    """
    given = fields.mapping("node", value)
    node = NodeRecord(
        id=fields.name("id", given.get("id")),
        address=fields.text("address", given.get("address"), 300),
        name=fields.text("name", given.get("name", ""), 128),
        scheme=fields.text("scheme", given.get("scheme", "http"), 5),
        zone=fields.text("zone", given.get("zone", ""), 128),
        protocols=fields.items("protocols", given.get("protocols", []), 32, fields.short),
        grpc_port=fields.port("grpc_port", given.get("grpc_port", 0)),
        models=fields.items("models", given.get("models", []), MAX_MODELS, _model),
        state=_state(given.get("state", NodeState.LIVE)),
    )
    split_address(node.address)
    if node.scheme not in ("http", "https"):
        raise BadRecord(f"scheme: got {shown(node.scheme)}, wanted 'http' or 'https'")
    return node


def listing_to_json(listing: Listing) -> dict[str, Any]:
    """The listing as what ``json.dumps`` takes."""
    return {
        "revision": listing.revision,
        "nodes": [node_to_json(node) for node in listing.nodes],
        **({"settling": True} if listing.settling else {}),
    }


def listing_from_json(value: object) -> Listing:
    """The listing that ``value``, parsed JSON, holds.

    :raises BadRecord: as for a single record, or where the revision is no whole number.
    """
    given = fields.mapping("listing", value)
    nodes = _nodes("nodes", given.get("nodes"))
    return Listing(_revision(given), nodes, given.get("settling") is True)


def delta_to_json(delta: Delta) -> dict[str, Any]:
    """The delta as what ``json.dumps`` takes."""
    return {
        "revision": delta.revision,
        "put": [node_to_json(node) for node in delta.put],
        "gone": list(delta.gone),
    }


def delta_from_json(value: object) -> Delta:
    """The delta that ``value``, parsed JSON, holds.

    :raises BadRecord: as for a listing.
    """
    given = fields.mapping("delta", value)
    gone = given.get("gone", [])
    if not isinstance(gone, list):
        raise BadRecord(f"gone: got {shown(gone)}, wanted a list of ids")
    return Delta(
        _revision(given),
        _nodes("put", given.get("put", [])),
        tuple(fields.name(f"gone[{index}]", node_id) for index, node_id in enumerate(gone)),
    )


def check_name(field: str, value: object) -> str:
    """``value`` where it is a lawful name (``NAME``).

    :raises BadRecord: naming ``field``, where it is not.
    """
    return fields.name(field, value)


def _model(field: str, value: object) -> ModelRecord:
    given = fields.mapping(field, value)
    return ModelRecord(
        name=fields.name(f"{field}.name", given.get("name")),
        version=fields.name(f"{field}.version", given.get("version", "1")),
        state=fields.text(f"{field}.state", given.get("state", "AVAILABLE"), 32),
        labels_hash=fields.text(f"{field}.labels_hash", given.get("labels_hash", ""), 128),
        labels=fields.items(f"{field}.labels", given.get("labels", []), 32, fields.name),
        capacity=fields.amount(f"{field}.capacity", given.get("capacity", 0.0)),
    )


def _revision(given: Mapping[str, object]) -> int:
    revision = given.get("revision")
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 0:
        raise BadRecord(f"revision: got {shown(revision)}, wanted a whole number from 0")
    return revision


def _nodes(field: str, value: object) -> tuple[NodeRecord, ...]:
    if not isinstance(value, list):
        raise BadRecord(f"{field}: got {shown(value)}, wanted a list of nodes")
    return tuple(node_from_json(node) for node in value)


def _state(value: object) -> NodeState:
    try:
        return NodeState(str(value))
    except ValueError:
        raise BadRecord(
            f"state: got {shown(value)}, wanted {' or '.join(map(repr, map(str, NodeState)))}"
        ) from None
