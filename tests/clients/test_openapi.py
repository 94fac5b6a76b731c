# SPDX-License-Identifier: MIT
"""schemathesis asks a node by the node's own description: no fault, no hang."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.processes import Running

SECONDS = 240
"""It ends by itself long before that, or something hangs."""


def test_nothing_that_the_description_allows_makes_a_node_fault(
    node: Running, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            *("run", f"{node.url}v2/docs/openapi.json"),
            *("--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "30", "--request-timeout", "10", "--seed", "1"),
            "--generation-database=none",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=tmp_path,
        check=False,
    )
    assert "Test cases:" in done.stdout, done.stdout + done.stderr
    told = set(re.findall(r"^ *\[(5\d\d)\]", done.stdout, re.MULTILINE))
    # 501, 503 and 504 are what a node says of what it does not serve, or not in time.
    assert told <= {"501", "503", "504"}, done.stdout[:9000] + node.log[-6000:]
    assert "Network Error" not in done.stdout, done.stdout[:9000]
