"""Whether the routing log is as it was written."""

from db.reports.batch_report import BatchReport
from report.document import Section, Table


def audit(account: BatchReport) -> Section:
    """The verdict on the seals, with the first findings."""
    title = "Audit seal"
    audit = account.audit
    if audit is None:
        return Section(
            "audit", title, ["Not checked here: `pointsman report --audit` or `pointsman audit verify` does."]
        )
    words: list[str] = []
    tables: list[Table] = []
    if audit.findings:
        words.append(f"Broken: {len(audit.findings):,} findings. The routing log is not as it was written.")
        tables.append(
            Table(
                "Findings",
                ["decision", "query", "what"],
                [[str(each.decision_id or "–"), each.query or "–", each.what] for each in audit.findings[:20]],
                frozenset({"query", "what"}),
            )
        )
    elif audit.seals:
        words.append(
            f"Sound: {audit.decisions:,} decisions are as they were written, under {audit.seals:,} "
            f"{'seal' if audit.seals == 1 else 'seals'} in an unbroken chain of hashes."
        )
    else:
        words.append("Nothing is sealed yet.")
    if audit.unsealed:
        words.append(f"{audit.unsealed:,} decisions are not sealed yet: a batch is sealed when it has ended.")
    if audit.purged:
        words.append("Retention has dropped decisions of it: of those only the chain can be checked.")
    if audit.head:
        words.append(f"Last hash: {audit.head}")
    return Section("audit", title, words, tables=tables)
