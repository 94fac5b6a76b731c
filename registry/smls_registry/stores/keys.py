# SPDX-License-Identifier: MIT
"""What stands in etcd below a prefix: its keys, the transactions that write them, what is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from attrs import Factory, define
from twisted.logger import Logger

from smls.errors import BadRecord
from smls.wire import NodeRecord, NodeState, node_from_json, node_to_json
from smls_registry.stores.gateway import decoded, encoded, number

_log = Logger()


@define
class Step:
    """What one revision did: records that were put, ids that were removed, and why they are gone.

    ``created`` holds the revision since which a record's key is there without a break.
    """

    revision: int
    nodes: dict[str, NodeRecord] = Factory(dict)
    created: dict[str, int] = Factory(dict)
    removed: list[str] = Factory(list)
    gone: dict[str, str] = Factory(dict)


@define
class Found(Step):
    """Everything as it is at a revision of a ``cluster``."""

    cluster: str = ""


class Keys:
    """The keys below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}/"
        self._nodes = f"{prefix}/nodes/"
        self._gone = f"{prefix}/gone/"

    def history(self, cluster: str) -> str:
        """A name for what happens below the prefix in ``cluster``, the same at each registry."""
        return f"etcd-{sha256(f'{cluster} {self._prefix}'.encode()).hexdigest()[:16]}"

    def lease(self, node_id: str, state: NodeState) -> int:
        """The number of that node's lease, the same at each registry; a suspect has another."""
        digest = sha256(f"{self._prefix} {node_id} {state}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1 or 1

    def all(self) -> dict[str, str]:
        """The range of all keys."""
        end = self._prefix[:-1] + chr(ord("/") + 1)
        return {"key": encoded(self._prefix), "range_end": encoded(end)}

    def beat(self) -> dict[str, str]:
        """A put that changes nothing but the revision."""
        return {"key": encoded(f"{self._prefix}heartbeat")}

    def put_in(self, node: NodeRecord, replaced: NodeRecord | None) -> dict[str, Any]:
        """Puts ``node`` under its lease, and takes out what it replaces in the same step."""
        steps = [self._put(node), _delete(self._gone + node.id)]
        if replaced is not None:
            steps.append(_delete(self._nodes + replaced.id))
        return {"success": steps}

    def put_back(self, suspect: NodeRecord) -> dict[str, Any]:
        """Puts ``suspect`` where its record is gone, and not on purpose."""
        absent = [_created(self._nodes + suspect.id, 0), _created(self._gone + suspect.id, 0)]
        return {"compare": absent, "success": [self._put(suspect)]}

    def take_out(self, node: NodeRecord, created: int, why: str) -> dict[str, Any]:
        """Takes out the very record that was ``created`` at that revision, on purpose."""
        key = self._nodes + node.id
        gone = {
            "key": encoded(self._gone + node.id),
            "value": encoded(why),
            "lease": str(self.lease(node.id, node.state)),
        }
        return {
            "compare": [_created(key, created)],
            "success": [_delete(key), {"request_put": gone}],
        }

    def read(self, answer: Mapping[str, Any]) -> Found:
        """What the answer to the range of all keys says."""
        header = answer["header"]
        found = Found(number(header, "revision"), cluster=str(header.get("cluster_id", "0")))
        # A node that took over an address may have raced with another: the latest holds it.
        for entry in sorted(answer.get("kvs", ()), key=lambda each: number(each, "mod_revision")):
            self._read(entry, found)
        latest = {node.address: node.id for node in found.nodes.values()}
        kept = set(latest.values())
        found.nodes = {node_id: node for node_id, node in found.nodes.items() if node_id in kept}
        return found

    def steps(self, events: Iterable[Mapping[str, Any]]) -> list[Step]:
        """What a watch tells, revision by revision."""
        steps: dict[int, Step] = {}
        for event in events:
            entry = event["kv"]
            revision = number(entry, "mod_revision")
            step = steps.setdefault(revision, Step(revision))
            key = decoded(entry["key"])
            if event.get("type") != "DELETE":
                self._read(entry, step)
            elif key.startswith(self._nodes):
                step.removed.append(key.removeprefix(self._nodes))
        return [steps[revision] for revision in sorted(steps)]

    def _read(self, entry: Mapping[str, Any], into: Step) -> None:
        key, value = decoded(entry["key"]), decoded(entry.get("value", ""))
        if key.startswith(self._gone):
            into.gone[key.removeprefix(self._gone)] = value
        elif key.startswith(self._nodes):
            node_id = key.removeprefix(self._nodes)
            try:
                node = node_from_json(json.loads(value))
                if node.id != node_id:
                    raise BadRecord(f"id: got {node.id!r}, wanted {node_id!r} as in the key")
            except (ValueError, RecursionError, BadRecord) as error:
                _log.warn("etcd holds at {key} what is no record: {error}", key=key, error=error)
                return
            into.nodes[node_id] = node
            into.created[node_id] = number(entry, "create_revision")

    def _put(self, node: NodeRecord) -> dict[str, Any]:
        return {
            "request_put": {
                "key": encoded(self._nodes + node.id),
                "value": encoded(json.dumps(node_to_json(node))),
                "lease": str(self.lease(node.id, node.state)),
            }
        }


def _delete(key: str) -> dict[str, Any]:
    return {"request_delete_range": {"key": encoded(key)}}


def _created(key: str, revision: int) -> dict[str, str]:
    return {"key": encoded(key), "target": "CREATE", "create_revision": str(revision)}
