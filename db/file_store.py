"""Files that came over HTTP, in pieces of about a megabyte; and those of results, which are read from the ledger."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import Row

from db.engine import APP_ROLE, connect_blocking, fetch
from db.rows import from_row
from db.sql import Statements, statement
from routing.fleet import TenantQuotas

PIECE_BYTES: Final = 1024 * 1024


class Content(StrEnum):
    """The location of a file's bytes."""

    STORED = "stored"
    OUTPUT = "output"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class File:
    """A complete file. ``batch`` is the public id of the batch whose results it is."""

    id: str
    purpose: str
    filename: str
    bytes: int
    content: Content
    batch: str | None
    created_at: datetime
    expires_at: datetime | None


class KeptFiles(NamedTuple):
    """The stored files of a tenant; those under way count with the largest size."""

    files: int
    bytes: int


class FileStore(Statements):
    """The files of all tenants. Each method uses only the files of one tenant."""

    async def begin(self, file_id: str, *, tenant: str, quotas: TenantQuotas, most_bytes: int) -> KeptFiles | None:
        """A file that is not there yet for anybody; `add` pieces to it, then `finish` or `abandon` it.

        Where the tenant's quotas have no room for one of ``most_bytes`` there is none, and what is kept is returned.
        """
        (row,) = await self._fetch(
            "file_begin",
            id=file_id,
            tenant=tenant,
            files=quotas.files,
            file_bytes=quotas.file_bytes,
            most_bytes=most_bytes,
        )
        return None if row.begun else KeptFiles(row.files, int(row.bytes))

    async def add(self, file_id: str, *, place: int, data: bytes) -> None:
        """The piece at ``place``, from 0."""
        await self._query(
            "INSERT INTO file_pieces (file_id, place, data) VALUES (:id, :place, :data)",
            id=file_id,
            place=place,
            data=data,
        )

    async def finish(
        self, file_id: str, *, purpose: str, filename: str, size: int, expires_after_s: int | None
    ) -> File | None:
        """Marks the file as complete. None if it was removed in between."""
        rows = await self._fetch(
            "file_finish",
            id=file_id,
            purpose=purpose,
            filename=filename,
            size=size,
            expires_after_s=expires_after_s,
        )
        return _file(rows[0]) if rows else None

    async def abandon(self, file_id: str) -> None:
        """Remove a file whose upload did not finish."""
        await self._fetch("file_abandon", id=file_id)

    async def find(self, file_id: str, *, tenant: str) -> File | None:
        rows = await self._fetch("file_find", id=file_id, tenant=tenant)
        return _file(rows[0]) if rows else None

    async def page(
        self, *, tenant: str, purpose: str | None, after: File | None, rows: int, oldest_first: bool
    ) -> list[File]:
        """Return at most ``rows`` of the tenant's files, ordered by age, that follow the given one."""
        found = await fetch(
            self._engine,
            statement("files_oldest_first" if oldest_first else "files_newest_first"),
            tenant=tenant,
            purpose=purpose,
            after_at=after.created_at if after else None,
            after_id=after.id if after else None,
            rows=rows,
        )
        return [_file(row) for row in found]

    async def pieces(self, file_id: str) -> AsyncIterator[bytes]:
        """The bytes of a stored file, a piece at a time; no connection is held in between."""
        place = 0
        while rows := await self._query(
            "SELECT data FROM file_pieces WHERE file_id = :id AND place = :place",
            id=file_id,
            place=place,
        ):
            yield bytes(rows[0].data)
            place += 1

    async def is_awaited(self, file_id: str, *, tenant: str) -> bool:
        """Whether a batch will still be read from it."""
        rows = await self._query(
            "SELECT 1 FROM api_batches WHERE input_file_id = :id AND tenant = :tenant AND status = 'validating'"
            " LIMIT 1",
            id=file_id,
            tenant=tenant,
        )
        return bool(rows)

    async def delete(self, file_id: str, *, tenant: str) -> bool:
        """Removes the tenant's file and its bytes. False where there is none."""
        return bool(await self._fetch("file_delete", id=file_id, tenant=tenant))

    async def sweep(self) -> int:
        """Removes files that have expired, and uploads that were not finished within a day. Returns how many."""
        return len(await self._fetch("files_sweep"))


class StoredFile(io.RawIOBase):
    """A stored file as a plain blocking stream, for the thread that parses it. Close it.

    Raises OSError where Postgres does not give the bytes.
    """

    def __init__(self, url: str, file_id: str) -> None:
        try:
            self._connection = connect_blocking(url, {"role": APP_ROLE})
        except psycopg.Error as error:
            raise _unread(error) from None
        self._file_id = file_id
        self._place = 0
        self._at = 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        """To its start alone."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Back to the start. Raises io.UnsupportedOperation for any other place."""
        if (offset, whence) == (0, io.SEEK_SET):
            self._place, self._at, self._rest = 0, 0, memoryview(b"")
        elif (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation("a stored file is read from its start")
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills ``buffer`` as far as the present piece goes; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._piece())
            self._place += 1
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        self._at += size
        return size

    def _piece(self) -> bytes:
        try:
            row = self._connection.execute(
                "SELECT data FROM file_pieces WHERE file_id = %s AND place = %s",
                (self._file_id, self._place),
                binary=True,
            ).fetchone()
        except psycopg.Error as error:
            raise _unread(error) from None
        return row[0] if row else b""

    def close(self) -> None:
        """Also closes its connection."""
        if not self.closed:
            self._connection.close()
        super().close()


def _unread(error: psycopg.Error) -> OSError:
    return OSError(f"the file cannot be read ({type(error).__name__}, SQLSTATE {error.sqlstate})")


def _file(row: Row[Any]) -> File:
    return from_row(File, row, content=Content(row.content))
