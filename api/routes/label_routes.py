"""``/label``: a page that asks whether answers were right, and the two routes behind it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from api.http_errors import ApiError, bad_request
from api.responses import json_response
from api.schemas import LabelCreate, LabelObject, LabelSample
from api.state import get_state, get_tenant
from api.static_pages import Pages
from db.label_store import UNCERTAIN, WEB, Label, answered, label, sample_to_label

router = APIRouter(tags=["labels"])

PATH: Final = "/label"
_PAGES: Final = Pages(PATH, "label")
OPEN: Final = _PAGES.open
LONGEST: Final = 20_000
"""Characters of a text that are shown; who judges more of it opens the file of results."""


@router.get(PATH, operation_id="label_page", response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _PAGES.response()


@router.get(PATH + "/{name}", operation_id="label_file", response_class=Response, include_in_schema=False)
async def page_file(name: str) -> Response:
    """Its script and style."""
    return _PAGES.response(name)


@router.get("/v1/pointsman/labels/sample", operation_id="sample_to_label", response_model=LabelSample)
async def sample(
    request: Request,
    by: Literal["mixed", "doubt", "chance"] = "mixed",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Answers that wait for a label, of the tenant's newest batches.

    By ``doubt``: those that the judge was least sure about, whose labels count only where they are
    asked for. By ``chance``: any alike, which is what a figure of quality needs. ``mixed``: both in
    turns; ``by`` of each says which, and is to be sent along with its label.
    """
    rows = await sample_to_label(get_state(request).engine, get_tenant(request), by=by, rows=limit)
    data = [
        {
            "object": "answer",
            "batch_id": row.batch_id,
            "custom_id": row.custom_id,
            "tier": row.tier,
            "model": row.model,
            "confidence": row.confidence,
            "by": row.by,
            "messages": list(_messages(row.body)),
            "answer": _answer(row.response),
        }
        for row in rows
    ]
    return json_response({"object": "list", "data": data})


@router.post("/v1/pointsman/labels", operation_id="label_answer", response_model=LabelObject)
async def label_answer(request: Request, given: LabelCreate) -> Response:
    """Says how right an answer is. Of several labels for one answer the newest counts; none is ever changed."""
    service, tenant = get_state(request), get_tenant(request)
    batch = (await service.status(given.batch_id, tenant=tenant)).batch
    found = {} if batch.id is None else await answered(service.engine, batch.id, [given.custom_id])
    row = found.get(given.custom_id)
    if row is None:
        raise ApiError(404, "The batch has no line of this custom_id.", param="custom_id")
    tier = given.tier or row.stood
    if tier is None or tier not in row.tiers:
        asked = ", ".join(row.tiers) or "nobody"
        raise bad_request(f"There is no such answer to judge: the line was answered by {asked}.", param="tier")
    source = UNCERTAIN if given.by == "doubt" else WEB
    said_by = request.state.key_name or tenant
    await label(service.engine, [Label(row.query_id, tier, given.grade)], source=source, said_by=said_by)
    told = {"object": "label", "batch_id": given.batch_id, "custom_id": given.custom_id, "tier": tier}
    return json_response({**told, "grade": given.grade})


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for message in body.get("messages") or ():
        yield {"role": str(message.get("role", ""))[:64], "text": _text(message.get("content"))}


def _answer(response: Mapping[str, Any]) -> str:
    choices = response.get("choices") or [{}]
    return _text((choices[0].get("message") or {}).get("content"))


def _text(content: object) -> str:
    """The words of a message's content; what is no text is named by its type."""
    match content:
        case str():
            told = content
        case list():
            told = "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content if part)
        case _:
            told = ""
    return told if len(told) <= LONGEST else f"{told[:LONGEST]} […]"
