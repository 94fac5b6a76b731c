# SPDX-License-Identifier: MIT
"""Which models the nodes have: as a registry lists them, or as the nodes themselves say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from attrs import evolve
from twisted.internet.defer import DeferredList

from smls.errors import NodeFault, SmlsError
from smls.results import ServedModel, read_error
from smls.transport import Transport
from smls.wire import AVAILABLE, ModelRecord, NodeRecord

_STATES = {"READY": AVAILABLE, "UNAVAILABLE": "END"}
"""The repository index's words; others are TensorFlow Serving's too."""


async def ask(
    transport: Transport, nodes: Iterable[NodeRecord], timeout_seconds: float
) -> tuple[NodeRecord, ...]:
    """The nodes with what each says that it has; those that do not answer are left out.

    :raises SmlsError: the first one's error where none answers.
    """
    asked = tuple(nodes)
    told: list[tuple[bool, Any]] = await DeferredList(
        [
            transport.request(
                "POST",
                node.url("/v2/repository/index"),
                body=b"{}",
                timeout_seconds=timeout_seconds / 2,
            )
            for node in asked
        ],
        consumeErrors=True,
    )
    found, errors = [], []
    for node, (is_answer, reply) in zip(asked, told, strict=True):
        try:
            if not is_answer:
                reply.raiseException()
            if reply.status != 200:
                raise read_error(reply.status, reply.body, reply.header("Retry-After"))
            found.append(evolve(node, models=read_index(reply.body)))
        except SmlsError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return tuple(found)


def read_index(body: bytes) -> tuple[ModelRecord, ...]:
    """The models in a node's answer.

    :raises NodeFault: where the answer is no index.
    """
    try:
        return tuple(_record(item) for item in json.loads(body))
    except (ValueError, TypeError, KeyError) as error:
        raise NodeFault(f"its answer is no index of models: {body[:80]!r}") from error


def models(nodes: Iterable[NodeRecord]) -> tuple[ServedModel, ...]:
    """The versions of models that the nodes have, by name and version; one that answers on any
    node is told as it is there."""
    found: dict[tuple[str, str], ServedModel] = {}
    for node in nodes:
        for each in node.models:
            known = found.get((each.name, each.version))
            here = ServedModel(each.name, each.version, each.state, each.labels, (node.address,))
            if known is None or (known.state != AVAILABLE and each.state == AVAILABLE):
                found[each.name, each.version] = here
            elif known.state == each.state:
                labels = tuple(dict.fromkeys((*known.labels, *each.labels)))
                everywhere = (*known.nodes, node.address)
                found[each.name, each.version] = evolve(known, labels=labels, nodes=everywhere)
    return tuple(sorted(found.values(), key=lambda one: (one.name, version_order(one.version))))


def version_order(version: str) -> tuple[int, int, str]:
    """What versions are sorted by: numbers by their size, after whatever is none."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)


def _record(item: Any) -> ModelRecord:
    name, state = item["name"], item["state"]
    version = item.get("version", "")
    if not (isinstance(name, str) and isinstance(version, str) and isinstance(state, str)):
        raise TypeError(item)
    return ModelRecord(name, version, _STATES.get(state, state))
