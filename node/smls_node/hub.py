# SPDX-License-Identifier: MIT
"""Models that ``tensorflow_hub`` has fetched, by the handle that they were fetched with.

Nothing is fetched here: its library puts a SavedModel into a folder, and names that by the
handle's SHA-1 (``tensorflow_hub/resolver.py``).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from smls.errors import ModelUnusable


def place_of(path: str) -> Path:
    """Where the model lies that ``path`` names, a path or a handle such as
    ``https://tfhub.dev/google/universal-sentence-encoder/4``.

    :raises ModelUnusable: where no model was fetched with this handle.

    >>> place_of("models/flowers").as_posix()
    'models/flowers'
    """
    if not path.startswith(("https://", "http://")):
        return Path(path)
    usual = Path(tempfile.gettempdir()) / "tfhub_modules"
    folder = Path(os.environ.get("TFHUB_CACHE_DIR") or usual)
    place = folder / hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    if not place.is_dir():
        raise ModelUnusable(
            f"{path} was not fetched into {folder}; tensorflow_hub.resolve does that, and "
            "TFHUB_CACHE_DIR names another folder"
        )
    return place
