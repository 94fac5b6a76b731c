# SPDX-License-Identifier: MIT
"""Where programs keep what they find out."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's folder for what can be found out again, as the XDG base directories have it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "smls"
