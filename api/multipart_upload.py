"""A multipart upload, straight into Postgres: memory holds one piece, however large the file is."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from api.http_errors import ApiError, bad_request, too_large
from db.file_store import PIECE_BYTES, File, FileStore

_MAX_FIELD_BYTES: Final = 4096
_MAX_FIELDS: Final = 16
_OVERHEAD_BYTES: Final = 64 * 1024
"""What the form around a file may add to it."""
_MIN_EXPIRY_S: Final = 3600
_MAX_EXPIRY_S: Final = 30 * 24 * 3600


async def receive_file(request: Request, files: FileStore, *, tenant: str, max_bytes: int) -> File:
    """Stores the ``file`` of a multipart form whose ``purpose`` is ``batch``. Raises ApiError; then nothing is kept."""
    boundary = _boundary(request)
    if int(request.headers.get("content-length") or 0) > max_bytes + _OVERHEAD_BYTES:
        raise _oversize(max_bytes)
    file_id = f"file-{secrets.token_hex(12)}"
    store = _Store(files, file_id, max_bytes=max_bytes)
    form = _Form()
    await files.begin(file_id, tenant=tenant)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]  # its callbacks are untyped
        async for chunk in request.stream():
            parser.write(chunk)
            for data in form.take():
                await store.write(data)
        parser.finalize()
        purpose, expires_after_s = _checked(form)
        await store.flush()
        file = await files.finish(
            file_id,
            purpose=purpose,
            filename=form.filename or "",
            size=store.size,
            expires_after_s=expires_after_s,
        )
    except MultipartParseError as error:
        await files.abandon(file_id)
        raise bad_request("The multipart form is broken.", param="file") from error
    except ClientDisconnect as error:
        await files.abandon(file_id)
        raise bad_request("The upload broke off.", param="file") from error
    except BaseException:
        await files.abandon(file_id)
        raise
    if file is None:
        raise bad_request("The upload took longer than a day.", param="file")
    return file


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise bad_request("Send the file as multipart/form-data, with the fields `file` and `purpose`.", param="file")
    return boundary


def _oversize(max_bytes: int) -> ApiError:
    return too_large(f"The file is larger than {max_bytes} bytes. Split it and make a batch of each part.")


class _Store:
    """Collects bytes to pieces of about a megabyte."""

    def __init__(self, files: FileStore, file_id: str, *, max_bytes: int) -> None:
        self._files = files
        self._file_id = file_id
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._place = 0
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Raises ApiError where the file grows larger than it may."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise _oversize(self._max_bytes)
        self._rest += data
        while len(self._rest) >= PIECE_BYTES:
            await self._add(bytes(self._rest[:PIECE_BYTES]))
            del self._rest[:PIECE_BYTES]

    async def flush(self) -> None:
        """What is left becomes the last piece."""
        if self._rest:
            await self._add(bytes(self._rest))
            self._rest.clear()

    async def _add(self, data: bytes) -> None:
        await self._files.add(self._file_id, place=self._place, data=data)
        self._place += 1


@dataclass(slots=True)
class _Form:
    """What the parser calls: keeps the small fields, and hands on the file's bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    whole: bool = False
    _data: list[bytes] = field(default_factory=list)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header_name: bytes = b""
    _header_value: bytes = b""
    _name: str = ""
    _value: bytearray = field(default_factory=bytearray)
    _in_file: bool = False

    def take(self) -> list[bytes]:
        """The file's bytes since the last call."""
        data, self._data = self._data, []
        return data

    def callbacks(self) -> dict[str, object]:
        """By the parser's names."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._field,
            "on_header_value": self._header,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._headers = {}
        self._value = bytearray()
        self._in_file = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name != "file":
            if len(self.fields) >= _MAX_FIELDS:
                raise bad_request("The form has too many fields.")
            return
        if self.filename is not None:
            raise bad_request("The form has more than one file.", param="file")
        self._in_file = True
        self.filename = _shown(options.get(b"filename", b"").decode(errors="replace")) or "file"

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._data.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise bad_request(f"A field is longer than {_MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self.whole = True


def _shown(name: str) -> str:
    """A file's name without a path, and without what does not print."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable())[:255]


def _checked(form: _Form) -> tuple[str, int | None]:
    """The purpose and the expiry that the form asks for."""
    if not form.whole:
        raise bad_request("The multipart form ends too early.", param="file")
    if form.filename is None:
        raise bad_request("'file' is a required property.", param="file", code="missing_required_parameter")
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise bad_request("'purpose' is a required property.", param="purpose", code="missing_required_parameter")
    if purpose != "batch":
        raise bad_request("Only files of the purpose 'batch' are taken here.", param="purpose", code="invalid_value")
    return purpose, _expiry(form.fields)


def _expiry(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise bad_request("The anchor must be 'created_at'.", param="expires_after[anchor]", code="invalid_value")
    number = int(seconds) if seconds and seconds.isascii() and seconds.isdecimal() and len(seconds) < 10 else 0
    if not _MIN_EXPIRY_S <= number <= _MAX_EXPIRY_S:
        raise bad_request(
            f"It must be a whole number from {_MIN_EXPIRY_S} to {_MAX_EXPIRY_S}.",
            param="expires_after[seconds]",
            code="invalid_value",
        )
    return number
