# SPDX-License-Identifier: MIT
"""scikit-learn's estimators and pipelines, of skops files, or of pickles where these are trusted.

A skops file holds types by name, and those that are not known to be harmless must be named. A
pickle runs whatever code its author has put into it.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest, ModelUnusable
from smls.tensors import Tensors, TensorSpec
from smls_node import machine
from smls_node.runtimes.opening import Draft, Output, opened
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT, Signature

TRUSTED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)
"""The types besides skops' own that a file may hold: those of trees, nearest neighbours and
networks. They run no code on loading. But trees hold indices that scikit-learn does not check, so
that a forged one can crash the process: the files must be the operator's own."""

PICKLES = (".joblib", ".pkl", ".pickle")

INPUT = "input"

METHODS = ("predict", "predict_proba")
"""What an estimator is asked, and what its outputs are called; one that has neither transforms."""

log = logging.getLogger(__name__)


class Estimator:
    """An estimator. Made by ``load``."""

    process = problem = ""

    def __init__(self, estimator: Any, methods: tuple[str, ...], columns: tuple[str, ...]) -> None:
        self._estimator = estimator
        self._methods = methods
        self._columns = columns
        self.signatures: Mapping[str, Signature] = {}
        self.example: Tensors = {}

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BadRequest: where a text is not UTF-8, or the estimator refuses the values.
        """
        try:
            rows = self._table(inputs[INPUT])
            return {name: _array(getattr(self._estimator, name)(rows)) for name in self._methods}
        except ValueError as error:
            raise BadRequest(f"the model refuses the inputs: {_reason(error)}") from error

    def unload(self) -> None:
        """Gives up the estimator and its memory."""
        self._estimator = None
        machine.give_back_memory()

    def _table(self, rows: NDArray[Any]) -> Any:
        """What the estimator was fitted to: texts, an array, or a frame with named columns."""
        if rows.dtype == object:
            return [text.decode() for text in rows]
        if self._columns:
            import pandas

            return pandas.DataFrame(rows, columns=list(self._columns))
        return rows


def preload() -> None:
    """Imports scikit-learn and what reads its files, which takes a second, and nothing more."""
    for name in ("sklearn.ensemble", "skops.io"):
        importlib.import_module(name)


def load(settings: ModelSettings, *, operator_threads: int = 0, runs: int = 1) -> Estimator:
    """The estimator, after a first run. Its threads are those that it was made with (``n_jobs``).

    :raises ModelUnusable: where the file is none of scikit-learn's, holds types or code that are
        not trusted, was not fitted, or the first run fails.
    """
    if settings.device.gpu is not None:
        raise ModelUnusable(f"device: got {settings.device.name}, but scikit-learn runs on the CPU")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        estimator = _read(settings)
    for warning in warned:
        # Such as that another version of scikit-learn has made it.
        log.warning("%s: %s", settings.path, warning.message)
    methods = tuple(name for name in METHODS if hasattr(estimator, name))
    if not methods:
        methods = ("transform",) if hasattr(estimator, "transform") else ()
    if not methods:
        raise ModelUnusable(
            f"{settings.path}: got a {type(estimator).__name__}, wanted an estimator that has "
            "predict or transform"
        )
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except Exception as error:
        raise ModelUnusable(f"{settings.path}: {_reason(error)}") from error
    # What counts no features takes texts: pipelines that begin with a vectorizer.
    count = getattr(estimator, "n_features_in_", None)
    spec = TensorSpec(INPUT, "BYTES", (-1,))
    if count is not None:
        spec = TensorSpec(INPUT, "FP64", (-1, int(count)))
    columns = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    model = Estimator(estimator, methods, columns if _has_pandas() else ())
    if columns and not _has_pandas():
        # Said at each call; without pandas the names cannot be given.
        warnings.filterwarnings("ignore", "X does not have valid feature names")
    draft = Draft((spec,), tuple(map(Output, methods)), columns=columns)
    model.signatures, model.example = opened(
        settings, {DEFAULT: draft}, lambda _, row: model.infer(row), _reason
    )
    return model


def _read(settings: ModelSettings) -> Any:
    path = settings.path
    if path.suffix in PICKLES:
        if not settings.trust_pickle:
            raise ModelUnusable(
                f"{path}: a pickle runs the code that it holds; save it with skops, or set "
                "trust_pickle where you made the file yourself"
            )
        import joblib

        try:
            return joblib.load(path)
        except Exception as error:
            raise ModelUnusable(f"{path} is no whole pickle: {_reason(error)}") from error
    from skops import io

    try:
        held = io.get_untrusted_types(file=path)
        unknown = sorted(set(held) - TRUSTED - set(settings.trusted_types))
        if not unknown:
            return io.load(path, trusted=held)
    except Exception as error:
        raise ModelUnusable(f"{path} is no whole skops file: {_reason(error)}") from error
    raise ModelUnusable(
        f"{path} holds {', '.join(unknown)}; name what you trust under trusted_types"
    )


def _array(value: Any) -> NDArray[Any]:
    """What an estimator gives, texts as bytes."""
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    if array.dtype.kind in "OU":
        texts = [str(each).encode() for each in array.flat]
        return np.array(texts, np.object_).reshape(array.shape)
    return array


def _has_pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return False
    return True


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
