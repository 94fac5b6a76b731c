# SPDX-License-Identifier: MIT
"""Which nodes a client, or a key, keeps to: rendezvous hashing, weighted by capacity.

Each pair of a seed and a node has a score that depends on nothing else; the best scores win. So
a node that comes or goes moves only what is its own, and no two clients have to agree.

Sources: D. Thaler and C. Ravishankar, A Name-Based Mapping Scheme for Rendezvous (1996); for the
weights, C. Schindelhauer and G. Schomaker, Weighted Distributed Hash Tables (2005): with a hash
u in (0, 1), the smallest -ln(u) / weight wins with a probability in proportion to the weight;
the k smallest are a weighted sample without replacement (P. Efraimidis and P. Spirakis, 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import nsmallest
from math import log

from smls.balancer import Want, capacities
from smls.wire import NodeRecord, NodeState

ALL_UP_TO = 64
"""Up to so many nodes a client uses all of them."""

SUBSET = 32
"""Of more nodes, a client uses so many: enough that nodes share the clients evenly, and few
enough that each client's reports of them stay fresh."""

_BITS = (1 << 64) - 1


def live(nodes: Sequence[NodeRecord]) -> Sequence[NodeRecord]:
    """Those that are no suspects, unless all are; the very ``nodes`` where these are all."""
    found = [node for node in nodes if node.state is NodeState.LIVE]
    return found if 0 < len(found) < len(nodes) else nodes


def near(nodes: Sequence[NodeRecord], want: Want, seed: int) -> Sequence[NodeRecord]:
    """Those that the client with ``seed`` uses as long as they are well; the very ``nodes``
    where these are all of them."""
    if len(nodes) <= ALL_UP_TO:
        return nodes
    scores = _scores(nodes, want, seed)
    return [nodes[index] for index in nsmallest(SUBSET, range(len(nodes)), scores.__getitem__)]


def preferred(nodes: Sequence[NodeRecord], want: Want, key: str) -> NodeRecord:
    """The one of ``nodes`` that ``key`` belongs to: all callers find the same."""
    scores = _scores(nodes, want, digest(key))
    return nodes[min(range(len(nodes)), key=scores.__getitem__)]


def _scores(nodes: Sequence[NodeRecord], want: Want, seed: int) -> list[float]:
    weights = capacities(nodes, want)
    return [
        -log((_mixed(digest(node.address) ^ seed) + 1) / (_BITS + 2)) / weight
        for node, weight in zip(nodes, weights, strict=True)
    ]


@lru_cache(maxsize=65536)
def digest(text: str) -> int:
    """64 bits that depend on nothing but ``text``."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(bits: int) -> int:
    """``bits`` with each of them in all: the finaliser of MurmurHash3."""
    bits = (bits ^ bits >> 33) * 0xFF51AFD7ED558CCD & _BITS
    bits = (bits ^ bits >> 33) * 0xC4CEB9FE1A85EC53 & _BITS
    return bits ^ bits >> 33
