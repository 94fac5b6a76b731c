# SPDX-License-Identifier: MIT
"""An image upload as bytes: ``multipart/form-data`` (RFC 7578), written, not read."""

from __future__ import annotations

import secrets
from collections.abc import Iterable


def encode_images(images: Iterable[bytes], *, field: str = "data") -> tuple[str, bytes]:
    """The Content-Type and the body of a form that holds ``images`` in order.

    The boundary is 128 random bits, so that no image holds it.
    """
    boundary = f"smls-{secrets.token_hex(16)}"
    pieces = []
    for image in images:
        pieces += [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
            'filename="image"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode(),
            image,
            b"\r\n",
        ]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)
