"""Why a database cannot be brought to the newest schema."""


class MigrationError(RuntimeError):
    """The message says why; ``hint`` is the fix."""

    hint = ""


class NotOurTables(MigrationError):
    """The tables belong to a role other than the one that migrates."""

    hint = (
        "Migrate with a login that is a member of it. Where a superuser's tables are of a development version before "
        "0.1.0, start over: an empty database; or `pointsman down`, and another POINTSMAN_HOME."
    )

    def __init__(self, owner: str) -> None:
        super().__init__(f"The tables of this database belong to {owner}, whose rights this login does not have.")


class NotOurSchema(MigrationError):
    """The tables were made by another state of this code."""

    hint = (
        "Use the version that made them, or start over: an empty database; or `pointsman down`, and another "
        "POINTSMAN_HOME."
    )

    def __init__(self) -> None:
        super().__init__(
            "The tables of this database were made by another development version, which this one cannot read."
        )


class NotOurRole(MigrationError):
    """The roles of another installation on the same server, which the login of this one may not take on."""

    def __init__(self, role: str, login: str) -> None:
        super().__init__(
            f"The role {role} exists on this Postgres server, and the login {login} is not a member of it."
        )
        self.hint = (
            f"As a superuser: GRANT {role} TO {login}. The role is of another installation on this server: "
            "docs/operations.md says how to keep the two apart."
        )
