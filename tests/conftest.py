# SPDX-License-Identifier: MIT
"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts what runs in its background with SIGINT ignored, and ignoring is inherited: the
# programs that are interrupted in tests would not notice.
signal.signal(signal.SIGINT, signal.default_int_handler)
