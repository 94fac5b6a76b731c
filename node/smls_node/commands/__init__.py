# SPDX-License-Identifier: MIT
"""What ``smls-node`` can do besides serving, one module a verb."""
