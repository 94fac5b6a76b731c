# SPDX-License-Identifier: MIT
"""The benchmark: ``tox -e bench``, or ``python -m bench`` in the checkout. See README.md."""
