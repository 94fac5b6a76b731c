# SPDX-License-Identifier: MIT
"""gRPC's server reflection: which services there are, and the messages that they take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from smls_node.faces.grpc.messages import POOL, message

SERVICE = "grpc.reflection.v1.ServerReflection"

OLD = "grpc.reflection.v1alpha.ServerReflection"
"""The same messages under the name that older programs ask for."""

_Request = message("grpc.reflection.v1.ServerReflectionRequest")
_Response = message("grpc.reflection.v1.ServerReflectionResponse")


def handlers(services: Iterable[str]) -> list[grpc.GenericRpcHandler]:
    """What tells of ``services`` and of itself."""
    names = sorted([*services, SERVICE])

    async def answers(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield answer(request, names)

    calls = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            answers, _Request.FromString, _Response.SerializeToString
        )
    }
    return [grpc.method_handlers_generic_handler(name, calls) for name in (SERVICE, OLD)]


def answer(request: Any, services: Iterable[str]) -> Any:
    """What is told to one request."""
    response = _Response(valid_host=request.host, original_request=request)
    kind = request.WhichOneof("message_request")
    try:
        match kind:
            case "list_services":
                for name in services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _put(response, POOL.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                _put(response, _file_of(request.file_containing_symbol))
            case "file_containing_extension":
                asked = request.file_containing_extension
                extended = POOL.FindMessageTypeByName(asked.containing_type)
                _put(response, POOL.FindExtensionByNumber(extended, asked.extension_number).file)
            case "all_extension_numbers_of_type":
                extended = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type)
                found = response.all_extension_numbers_response
                found.base_type_name = extended.full_name
                numbers = [each.number for each in POOL.FindAllExtensions(extended)]
                found.extension_number.extend(numbers)
            case _:
                _refuse(response, grpc.StatusCode.INVALID_ARGUMENT, "got no question")
    except KeyError:
        _refuse(response, grpc.StatusCode.NOT_FOUND, f"there is no such {kind}")
    return response


def _file_of(symbol: str) -> Any:
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        # The pool does not look for methods there.
        return POOL.FindMethodByName(symbol).containing_service.file


def _put(response: Any, file: Any) -> None:
    """Puts ``file``, and all that it imports, into the answer."""
    files = {file.name: file}
    waiting = [file]
    while waiting:
        for each in waiting.pop().dependencies:
            if each.name not in files:
                files[each.name] = each
                waiting.append(each)
    for each in files.values():
        proto = FileDescriptorProto()
        each.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _refuse(response: Any, status: grpc.StatusCode, problem: str) -> None:
    response.error_response.error_code = status.value[0]
    response.error_response.error_message = problem
