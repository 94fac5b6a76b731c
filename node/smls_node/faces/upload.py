# SPDX-License-Identifier: MIT
"""The images in a request's body, parsed as its bytes arrive.

A body is a form (``multipart/form-data``) or one image as it is (``image/*``,
``application/octet-stream``). What is wrong with it is told when the whole of it is asked for.
"""

from __future__ import annotations

from attrs import frozen
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from smls.errors import BadRequest, NotAnImage, SmlsError, TooLarge

FIELDS = ("model", "version", "label", "top", "priority")
"""What a form may say besides its images; any other part is an image, whatever its name."""

MAX_PARTS = 1000


@frozen
class Form:
    """The images of an upload, in order, and its plain fields."""

    images: tuple[bytes, ...]
    fields: dict[str, str]


class Whole:
    """Takes a body as it arrives (``smls.site.Body``), and gives it whole without another copy."""

    def __init__(self) -> None:
        self._received = bytearray()

    def write(self, data: bytes, /) -> None:
        """Takes the next bytes of the body."""
        self._received += data

    def tell(self) -> int:
        return len(self._received)

    def seek(self, offset: int, whence: int = 0, /) -> None:
        """Twisted rewinds a body before it is read; there is nothing to rewind here."""

    def close(self) -> None:
        """Lets go of what was received."""
        self._received = bytearray()

    def whole(self) -> memoryview:
        """All that was received. Arrays may lie in it; it is written to no more."""
        return memoryview(self._received)


class Upload:
    """Takes a body as it arrives (``smls.site.Body``) and gives its ``form()`` once it is whole."""

    def __init__(self, content_type: str) -> None:
        self._received = 0
        self._images: list[bytes] = []
        self._fields: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._segment: MultipartSegment | None = None
        self._parser: PushMultipartParser | None = None
        self._error: SmlsError | None = None
        kind, options = parse_options_header(content_type)
        self._raw = kind.startswith("image/") or kind == "application/octet-stream"
        if kind == "multipart/form-data":
            self._open(options.get("boundary", ""))
        elif not self._raw:
            self._error = NotAnImage(
                f"Content-Type: got {content_type or 'none'!r}, wanted multipart/form-data "
                "(curl -F data=@image.jpg) or image/*"
            )

    def write(self, data: bytes, /) -> None:
        """Takes the next bytes of the body."""
        self._received += len(data)
        if self._raw:
            self._chunks.append(data)
        elif self._error is None and data:
            self._parse(data)

    def tell(self) -> int:
        return self._received

    def seek(self, offset: int, whence: int = 0, /) -> None:
        """Twisted rewinds a body before it is read; there is nothing to rewind here."""

    def close(self) -> None:
        """Lets go of what was received, and of the error, whose traceback holds this."""
        self._chunks, self._images, self._error = [], [], None

    def form(self) -> Form:
        """The images and fields of the whole body.

        :raises NotAnImage: where the body is of another type.
        :raises BadRequest: where the form is malformed, cut short, or holds no image.
        :raises TooLarge: where it has more parts, or a longer header, than is allowed.
        """
        if self._parser is not None and self._error is None:
            self._parse(b"")
        if self._error is not None:
            raise self._error
        if self._raw:
            return Form((b"".join(self._chunks),), {})
        if not self._images:
            raise BadRequest("the form holds no image; send one as curl -F data=@image.jpg does")
        return Form(tuple(self._images), self._fields)

    def _open(self, boundary: str) -> None:
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
        except MultipartError as error:
            self._error = _told(error)

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._segment = event
                elif event:
                    self._chunks.append(bytes(event))
                else:
                    self._end_part()
        except MultipartError as error:
            self._error = _told(error)

    def _end_part(self) -> None:
        assert self._segment is not None
        value, self._chunks = b"".join(self._chunks), []
        if self._segment.filename is None and self._segment.name in FIELDS:
            self._fields[self._segment.name] = value.decode("utf-8", "replace")
        else:
            self._images.append(value)


def _told(error: MultipartError) -> SmlsError:
    kind = TooLarge if isinstance(error, ParserLimitReached) else BadRequest
    return kind(f"the form is malformed or cut short: {error}")
