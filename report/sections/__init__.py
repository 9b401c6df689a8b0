"""The sections of a report, one file each."""

from collections.abc import Callable

import structlog

from db.reports.batch_report import BatchReport
from report.document import Section
from report.sections.audit_section import audit
from report.sections.forecast_section import forecast
from report.sections.judge_section import judge
from report.sections.models_section import models
from report.sections.providers_section import providers
from report.sections.quality_section import quality
from report.sections.queries_section import least_confident, most_expensive
from report.sections.query_flow_section import query_flow
from report.sections.tiers_section import tiers
from report.sections.workloads_section import workloads

log = structlog.get_logger()


def sections(report: BatchReport) -> list[Section]:
    """Return all sections, in order."""
    all_ = (
        quality,
        query_flow,
        tiers,
        workloads,
        models,
        providers,
        judge,
        forecast,
        most_expensive,
        least_confident,
        audit,
    )
    return [_made(section, report) for section in all_]


def _made(section: Callable[[BatchReport], Section], report: BatchReport) -> Section:
    try:
        return section(report)
    except Exception as error:  # one section must not cost the reader the others
        name = section.__name__.replace("_", "-")
        log.exception("report_section_failed", section=name)
        text = f"This section could not be made ({type(error).__name__}). The other sections do not depend on it."
        return Section(name, name.replace("-", " ").capitalize(), [text])
