# SPDX-License-Identifier: MIT
"""The formats that models come in, and the module that runs each. Imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from attrs import frozen

from smls.errors import ModelUnusable
from smls_node.runtimes import Runtime
from smls_node.settings import ModelSettings


@frozen
class Format:
    """A format by the name that settings call it.

    ``module``, in ``smls_node.runtimes``, has ``load(settings, *, operator_threads, runs)``,
    which gives a ``Runtime`` after its first run; it imports ``library``, which the
    distribution's extra ``extra`` brings.
    """

    name: str
    module: str
    library: str
    extra: str

    def imported(self) -> Any:
        """The module.

        :raises ModelUnusable: where its library is not installed, naming the extra.
        """
        module = import_module(f"smls_node.runtimes.{self.module}")
        try:
            import_module(self.library)
        except ImportError as error:
            raise ModelUnusable(
                f"format {self.name} needs {self.library}, which cannot be imported ({error}); "
                f"install simple-ml-serving[{self.extra}]"
            ) from error
        return module


GRAPH = Format("graph", "tensorflow", "tensorflow", "node")
"""A frozen GraphDef, as label_image takes it."""

PYTHON = Format("python", "python", "numpy", "node")
"""A class of the user's own."""

FORMATS = {each.name: each for each in (GRAPH, PYTHON)}


def load(settings: ModelSettings, *, operator_threads: int, runs: int) -> Runtime:
    """The model in the library of its format.

    :raises ModelUnusable: where there is no such format or no such library, or the model is
        broken.
    """
    module = format_of(settings).imported()
    runtime: Runtime = module.load(settings, operator_threads=operator_threads, runs=runs)
    return runtime


def format_of(settings: ModelSettings) -> Format:
    """The format that the settings name, a frozen graph where they name none.

    :raises ModelUnusable: where there is none of that name, or it needs a class and none is named.
    """
    name = PYTHON.name if settings.implementation else settings.format or GRAPH.name
    if name == PYTHON.name and not settings.implementation:
        raise ModelUnusable(
            f"{settings.path}: implementation: got none, wanted module.Class, which python needs"
        )
    if name not in FORMATS:
        raise ModelUnusable(
            f"{settings.path}: format: got {name!r}, wanted one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]
