# SPDX-License-Identifier: MIT
"""One module a dialect: each turns HTTP into a call of ``serving`` and its result into HTTP."""
