# SPDX-License-Identifier: MIT
"""A user's own modules, imported from a folder of theirs under names that are nobody else's.

- Each ``Modules`` is a package of its own, ``smls_models.N``: two folders may each have a
  ``my_model.py``, and so may two versions of one.
- What lies in the folder is found by its plain name too, as if the folder came first in
  ``sys.path``, but by the folder's own modules alone: they have an ``__import__`` of their own.
- ``mlserver`` means ``smls_node.pymodel`` to them, installed or not.
- Nothing is read from or written to ``__pycache__``: a file that is replaced within a second by
  one of the same size would be taken for the one before it.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = "smls_models"
"""The package of all users' modules; also their logger's name."""

MLSERVER = "mlserver"
SURFACE = "smls_node.pymodel"
"""What stands in for MLServer, all of its modules in one."""

_numbers = count(1)


class Modules:
    """The modules of ``folders``, the first of them first. ``forget`` ends them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.name = f"{ROOT}.m{next(_numbers)}"
        self._folders = [str(folder) for folder in folders]

    def imported(self, name: str) -> ModuleType:
        """The module ``name``, such as ``my_model`` or ``parts.my_model``.

        :raises ModuleNotFoundError: where the folders have none of that name.
        :raises Exception: whatever the module raises.
        """
        self._begin()
        return importlib.import_module(f"{self.name}.{name}")

    def has(self, name: str) -> bool:
        """Whether the folders have a module or package ``name``."""
        spec = PathFinder.find_spec(f"{self.name}.{name}", self._folders)
        if spec is None:
            return False
        # A folder without __init__.py, which may hold anything, is second to what is installed.
        return spec.origin is not None or PathFinder.find_spec(name) is None

    def forget(self) -> None:
        """Takes them out of ``sys.modules``."""
        for name in [each for each in sys.modules if f"{each}.".startswith(f"{self.name}.")]:
            del sys.modules[name]
        _owners.pop(self.name, None)

    def import_(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What ``import`` means to these modules."""
        top = name.partition(".")[0]
        if level == 0 and top == MLSERVER:
            return importlib.import_module(SURFACE)
        if level == 0 and self.has(top):
            private = f"{self.name}.{name}"
            found = builtins.__import__(private, globals, locals, fromlist or ("",), 0)
            return found if fromlist else sys.modules[f"{self.name}.{top}"]
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _begin(self) -> None:
        importlib.invalidate_caches()
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
        if ROOT not in sys.modules:
            sys.modules[ROOT] = _package(ROOT, [])
        if self.name not in sys.modules:
            _owners[self.name] = self
            sys.modules[self.name] = _package(self.name, self._folders)


_owners: dict[str, Modules] = {}


class _Finder:
    """Finds users' modules, and no other."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(f"{ROOT}."):
            return None
        spec = PathFinder.find_spec(name, path)
        owner = _owners.get(".".join(name.split(".")[:2]))
        if spec is not None and owner is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, owner)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module's source with an ``__import__`` of its owner's."""

    def __init__(self, name: str, path: str, owner: Modules) -> None:
        super().__init__(name, path)
        self._owner = owner

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        own: dict[str, Any] = {**vars(builtins), "__import__": self._owner.import_}
        vars(module)["__builtins__"] = own
        super().exec_module(module)


def _package(name: str, path: Sequence[str]) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = list(path)
    return package
