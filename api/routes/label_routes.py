"""``/label``: a page for labeling answers as right or wrong, and its two routes."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http_errors import ApiError, bad_request, conflict
from api.responses import json_response
from api.schemas import LabelCreate, LabelObject, LabelSample
from api.state import get_principal, get_state, get_tenant
from api.static_pages import Pages
from db.label_store import MOST_LABELS, UNCERTAIN, WEB, Label, answered, label, sample_to_label, texts_to_label

router = APIRouter(tags=["labels"])

PATH: Final = "/label"
_PAGES: Final = Pages(PATH, "label")
KEYLESS_PATHS: Final = _PAGES.paths


@router.get(PATH, include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _PAGES.response()


@router.get(PATH + "/{name}", include_in_schema=False)
async def page_file(name: str) -> Response:
    """The page's script and style."""
    return _PAGES.response(name)


@router.get("/v1/pointsman/labels/sample", operation_id="sample_to_label", response_model=LabelSample)
async def sample(
    request: Request,
    by: Literal["mixed", "doubt", "chance", "judged"] = "mixed",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Return answers without a label, from the tenant's newest batches.

    ``doubt``: the answers with the lowest confidence, whose labels are excluded from quality figures unless requested.
    ``chance``: a uniform sample, as quality figures need it. ``mixed``: both in turns. ``judged``: both answers of 30
    random pairs of each pilot that an LLM judge compared, blind; the report then shows how far the judge agrees with
    people. Send each answer's ``by`` back with its label.
    """
    service, tenant = get_state(request), get_tenant(request)
    async with service.heavy_read(tenant, fix="ask for fewer answers"):
        rows = await sample_to_label(service.engine, tenant, by=by, rows=limit)
        texts = await texts_to_label(service.engine, rows)
    data = [
        {
            "object": "answer",
            "batch_id": row.batch_id,
            "custom_id": row.custom_id,
            "tier": row.tier,
            "model": row.model,
            "confidence": row.confidence,
            "by": row.by,
            "messages": [{"role": role, "text": text} for role, text in shown.messages],
            "answer": shown.answer,
        }
        for row, shown in zip(rows, texts, strict=True)
    ]
    return json_response({"object": "list", "data": data})


@router.post("/v1/pointsman/labels", response_model=LabelObject)
async def label_answer(request: Request, body: LabelCreate) -> Response:
    """Label an answer. The newest label of an answer counts. Labels are never changed."""
    service, tenant = get_state(request), get_tenant(request)
    batch = (await service.status(body.batch_id, tenant=tenant)).batch
    found = {} if batch.id is None else await answered(service.engine, batch.id, [body.custom_id])
    row = found.get(body.custom_id)
    if row is None:
        raise ApiError(404, "The batch has no line with this custom_id.", param="custom_id")
    tier = body.tier or row.stood
    if tier is None or tier not in row.tiers:
        tiers = ", ".join(row.tiers) or "no tier"
        raise bad_request(f"This tier did not answer the line. These tiers did: {tiers}.", param="tier")
    source = UNCERTAIN if body.by in ("doubt", "judged") else WEB
    written = await label(
        service.engine,
        [Label(row.query_id, tier, body.grade)],
        source=source,
        said_by=get_principal(request).key_name or tenant,
        most=MOST_LABELS,
    )
    if not written:
        most = f"The line already has {MOST_LABELS} labels, which is the maximum. Its newest labels stay valid."
        raise conflict(most, code="quota_reached")
    return json_response(
        {
            "object": "label",
            "batch_id": body.batch_id,
            "custom_id": body.custom_id,
            "tier": tier,
            "grade": body.grade,
        }
    )
