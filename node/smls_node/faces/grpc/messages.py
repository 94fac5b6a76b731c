# SPDX-License-Identifier: MIT
"""The messages and services of the gRPC dialects.

They lie in a pool of their own: in the default one they clash with those of the same names that
TensorFlow, tensorflow-serving-api and tritonclient bring. No code is generated, so any protobuf
that ``setup.cfg`` admits will do; ``script/protos`` compiles what is read here.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()

for _file in FileDescriptorSet.FromString(
    (files(__package__) / "protos" / "descriptors.pb").read_bytes()
).file:
    POOL.Add(_file)


def message(name: str) -> Any:
    """The class of the messages ``name``, such as ``inference.ModelInferRequest``."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def service(name: str) -> Any:
    """The descriptor of the service ``name``."""
    return POOL.FindServiceByName(name)
