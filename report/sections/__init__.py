"""What a report says, section by section, whatever it is written as: a file each."""

from db.reports.account import Account
from report.section import Section
from report.sections.audit import audit
from report.sections.judge import judge
from report.sections.models import models
from report.sections.plan import plan
from report.sections.providers import providers
from report.sections.quality import quality
from report.sections.queries import dearest, doubtful
from report.sections.tiers import tiers
from report.sections.ways import ways


def sections(account: Account) -> list[Section]:
    """All of them, in order."""
    every = (quality, ways, tiers, models, providers, judge, plan, dearest, doubtful, audit)
    return [section(account) for section in every]
