"""What may go wrong: every error is a `PointsmanError`."""


class PointsmanError(Exception):
    """A request was refused or failed. ``status`` is the HTTP status, None where there was no response."""

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class BatchFailedError(PointsmanError):
    """The batch was rejected: its message names the first invalid lines. Nothing was answered or paid."""


class WaitTimeoutError(PointsmanError):
    """The batch has not ended in time. It is still running: wait again, or cancel it."""
