"""Streams a multipart upload into Postgres. Memory holds one piece, however large the file is.

It uses only python-multipart's parser, because Starlette's forms first spool each file to a disk, and accept a form
that ends too early.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from api.http_errors import ApiError, bad_request, too_large
from api.tenant_shares import quota_reached
from db.file_store import PIECE_BYTES, File, FileStore
from routing.fleet import TenantQuotas

_MAX_FIELD_BYTES: Final = 4096
_MAX_PARTS: Final = 17
"""Sixteen fields and the file. Empty parts count too, because each costs a hundred times as much as its bytes."""
_SLICE_BYTES: Final = 32 * 1024
"""Bytes parsed at a time, with other requests in between, because text that looks like a boundary is slow to parse."""
_OVERHEAD_BYTES: Final = 64 * 1024
"""Maximum bytes that the form adds to the size of the file."""
_MIN_EXPIRY_S: Final = 3600
_MAX_EXPIRY_S: Final = 30 * 24 * 3600


async def receive_file(
    request: Request, files: FileStore, *, tenant: str, max_bytes: int, quotas: TenantQuotas
) -> File:
    """Store the ``file`` of a multipart form with the ``purpose`` batch. After an ApiError nothing is kept."""
    boundary = _boundary(request)
    if int(request.headers.get("content-length") or 0) > max_bytes + _OVERHEAD_BYTES:
        raise _oversize(max_bytes)
    file_id = f"file-{secrets.token_hex(12)}"
    store = _Store(files, file_id, max_bytes=max_bytes)
    form = _Form()
    await _begin(files, file_id, tenant=tenant, quotas=quotas, max_bytes=max_bytes)
    received = 0
    try:
        callbacks = {name: getattr(form, name) for name in _CALLBACKS}
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]  # a TypedDict with these keys
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_bytes + _OVERHEAD_BYTES:  # also behind the form's end
                raise _oversize(max_bytes)
            for start in range(0, len(chunk), _SLICE_BYTES):
                parser.write(chunk[start : start + _SLICE_BYTES])
                for data in form.take():
                    await store.write(data)
                await asyncio.sleep(0)
        parser.finalize()
        purpose, expires_after_s = _validated(form)
        await store.flush()
        file = await files.finish(
            file_id,
            purpose=purpose,
            filename=form.filename or "",
            size=store.size,
            expires_after_s=expires_after_s,
        )
    except BaseException as error:
        await files.abandon(file_id)
        match error:
            case MultipartParseError():
                raise bad_request("The multipart form is malformed.", param="file") from error
            case ClientDisconnect():
                raise bad_request("The upload was interrupted. Upload the file again.", param="file") from error
            case _:
                raise
    if file is None:
        raise bad_request("The upload took longer than a day.", param="file")
    return file


async def store_file(
    files: FileStore, data: bytes | bytearray, *, tenant: str, filename: str, quotas: TenantQuotas
) -> str:
    """Store ``data`` as a file with the purpose batch, and return its id. After an ApiError nothing is kept."""
    file_id = f"file-{secrets.token_hex(12)}"
    store = _Store(files, file_id, max_bytes=len(data))
    await _begin(files, file_id, tenant=tenant, quotas=quotas, max_bytes=len(data))
    try:
        await store.write(data)
        await store.flush()
        await files.finish(file_id, purpose="batch", filename=filename, size=store.size, expires_after_s=_MAX_EXPIRY_S)
    except BaseException:
        await files.abandon(file_id)
        raise
    return file_id


async def _begin(files: FileStore, file_id: str, *, tenant: str, quotas: TenantQuotas, max_bytes: int) -> None:
    """Begin the file if the tenant has room for it. Other uploads in progress count at the maximum size."""
    kept = await files.begin(file_id, tenant=tenant, quotas=quotas, most_bytes=max_bytes)
    if kept is None:
        return
    fix = "Delete some (DELETE /v1/files/{id}), or upload with expires_after."
    if kept.files >= quotas.files:
        raise quota_reached(f"{kept.files} files are stored", quotas.files, fix)
    message = f"{kept.bytes} bytes of files are stored or uploaded; a tenant may have {quotas.file_bytes}. {fix}"
    raise ApiError(413, message, param="file", code="quota_reached")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise bad_request("Send the file as multipart/form-data, with the fields `file` and `purpose`.", param="file")
    return boundary


def _oversize(max_bytes: int) -> ApiError:
    return too_large(f"The file is larger than {max_bytes} bytes. Split it into several batches.")


class _Store:
    """Writes the bytes in pieces of about a megabyte."""

    def __init__(self, files: FileStore, file_id: str, *, max_bytes: int) -> None:
        self._files = files
        self._file_id = file_id
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._place = 0
        self.size = 0

    async def write(self, data: bytes | bytearray) -> None:
        """Add bytes. Raises ApiError above the size limit."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise _oversize(self._max_bytes)
        self._rest += data
        while len(self._rest) >= PIECE_BYTES:
            await self._add(bytes(self._rest[:PIECE_BYTES]))
            del self._rest[:PIECE_BYTES]

    async def flush(self) -> None:
        """Write the rest as the last piece."""
        if self._rest:
            await self._add(bytes(self._rest))
            self._rest.clear()

    async def _add(self, data: bytes) -> None:
        await self._files.add(self._file_id, place=self._place, data=data)
        self._place += 1


@dataclass(slots=True)
class _Form:
    """The callbacks of the parser, under its names: keep the small fields, and pass on the file's bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    is_complete: bool = False
    _parts: int = 0
    _data: list[bytes] = field(default_factory=list)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header_name: bytes = b""
    _header_value: bytes = b""
    _name: str = ""
    _value: bytearray = field(default_factory=bytearray)
    _in_file: bool = False

    def take(self) -> list[bytes]:
        """Return the file's bytes since the last call."""
        data, self._data = self._data, []
        return data

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise bad_request("The form has too many fields.")
        self._headers = {}
        self._value = bytearray()
        self._in_file = False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name != "file":
            return
        if self.filename is not None:
            raise bad_request("The form has more than one file.", param="file")
        self._in_file = True
        self.filename = _base_name(options.get(b"filename", b"").decode(errors="replace")) or "file"

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._data.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise bad_request(f"A field is longer than {_MAX_FIELD_BYTES} bytes.")

    def on_part_end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def on_end(self) -> None:
        self.is_complete = True


_CALLBACKS: Final = [name for name in vars(_Form) if name.startswith("on_")]


def _base_name(name: str) -> str:
    """Return a file name without its path and without unprintable characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable())[:255]


def _validated(form: _Form) -> tuple[str, int | None]:
    """Return the purpose and the expiry in the form. Raises ApiError."""
    if not form.is_complete:
        raise bad_request("The multipart form is incomplete.", param="file")
    if form.filename is None:
        raise bad_request("'file' is a required property.", param="file", code="missing_required_parameter")
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise bad_request("'purpose' is a required property.", param="purpose", code="missing_required_parameter")
    if purpose != "batch":
        raise bad_request("The purpose must be 'batch'.", param="purpose", code="invalid_value")
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
            f"The value must be a whole number from {_MIN_EXPIRY_S} to {_MAX_EXPIRY_S}.",
            param="expires_after[seconds]",
            code="invalid_value",
        )
    return number
