# SPDX-License-Identifier: MIT
import re

import pytest

from smls import errors
from smls.errors import NodeFault, SmlsError, from_code
from smls.web import STATUS

KINDS = sorted(errors._BY_CODE.values(), key=lambda kind: kind.code)


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_leads_back_to_its_error(kind):
    error = from_code(kind.code, "why", retry_after_seconds=2)
    assert type(error) is kind
    assert error.message == str(error) == "why"
    assert error.retry_after_seconds == 2


def test_an_unknown_code_is_a_fault_of_the_other_side():
    assert isinstance(from_code("brand_new", "why"), NodeFault)


def test_no_two_errors_share_a_code():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SmlsError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_the_tree_on_top_of_the_module_is_the_tree():
    drawn = set(re.findall(r"── (\w+)", errors.__doc__))
    assert drawn == {kind.__name__ for kind in KINDS} - {"SmlsError"}


def test_whatever_a_server_may_say_has_a_status():
    ours = {
        "error",
        "request_error",
        "model_unusable",
        "node_refused",
        "port_taken",
        "missing_extra",
        "forked_client",
        "client_closed",
    }
    assert {kind.code for kind in KINDS} - ours <= set(STATUS)
