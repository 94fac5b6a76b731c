# SPDX-License-Identifier: MIT
"""``twist smls-node`` and ``twist smls-registry``."""

from twisted.application.service import ServiceMaker

smls_node = ServiceMaker("smls-node", "smls_node.tap", "A node: serves models.", "smls-node")
smls_registry = ServiceMaker(
    "smls-registry", "smls_registry.tap", "A registry: knows which nodes live.", "smls-registry"
)
