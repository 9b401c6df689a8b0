"""The section on whether the routing log is unchanged."""

from db.reports.batch_report import BatchReport
from report.document import Section, Table


def audit(report: BatchReport) -> Section:
    """Return the verdict on the seals, with the first findings."""
    audit = report.audit
    if audit is None:
        paragraph = "Not checked. Run `pointsman report --audit` or `pointsman audit verify`."
        return Section("audit", "Audit seal", [paragraph])
    paragraphs: list[str] = []
    tables: list[Table] = []
    if audit.findings:
        paragraphs.append(
            f"Broken (findings: {len(audit.findings):,}). The routing log was changed after it was written."
        )
        rows = [[str(found.decision_id or "–"), found.query or "–", found.what] for found in audit.findings[:20]]
        tables.append(Table("Findings", ["decision", "query", "finding"], rows, frozenset({"query", "finding"})))
    elif audit.seals:
        seals = f"{audit.seals:,} {'seal' if audit.seals == 1 else 'seals'}"
        paragraphs.append(
            f"Sound: {audit.decisions:,} decisions are unchanged, under {seals} in an unbroken chain of hashes."
        )
    else:
        paragraphs.append("There are no seals yet.")
    if audit.unsealed:
        paragraphs.append(f"Decisions without a seal: {audit.unsealed:,}. A batch is sealed once it has ended.")
    if audit.purged:
        paragraphs.append(
            "Retention has deleted some of this batch's decisions. For those, only the hash chain is checked."
        )
    if audit.head:
        paragraphs.append(f"Last hash: {audit.head}")
    return Section("audit", "Audit seal", paragraphs, tables=tables)
