"""Calls that only judge an answer, extend one, grade one or audit one have purposes of their own."""

from alembic import op

revision = "0018"
down_revision = "0017"

OLD = "purpose IN ('answer', 'hedge', 'route')"
NEW = "purpose IN ('answer', 'audit', 'extend', 'grade', 'hedge', 'route', 'sample', 'verify')"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_calls_purpose_known"), "calls", type_="check")
    op.create_check_constraint(op.f("ck_calls_purpose_known"), "calls", NEW)


def downgrade() -> None:
    # Their purpose is lost, their cost is not: it must not be taken for the routers'.
    op.execute("UPDATE calls SET purpose = 'hedge' WHERE purpose IN ('audit', 'extend', 'grade', 'sample', 'verify')")
    op.drop_constraint(op.f("ck_calls_purpose_known"), "calls", type_="check")
    op.create_check_constraint(op.f("ck_calls_purpose_known"), "calls", OLD)
