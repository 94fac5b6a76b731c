# SPDX-License-Identifier: MIT
"""smls: ask a registry once which nodes live, then go straight to them.

The names are imported when they are first used (PEP 562), so ``import smls`` costs nothing and
installs no reactor.
"""

from __future__ import annotations
