"""docs/schema.md: what Postgres says of the schema that the migrations make."""

from typing import Any, Final

from sqlalchemy import Connection, text

HEADER: Final = """# The tables and views

Written from a migrated database by `UPDATE_SCHEMA_PAGE=1 pytest tests/integration/test_migrations.py`; the same test
fails where this page and the migrations differ. `migrations/versions/0001_baseline.sql` is the home of the schema.
"""

RELATIONS: Final = text("""
SELECT c.oid, c.relname AS name, c.relkind IN ('v', 'm') AS is_view, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
  AND c.relname <> 'alembic_version'
ORDER BY is_view, c.relname
""")
COLUMNS: Final = text("""
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
       pg_get_expr(d.adbin, d.adrelid) AS default, col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
""")
RULES: Final = text("""
SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint WHERE conrelid = :oid AND contype IN ('c', 'p', 'u')
UNION
SELECT regexp_replace(pg_get_indexdef(indexrelid), '^CREATE (UNIQUE )?INDEX (\\S+) ON (ONLY )?\\S+ USING', 'INDEX \\2')
FROM pg_index WHERE indrelid = :oid AND NOT indisunique
ORDER BY rule
""")


def schema_page(connection: Connection) -> str:
    """The page, from the catalog of the database."""
    return HEADER + "".join(_section(connection, relation) for relation in connection.execute(RELATIONS))


def _section(connection: Connection, relation: Any) -> str:
    head = f"\n## {relation.name}{' (view)' if relation.is_view else ''}\n\n"
    head += f"{relation.comment}\n\n" if relation.comment else ""
    columns = connection.execute(COLUMNS, {"oid": relation.oid}).all()
    if relation.is_view:
        return head + "".join(f"- `{column.name}` {column.type}\n" for column in columns)
    rows = "".join(
        f"| `{column.name}` | {column.type} | {'' if column.required else 'null'} "
        f"| {f'`{column.default}`' if column.default else ''} | {column.comment or ''} |\n"
        for column in columns
    )
    rules = connection.execute(RULES, {"oid": relation.oid}).scalars()
    return f"{head}| column | type | | default | |\n|---|---|---|---|---|\n{rows}\n" + "".join(
        f"- `{rule}`\n" for rule in rules
    )
