# SPDX-License-Identifier: MIT
"""The models that a node serves, by name, version and label. Pure: it loads and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from attrs import evolve, field, frozen

from smls.errors import BadRequest, ModelNotFound
from smls.wire import ModelRecord
from smls_node import labels
from smls_node.arrangement import Arrangement
from smls_node.runtimes import Runtime
from smls_node.signature import Signature
from smls_node.tables import TableTask
from smls_node.tasks import ImageTask
from smls_node.texts import TextTask
from smls_node.versions import Standing, State
from smls_node.worker import Workers

Task = ImageTask | TextTask | TableTask


@frozen
class Model:
    """A loaded model, how it is run, and the workers that run it.

    ``task`` is what it is for, where that is known, and ``labels`` are those of its scores.
    ``platform`` is what people are told that it is made with. ``load_seconds`` is how long it
    took to load; ``give_back`` says that its runtime is no longer needed.
    """

    name: str
    version: str
    runtime: Runtime
    arrangement: Arrangement
    workers: Workers
    task: Task | None = None
    labels: tuple[str, ...] = ()
    platform: str = ""
    load_seconds: float = 0.0
    give_back: Callable[[], None] = field(default=lambda: None, eq=False)

    def signature(self, name: str | None = None) -> tuple[str, Signature]:
        """The signature ``name``, or the first one, with its name.

        :raises BadRequest: where there is none of that name.
        """
        signatures = self.runtime.signatures
        chosen = next(iter(signatures)) if name is None else name
        if chosen not in signatures:
            raise BadRequest(
                f"model {self.name}: signature: got {chosen!r}, wanted {', '.join(signatures)}"
            )
        return chosen, signatures[chosen]

    @property
    def state(self) -> State:
        """Whether it answers now; one whose process has died is being loaded again."""
        return State.LOADING if self.runtime.problem else State.AVAILABLE

    def record(self) -> ModelRecord:
        """The model as a registry lists it, with what it can answer just now."""
        capacity = self.arrangement.images_per_second / self.workers.pace.slowdown
        return ModelRecord(
            self.name,
            self.version,
            self.state,
            labels.hash_of(self.labels) if self.labels else "",
            capacity=float(f"{capacity:.4g}"),
        )


class Catalogue:
    """Models by name and version; one of them may be the default.

    Versions that do not answer, or not yet, stand beside them.
    """

    def __init__(self, default: str | None = None) -> None:
        self._default = default
        self._models: dict[tuple[str, str], Model] = {}
        self._labels: Mapping[str, Mapping[str, str]] = {}
        self._standings: tuple[Standing, ...] = ()
        self._records: tuple[ModelRecord, ...] = ()
        self._found: dict[tuple[str | None, str | None, str | None], Model] = {}

    def add(self, model: Model) -> None:
        """Takes ``model`` in; it takes the place of one of its name and version."""
        self._models[model.name, model.version] = model
        self._found.clear()

    def remove(self, model: Model) -> None:
        """Gives up ``model``, unless another has taken its place."""
        if self._models.get((model.name, model.version)) is model:
            del self._models[model.name, model.version]
            self._found.clear()

    def label(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        """From now on these are the versions that each model's labels stand for."""
        self._labels = labels
        self._found.clear()

    def stand(self, standings: Iterable[Standing]) -> bool:
        """Notes the states of versions; says whether that changes what ``records`` gives."""
        self._standings = tuple(standings)
        return self.has_changed()

    def has_changed(self) -> bool:
        """Whether ``records`` gives something else than when this was last asked."""
        before, self._records = self._records, self.records()
        return before != self._records

    @property
    def can_answer(self) -> bool:
        """Whether any model can answer now, or none is there that might."""
        models = self.models
        return not models or any(model.state is State.AVAILABLE for model in models)

    @property
    def absent(self) -> tuple[Standing, ...]:
        """The versions that do not answer, or not yet, and those that failed."""
        return tuple(each for each in self._standings if each.state is not State.AVAILABLE)

    def labels_of(self, model: Model) -> tuple[str, ...]:
        """The labels that stand for ``model``."""
        labels = self._labels.get(model.name, {})
        return tuple(label for label, version in labels.items() if version == model.version)

    def records(self) -> tuple[ModelRecord, ...]:
        """The models as a registry lists them, each version once."""
        records = {
            (each.name, each.version): ModelRecord(each.name, each.version, each.state)
            for each in self.absent
        }
        for key, model in self._models.items():
            records[key] = evolve(model.record(), labels=self.labels_of(model))
        return tuple(records.values())

    def served(self, name: str) -> Model | None:
        """The latest version of the model ``name`` that answers, if there is one."""
        versions = self.versions(name)
        return versions[-1] if versions else None

    def versions(self, name: str) -> tuple[Model, ...]:
        """The versions of the model ``name`` that answer, the latest last."""
        versions = [model for model in self.models if model.name == name]
        return tuple(sorted(versions, key=lambda model: _order(model.version)))

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(self._models.values())

    def find(
        self, name: str | None = None, version: str | None = None, label: str | None = None
    ) -> Model:
        """The model ``name``, or the default or only one; of its versions the one that is
        named, or that the label stands for, or the latest.

        :raises BadRequest: where no model is named and there are several, or both a version and
            a label are named.
        :raises ModelNotFound: where there is no such model, version or label.
        """
        asked = name, version, label
        if asked not in self._found:
            # Kept, since it costs a small request some 5 % of its time; what is not found is not.
            self._found[asked] = self._find(name, version, label)
        return self._found[asked]

    def _find(self, name: str | None, version: str | None, label: str | None) -> Model:
        if version is not None and label is not None:
            raise BadRequest(f"got version {version!r} and label {label!r}, wanted one of them")
        wanted = name or self._default or self._only_name()
        versions = {known.version: known for known in self.versions(wanted)}
        if not versions:
            raise ModelNotFound(f"model: got {wanted!r}, wanted one of {self._names()}")
        if label is not None:
            version = self._labelled(wanted, label)
        if version is None:
            return [*versions.values()][-1]
        if version not in versions:
            raise ModelNotFound(
                f"model {wanted}: version: got {version!r}, wanted one of {', '.join(versions)}"
            )
        return versions[version]

    def _labelled(self, name: str, label: str) -> str:
        labels = self._labels.get(name, {})
        if label not in labels:
            raise ModelNotFound(
                f"model {name}: label: got {label!r}, wanted one of {', '.join(labels) or 'none'}"
            )
        return labels[label]

    def check_default(self) -> None:
        """Checks that the default model, where one is named, is there.

        :raises ModelNotFound: where it is not.
        """
        if self._default is not None:
            self.find(self._default)

    def _only_name(self) -> str:
        names = {model.name for model in self.models}
        if len(names) != 1:
            raise BadRequest(f"model: got none, wanted one of {self._names()}")
        return names.pop()

    def _names(self) -> str:
        return ", ".join(dict.fromkeys(model.name for model in self.models)) or "none"


def _order(version: str) -> tuple[int, int, str]:
    """Numbers by value, before them anything else by its text."""
    return (1, int(version), "") if version.isdigit() else (0, 0, version)
