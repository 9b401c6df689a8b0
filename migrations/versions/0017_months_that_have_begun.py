"""A month of which rows were written before its partition was made stays where they are, and the others are made."""

from alembic import op

revision = "0017"
down_revision = "0016"

UP = """
CREATE OR REPLACE FUNCTION pointsman_add_partitions(ahead integer) RETURNS integer
-- A new partition locks its table: behind a backup all others would wait for as long as this does.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' SET lock_timeout = '1s'
AS $$
DECLARE
    parent text;
    moment text;
    month timestamptz;
    child text;
    begun boolean;
    added integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['calls', 'decisions'] LOOP
        moment := CASE parent WHEN 'calls' THEN 'created_at' ELSE 'at' END;
        FOR step IN 0..ahead LOOP
            month := date_trunc('month', now()) + make_interval(months => step);
            child := parent || '_' || to_char(month, 'YYYY_MM');
            CONTINUE WHEN to_regclass('public.' || child) IS NOT NULL;
            EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %I >= %L AND %I < %L)',
                           parent || '_other', moment, month, moment, month + interval '1 month') INTO begun;
            CONTINUE WHEN begun;
            BEGIN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                               child, parent, month, month + interval '1 month');
                added := added + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;  -- it has begun since
            END;
        END LOOP;
    END LOOP;
    RETURN added;
END $$;
"""

DOWN = """
CREATE OR REPLACE FUNCTION pointsman_add_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    parent text;
    month timestamptz;
    child text;
    added integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['calls', 'decisions'] LOOP
        FOR step IN 0..ahead LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                     + make_interval(months => step);
            child := parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
            IF to_regclass('public.' || child) IS NULL THEN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                               child, parent, month, month + interval '1 month');
                added := added + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN added;
END $$;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP.replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN.replace("%", "%%"))
