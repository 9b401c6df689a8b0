"""The whole schema: 0001_baseline.sql. Later migrations change it; this file and its SQL then stay as they are."""

from pathlib import Path

from alembic import op

revision = "0001_baseline"
down_revision = None


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """
        DROP VIEW routing_log, query_trace, batch_summary, tier_daily, escalations, provider_health;
        DROP TABLE batches, budgets, queries, prompts, answers, calls, seals, kept_calls, labels, shadows, routers,
            router_files, router_promotions, workers, stages, tenants, api_keys, files, file_pieces, api_batches,
            webhooks, webhook_messages, account_faults, provider_batches, pilots, grades, audits, price_lists,
            followers, request_keys, spend_daily, workload_sums;
        DROP FUNCTION pointsman_add_partitions(integer), pointsman_decision_hash(decisions),
            pointsman_seal(bigint, integer), pointsman_delete_orphans(bigint), pointsman_keep_certificate();
        DROP TABLE decisions;
        DROP SEQUENCE query_blocks, call_blocks;
        """
    )
