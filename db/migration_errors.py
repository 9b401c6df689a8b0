"""Why a database cannot be brought to the newest schema."""


class MigrationError(RuntimeError):
    """The message says why; ``hint`` is the fix."""

    hint = ""


class NotOurTables(MigrationError):
    """The tables belong to a role other than the one that migrates."""

    hint = (
        "Migrate with a login that is a member of this role. If the tables are a superuser's and come from a "
        "development version before 0.1.0, start again with an empty database, or run `pointsman down` and set "
        "another POINTSMAN_HOME."
    )

    def __init__(self, owner: str) -> None:
        super().__init__(
            f"The tables of this database belong to {owner}, and this login does not have the rights of that role."
        )


class NotOurSchema(MigrationError):
    """The tables were made by another state of this code."""

    hint = (
        "Use the version that created them, or start again with an empty database, or run `pointsman down` and set "
        "another POINTSMAN_HOME."
    )

    def __init__(self) -> None:
        super().__init__(
            "The tables of this database come from another development version, and this version cannot read them."
        )


class NotOurRole(MigrationError):
    """The roles of another installation on the same server, which the login of this one may not take on."""

    def __init__(self, role: str, login: str) -> None:
        super().__init__(
            f"The role {role} exists on this Postgres server, and the login {login} is not a member of it."
        )
        self.hint = (
            f"As a superuser: GRANT {role} TO {login}. The role belongs to another installation on this server. "
            "docs/operations.md explains how to separate the two."
        )
