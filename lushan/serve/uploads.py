"""Pictures in the body of a request, as a form or as they are. Nothing touches the disk."""

from __future__ import annotations

from collections.abc import Mapping

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from lushan.errors import UsageError

FIELD = "file"
_CHUNK = 1 << 16
_MOST_PARTS = 1000
_LONGEST_NAME = 200


def pictures(body: bytes, content_type: str | None) -> list[tuple[str, bytes]]:
    """Return (name, bytes of the file) of each picture in ``body``.

    A form has them in fields called ``file``; a body of any other type is one picture. Raises
    UsageError for what has none.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        if not body:
            raise UsageError("the request has no body: send a picture, or a form with a file")
        return [("<bytes>", body)]
    boundary = options.get(b"boundary")
    if not boundary:
        raise UsageError("the form has no boundary")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks)  # type: ignore[arg-type]
        for start in range(0, len(body), _CHUNK):
            parser.write(body[start : start + _CHUNK])
        parser.finalize()
    except (MultipartParseError, ValueError):
        raise UsageError("the form cannot be read: it breaks off, or is none") from None
    if not form.complete:
        raise UsageError("the form cannot be read: it breaks off, or is none")
    files = [(name, bytes(data)) for field, name, data in form.parts if field == FIELD]
    if not files:
        raise UsageError("the form has no field called {field}", field=FIELD)
    return files


class _Form:
    """Collects the parts of a form as the parser finds them."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str, bytearray]] = []  # field, name of the file, content
        self.complete = False
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self.callbacks: Mapping[str, object] = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= _MOST_PARTS:
            raise UsageError("the form has more than {most} parts", most=_MOST_PARTS)
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        field, name = (
            options.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"filename")
        )
        self.parts.append((field, name[:_LONGEST_NAME] or "<bytes>", bytearray()))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][2].extend(memoryview(data)[start:end])

    def _end(self) -> None:
        self.complete = True
