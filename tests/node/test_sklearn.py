# SPDX-License-Identifier: MIT
"""scikit-learn's models against scikit-learn itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from skops.io import dump

from smls.errors import BadRequest, ModelUnusable
from smls_node.settings import Device
from smls_node.signature import DEFAULT
from tests.node.formats import asked, check_same, opened, told

ROWS, KINDS = load_iris(return_X_y=True)

NAMES = load_iris().target_names[KINDS]


def saved(path: Path, estimator: Any, target: Any = KINDS, rows: Any = ROWS) -> Any:
    estimator.fit(rows, target)
    if path.suffix == ".skops":
        dump(estimator, path)
    else:
        joblib.dump(estimator, path)
    return estimator


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (DecisionTreeClassifier(random_state=0), KINDS),
        (DecisionTreeRegressor(random_state=0), ROWS[:, 0]),
        (RandomForestClassifier(3, random_state=0), KINDS),
        (HistGradientBoostingClassifier(max_iter=2), KINDS),
        (KNeighborsClassifier(), KINDS),
        (make_pipeline(StandardScaler(), LogisticRegression()), KINDS),
        (MLPClassifier((4,), tol=1.0, random_state=0), KINDS),
        (LinearRegression(), ROWS[:, :2]),
        (KMeans(3, random_state=0), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_answers_as_scikit_learn_does(tmp_path: Path, estimator: Any, target: Any) -> None:
    path = tmp_path / "m.skops"
    saved(path, estimator, target)
    model = opened(path, tmp_path).runtime
    assert told(model)[0] == {"input": "FP64[?, 4]"}
    assert model.signatures[DEFAULT].batches
    wanted = {"predict": estimator.predict(ROWS)}
    if hasattr(estimator, "predict_proba"):
        wanted["predict_proba"] = estimator.predict_proba(ROWS)
    check_same(asked(model, {"input": ROWS}), wanted)
    assert told(model)[1].keys() == wanted.keys()
    model.unload()


def test_classes_that_are_texts(tmp_path: Path) -> None:
    tree = saved(tmp_path / "m.skops", DecisionTreeClassifier(random_state=0), NAMES)
    model = opened(tmp_path / "m.skops", tmp_path).runtime
    assert told(model)[1] == {"predict": "BYTES[?]", "predict_proba": "FP64[?, 3]"}
    got = asked(model, {"input": ROWS})["predict"].tolist()
    assert got == [name.encode() for name in tree.predict(ROWS)]


def test_texts_go_to_what_begins_with_a_vectorizer(tmp_path: Path) -> None:
    texts = ["good dog", "bad cat", "good cat", "bad dog", "größer"]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    saved(tmp_path / "m.skops", pipeline, [1, 0, 1, 0, 1], texts)
    model = opened(tmp_path / "m.skops", tmp_path).runtime
    assert told(model)[0] == {"input": "BYTES[?]"}
    rows = np.array([text.encode() for text in texts], np.object_)
    wanted = {
        "predict": pipeline.predict(texts),
        "predict_proba": pipeline.predict_proba(texts),
    }
    check_same(asked(model, {"input": rows}), wanted)
    with pytest.raises(BadRequest, match="the model refuses the inputs: 'utf-8'"):
        asked(model, {"input": np.array([b"\xff"], np.object_)})


def test_what_only_transforms(tmp_path: Path) -> None:
    pca = saved(tmp_path / "m.skops", PCA(2), None)
    model = opened(tmp_path / "m.skops", tmp_path).runtime
    check_same(asked(model, {"input": ROWS}), {"transform": pca.transform(ROWS)})


def test_a_frame_is_rebuilt_with_the_names_of_its_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["sl", "sw", "pl", "pw"])
    tree = saved(tmp_path / "m.skops", DecisionTreeClassifier(random_state=0), rows=frame)
    model = opened(tmp_path / "m.skops", tmp_path).runtime
    assert model.signatures[DEFAULT].columns == ("sl", "sw", "pl", "pw")
    wanted = {"predict": tree.predict(frame), "predict_proba": tree.predict_proba(frame)}
    check_same(asked(model, {"input": ROWS}), wanted)


def test_what_the_model_refuses_is_the_requests_fault(tmp_path: Path) -> None:
    saved(tmp_path / "m.skops", LinearRegression())
    model = opened(tmp_path / "m.skops", tmp_path).runtime
    with pytest.raises(BadRequest, match="the model refuses the inputs: Input X contains NaN"):
        asked(model, {"input": np.full((1, 4), np.nan)})
    with pytest.raises(BadRequest, match=r"input input: got FP32\[1, 4\], wanted FP64\[\?, 4\]"):
        asked(model, {"input": np.zeros((1, 4), np.float32)})


def test_a_pickle_is_read_where_the_operator_says_so(tmp_path: Path) -> None:
    tree = saved(tmp_path / "m.joblib", DecisionTreeClassifier(random_state=0))
    with pytest.raises(ModelUnusable, match=r"m\.joblib: a pickle runs the code that it holds"):
        opened(tmp_path / "m.joblib", tmp_path)
    model = opened(tmp_path / "m.joblib", tmp_path, trust_pickle=True).runtime
    wanted = {"predict": tree.predict(ROWS), "predict_proba": tree.predict_proba(ROWS)}
    check_same(asked(model, {"input": ROWS}), wanted)


def test_types_that_nobody_trusts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    saved(path, GaussianProcessRegressor(RBF(), optimizer=None))
    kernel = "sklearn.gaussian_process.kernels.RBF"
    with pytest.raises(ModelUnusable, match=f"m.skops holds {kernel}; name what you trust"):
        opened(path, tmp_path)
    opened(path, tmp_path, trusted_types=(kernel,)).runtime.unload()


def test_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    saved(path, LinearRegression())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelUnusable, match=r"m\.skops is no whole skops file: "):
        opened(path, tmp_path)
    pickle = tmp_path / "m.pkl"
    saved(pickle, LinearRegression())
    pickle.write_bytes(pickle.read_bytes()[:30])
    with pytest.raises(ModelUnusable, match=r"m\.pkl is no whole pickle: "):
        opened(pickle, tmp_path, trust_pickle=True)
    dump({"no": "estimator"}, path)
    with pytest.raises(ModelUnusable, match="got a dict, wanted an estimator"):
        opened(path, tmp_path)
    dump(LinearRegression(), path)
    with pytest.raises(ModelUnusable, match="This LinearRegression instance is not fitted"):
        opened(path, tmp_path)
    with pytest.raises(ModelUnusable, match="got cuda:0, but scikit-learn runs on the CPU"):
        opened(path, tmp_path, device=Device("cuda:0"))
