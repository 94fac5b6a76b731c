# SPDX-License-Identifier: MIT
import pytest

from smls.errors import BadRecord
from smls_registry.paths import is_for_node, model_of


@pytest.mark.parametrize(
    "path",
    [
        "/classify",
        "/classify/",
        "/embed",
        "/models",
        "/models/flowers",
        "/v1/models",
        "/v1/models/flowers:predict",
        "/v1/models/flowers/versions/2:predict",
        "/v2",
        "/v2/health/ready",
        "/v2/models/flowers/infer",
        "/estimators/iris/fit",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_the_nodes_own_paths_are_sent_on(method, path):
    assert is_for_node(method, path)


@pytest.mark.parametrize(
    "path", ["", "/classifyx", "/v1", "/v1/nodes", "/v1/modelsx", "/v22", "/next", "/a/classify"]
)
def test_other_paths_are_not(path):
    assert not is_for_node("POST", path)


def test_only_an_upload_to_the_root_is_sent_on():
    assert is_for_node("POST", "/")
    assert not is_for_node("GET", "/")
    assert not is_for_node("PUT", "/")


@pytest.mark.parametrize(
    ("path", "query", "model"),
    [
        ("/classify", {}, None),
        ("/classify", {"model": ["birds", "flowers"]}, "flowers"),
        ("/v1/models/flowers", {}, "flowers"),
        ("/v1/models/flowers:predict", {"model": ["birds"]}, "flowers"),
        ("/v1/models/flowers/versions/2:predict", {}, "flowers"),
        ("/v2/models/flowers/infer", {}, "flowers"),
        ("/models/flowers", {}, "flowers"),
        ("/models", {}, None),
        ("/v1/models/", {}, None),
        ("/v2/health/live", {}, None),
    ],
)
def test_the_model_is_named_by_path_or_query(path, query, model):
    assert model_of(path, query) == model


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/models/-x", {}),
        ("/models/a b", {}),
        ("/classify", {"model": [""]}),
        ("/classify", {"model": ["x" * 129]}),
    ],
)
def test_an_unlawful_name_is_refused(path, query):
    with pytest.raises(BadRecord, match="model"):
        model_of(path, query)
