"""``/v1/files``: upload, list, read, delete."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http_errors import conflict, not_found
from api.multipart_upload import receive_file
from api.responses import json_response, strip_nul, unix_s
from api.schemas import FileDeleted, FileList, FileObject
from api.state import AppState, get_state, get_tenant
from api.tenant_shares import CountedStream
from db.file_store import Content, File
from db.reports.results import result_file
from routing.lifecycle import State

router = APIRouter(prefix="/v1/files", tags=["files"])

STATES = {
    Content.OUTPUT: (State.DONE,),
    Content.ERRORS: (State.FAILED, State.DEAD, State.EXPIRED, State.CANCELLED),
}
"""The states of the queries in each kind of result file."""

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                    },
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                }
            }
        },
    }
}


@router.post("", response_model=FileObject, openapi_extra=_FORM)
async def create_file(request: Request) -> Response:
    """Upload a file of batch lines. It is streamed into the database. An incomplete upload leaves nothing."""
    service, tenant = get_state(request), get_tenant(request)
    with service.uploads.opened(tenant):
        file = await receive_file(
            request,
            service.files,
            tenant=tenant,
            max_bytes=service.config.max_file_bytes,
            quotas=service.fleet.tenant_quotas,
        )
    return json_response(file_object(file))


@router.get("", response_model=FileList)
async def list_files(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> Response:
    """List the files, page by page."""
    files, tenant = get_state(request).files, get_tenant(request)
    cursor = None
    if after is not None and (cursor := await files.find(strip_nul(after), tenant=tenant)) is None:
        raise not_found("File", after, param="after")
    found = await files.page(
        tenant=tenant,
        purpose=None if purpose is None else strip_nul(purpose),
        after=cursor,
        rows=limit + 1,
        oldest_first=order == "asc",
    )
    return json_response(page_object([file_object(file) for file in found[:limit]], has_more=len(found) > limit))


@router.get("/{file_id}", response_model=FileObject)
async def retrieve_file(request: Request, file_id: str) -> Response:
    """Return one file."""
    return json_response(file_object(await _find_file(request, file_id)))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def retrieve_file_content(request: Request, file_id: str) -> Response:
    """Return a file's bytes. Results are read from the ledger line by line, not in the order of the input."""
    service, tenant = get_state(request), get_tenant(request)
    file = await _find_file(request, file_id)
    headers = {"content-disposition": f'attachment; filename="{_ascii(file.filename)}"'}
    if file.content == Content.STORED:
        headers["content-length"] = str(file.bytes)
    body = await _content(file, service, tenant=tenant)
    return CountedStream(service.downloads, tenant, body, media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}", response_model=FileDeleted)
async def delete_file(request: Request, file_id: str) -> Response:
    """Delete a file. Results stay in the ledger, so `pointsman results` still finds them."""
    files, tenant = get_state(request).files, get_tenant(request)
    file_id = strip_nul(file_id)
    if await files.is_awaited(file_id, tenant=tenant):
        message = "A batch of this file is still being validated. Wait until the validation ends, or cancel the batch."
        raise conflict(message, code="file_in_use", param="file_id")
    if not await files.delete(file_id, tenant=tenant):
        raise not_found("File", file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


def file_object(file: File) -> dict[str, Any]:
    """Return OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix_s(file.created_at),
        "expires_at": unix_s(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def page_object(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page of a list, with its cursors."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


async def _find_file(request: Request, file_id: str) -> File:
    file = await get_state(request).files.find(strip_nul(file_id), tenant=get_tenant(request))
    if file is None:
        raise not_found("File", file_id)
    return file


async def _content(file: File, service: AppState, *, tenant: str) -> AsyncIterator[bytes]:
    if file.content == Content.STORED or file.batch is None:
        return service.files.pieces(file.id)
    batch_id = await service.batches.batch_id(file.batch, tenant=tenant)
    if batch_id is None:
        raise not_found("File", file.id)
    return result_file(service.engine, batch_id, states=STATES[file.content])


def _ascii(name: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "_" for char in name)
