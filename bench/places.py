# SPDX-License-Identifier: MIT
"""Where the benchmark keeps what it makes. All of it is git-ignored and may be deleted."""

from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PEERS = BENCH / "peers"
RESULTS = BENCH / "results"
PLOT = ROOT / "docs" / "performance.png"

CACHE = BENCH / ".cache"
ENVIRONMENTS = CACHE / "environments"
MODELS = CACHE / "models"
PHOTOS = CACHE / "photos"
DIGITS = CACHE / "digits"
BODIES = CACHE / "bodies"
FINDINGS = CACHE / "findings"
LOGS = CACHE / "logs"
SWAPS = CACHE / "swaps"
CHOICES = CACHE / "choices.json"
PHOTOS_REQUIREMENTS = BENCH / "photos-requirements.txt"
