"""``/label``: a page on which answers are labeled right or wrong, and its two routes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from api.http_errors import ApiError, bad_request
from api.responses import json_response
from api.schemas import LabelCreate, LabelObject, LabelSample
from api.state import get_principal, get_state, get_tenant
from api.static_pages import Pages
from db.label_store import UNCERTAIN, WEB, Label, answered, label, sample_to_label

router = APIRouter(tags=["labels"])

PATH: Final = "/label"
_PAGES: Final = Pages(PATH, "label")
KEYLESS_PATHS: Final = _PAGES.paths
MAX_CHARS: Final = 20_000
"""Characters of a text that are shown; the result file has the rest."""


@router.get(PATH, operation_id="label_page", response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _PAGES.response()


@router.get(PATH + "/{name}", operation_id="label_file", response_class=Response, include_in_schema=False)
async def page_file(name: str) -> Response:
    """The page's script and style."""
    return _PAGES.response(name)


@router.get("/v1/pointsman/labels/sample", operation_id="sample_to_label", response_model=LabelSample)
async def sample(
    request: Request,
    by: Literal["mixed", "doubt", "chance", "judged"] = "mixed",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Answers without a label, from the tenant's newest batches.

    ``doubt``: the answers with the lowest confidence; their labels are excluded from quality figures unless requested.
    ``chance``: a uniform sample, as quality figures need it. ``mixed``: both in turns. ``judged``: both answers of 30
    random pairs of each pilot that an LLM judge compared, blind; the report then says how far the judge agrees with
    people. Send each answer's ``by`` back with its label.
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
async def label_answer(request: Request, body: LabelCreate) -> Response:
    """Label an answer. The newest label of an answer counts; labels are never changed."""
    service, tenant = get_state(request), get_tenant(request)
    batch = (await service.status(body.batch_id, tenant=tenant)).batch
    found = {} if batch.id is None else await answered(service.engine, batch.id, [body.custom_id])
    row = found.get(body.custom_id)
    if row is None:
        raise ApiError(404, "The batch has no line with this custom_id.", param="custom_id")
    tier = body.tier or row.stood
    if tier is None or tier not in row.tiers:
        tiers = ", ".join(row.tiers) or "no tier"
        raise bad_request(f"There is no such answer: the line was answered by {tiers}.", param="tier")
    source = UNCERTAIN if body.by in ("doubt", "judged") else WEB
    await label(
        service.engine,
        [Label(row.query_id, tier, body.grade)],
        source=source,
        said_by=get_principal(request).key_name or tenant,
    )
    return json_response(
        {
            "object": "label",
            "batch_id": body.batch_id,
            "custom_id": body.custom_id,
            "tier": tier,
            "grade": body.grade,
        }
    )


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for message in body.get("messages") or ():
        yield {"role": str(message.get("role", ""))[:64], "text": _text(message.get("content"))}


def _answer(response: Mapping[str, Any]) -> str:
    choices = response.get("choices") or [{}]
    return _text((choices[0].get("message") or {}).get("content"))


def _text(content: object) -> str:
    """The text of a message's content; other parts are shown by their type."""
    match content:
        case str():
            text = content
        case list():
            text = "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content if part)
        case _:
            text = ""
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} […]"
