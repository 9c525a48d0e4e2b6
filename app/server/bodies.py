"""Bodies of uploads as they arrive: a form with files and fields, or the bytes of one file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from neuromoco.app.server.errors import RefusedError
from neuromoco.support.untrusted import one_line

MOST_FIELDS = 16  # besides files
LARGEST_FIELD = 1024  # bytes
LONGEST_NAME = 100
LONGEST_NAME_BYTES = 200  # file systems take 255


@dataclass
class UploadedFile:
    """A file that was received.

    Attributes:
        path: where it is kept, under a random name.
        name: the sender's; safe to print, never opened.
        size: in bytes.
    """

    path: Path
    name: str
    size: int = 0


def clean_name(name: str) -> str:
    """The last part of a path, without characters that move a cursor or make it look like an option."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()[:LONGEST_NAME]
    short = printable.encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    return short.rstrip(" .").lstrip(" .-") or "upload"


def too_large(most: int) -> RefusedError:
    """The refusal of a body with more bytes of files."""
    return RefusedError(413, "too_large", f"the file is too large; at most {most:,} bytes are accepted")


@dataclass
class Body:
    """What was received so far.

    Attributes:
        folder: for the files.
        max_bytes: of all files together.
        files: the files, in the order of the body.
        fields: words by name.
    """

    folder: Path
    max_bytes: int
    files: list[UploadedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    _open: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Takes the next bytes."""
        raise NotImplementedError

    def check_complete(self) -> None:
        """Refuses a body that ended early."""

    def close(self) -> None:
        """Closes the file that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def delete(self) -> None:
        """Deletes all files."""
        self.close()
        for file in self.files:
            file.path.unlink(missing_ok=True)

    def _begin_file(self, name: str) -> None:
        path = self.folder / secrets.token_hex(16)
        try:
            self._open = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
        except OSError as error:
            raise RefusedError(503, "disk", f"the upload could not be stored: {error.strerror}") from None
        self.files.append(UploadedFile(path, clean_name(name)))

    def _add(self, data: bytes) -> None:
        assert self._open is not None
        self.files[-1].size += len(data)
        if sum(file.size for file in self.files) > self.max_bytes:
            raise too_large(self.max_bytes)
        self._open.write(data)

    def _add_field(self, name: str, value: str) -> None:
        if name in self.fields:
            raise RefusedError(400, "bad_argument", f"the field {one_line(name)} is given twice")
        if len(self.fields) >= MOST_FIELDS:
            raise RefusedError(400, "bad_form", f"more than {MOST_FIELDS} fields")
        self.fields[name] = value


class RawBody(Body):
    """The bytes of one file; fields and the file's name come in the query."""

    def begin(self, query: Sequence[tuple[str, str]]) -> None:
        """Takes the query's pairs."""
        for name, value in query:
            self._add_field(name, value)
        self._begin_file(self.fields.pop("name", ""))

    def write(self, data: bytes) -> None:
        self._add(data)


class FormBody(Body):
    """A form, from the callbacks of a parser."""

    def begin(self, boundary: bytes, file_field: str, most_files: int) -> None:
        """Begins with a boundary; files are in the field `file_field`."""
        self._file_field, self._most_files, self._ended = file_field, most_files, False
        self._header, self._value, self._text = bytearray(), bytearray(), bytearray()
        self._disposition, self._field, self._parts = "", "", 0
        try:
            self._parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
        except FormParserError as error:
            raise RefusedError(400, "bad_form", str(error)) from None

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RefusedError(400, "bad_form", f"the form is damaged: {' '.join(str(error).split())[:200]}") from None

    def check_complete(self) -> None:
        if not self._ended:
            raise RefusedError(400, "bad_form", "the form is truncated: its last boundary is missing")

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": lambda: setattr(self, "_ended", True),
        }

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_FIELDS + self._most_files:
            raise RefusedError(400, "bad_form", f"more than {MOST_FIELDS} fields")
        self._disposition = ""
        self._text.clear()

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or not options.get(b"name"):
            raise RefusedError(400, "bad_form", "a part of the form has no name")
        self._field = options[b"name"].decode("utf-8", "replace")
        if self._field != self._file_field:
            return
        if len(self.files) >= self._most_files:
            most = "one file" if self._most_files == 1 else f"{self._most_files} files"
            raise RefusedError(400, "bad_form", f"more than {most}; send further ones in another request")
        self._begin_file(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._open is not None:
            self._add(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LARGEST_FIELD:
            raise RefusedError(400, "bad_form", f"a field of more than {LARGEST_FIELD} bytes")

    def _part_end(self) -> None:
        if self._open is None:
            self._add_field(self._field, self._text.decode("utf-8", "replace"))
        self.close()
