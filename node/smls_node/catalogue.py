# SPDX-License-Identifier: MIT
"""The models that a node serves, by name and version. Pure: it loads and runs nothing."""

from __future__ import annotations

from attrs import frozen

from smls.errors import BadRequest, ModelNotFound
from smls.wire import AVAILABLE, ModelRecord
from smls_node import labels
from smls_node.arrangement import Arrangement
from smls_node.runtimes import Runtime
from smls_node.worker import Workers


@frozen
class Model:
    """A loaded model, the labels of its answers, how it is run, and the workers that run it."""

    name: str
    version: str
    labels: tuple[str, ...]
    runtime: Runtime
    arrangement: Arrangement
    workers: Workers

    def record(self) -> ModelRecord:
        """The model as a registry lists it."""
        return ModelRecord(
            self.name,
            self.version,
            AVAILABLE,
            labels.hash_of(self.labels),
            capacity=float(f"{self.arrangement.images_per_second:.4g}"),
        )


class Catalogue:
    """Models by name and version; one of them may be the default."""

    def __init__(self, default: str | None = None) -> None:
        self._default = default
        self._models: dict[tuple[str, str], Model] = {}

    def add(self, model: Model) -> None:
        self._models[model.name, model.version] = model

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(self._models.values())

    def find(self, name: str | None = None, version: str | None = None) -> Model:
        """The model ``name``, or the default or only one; of its versions the one that is
        named, or the latest.

        :raises BadRequest: where no model is named and there are several.
        :raises ModelNotFound: where there is no such model or version.
        """
        wanted = name or self._default or self._only_name()
        versions = {known.version: known for known in self.models if known.name == wanted}
        if not versions:
            raise ModelNotFound(f"model: got {wanted!r}, wanted one of {self._names()}")
        if version is None:
            return max(versions.values(), key=lambda model: _order(model.version))
        if version not in versions:
            raise ModelNotFound(
                f"model {wanted}: version: got {version!r}, wanted one of {', '.join(versions)}"
            )
        return versions[version]

    def check_default(self) -> None:
        """Checks that the default model, where one is named, is there.

        :raises ModelNotFound: where it is not.
        """
        if self._default is not None:
            self.find(self._default)

    def _only_name(self) -> str:
        names = {model.name for model in self.models}
        if len(names) != 1:
            raise BadRequest(f"model: got none, wanted ?model= with one of {self._names()}")
        return names.pop()

    def _names(self) -> str:
        return ", ".join(dict.fromkeys(model.name for model in self.models)) or "none"


def _order(version: str) -> tuple[int, int, str]:
    """Numbers by value, before them anything else by its text."""
    return (1, int(version), "") if version.isdigit() else (0, 0, version)
