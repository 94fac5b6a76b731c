# SPDX-License-Identifier: MIT
"""What loading a model needs besides the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import field, frozen

from smls_node.factory import Factory
from smls_node.pools import Pools
from smls_node.works import Decoding


@frozen
class Means:
    """Where findings are kept, the processes that there are for TensorFlow, and what workers are
    made of (``Workers``), whose ``reactor`` it is: who starts none needs none.

    ``accelerate`` says which engine is to be tried: ``auto``, one's name, or ``off``. ``factory``
    keeps what is loaded. Where nothing ``may_measure``, models are run as most run best.
    ``beside_http`` says that this process speaks HTTP besides, and leaves quick models to another
    one.
    """

    findings: Path
    pools: Pools
    seconds: Callable[[], float]
    reactor: Any = None
    accelerate: str = "off"
    factory: Factory = field(factory=Factory)
    may_measure: bool = True
    decoding: Decoding = field(factory=Decoding)
    beside_http: bool = False
