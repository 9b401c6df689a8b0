"""The moves by which a query leaves its tier."""

from routing.outcome import Failure, FailureKind
from routing.policy.failover import Attempt, failed_at
from routing.reason import code_of
from tasks.stages.tier_moves import exhausted


def test_a_failure_that_ends_a_tier_is_reported_once() -> None:
    broken = Attempt("first", Failure(FailureKind.SERVER_ERROR, "status 500"))
    refused = Attempt("second", Failure(FailureKind.SAFETY, "refused: refusal"))
    reasons = exhausted(failed_at(refused), [broken, refused]).why.reasons
    assert reasons == ["server_error at first (status 500)", "safety at second (refused: refusal)"]
    assert [code_of(reason) for reason in reasons] == ["server_error", "safety"]
    reasons = exhausted("no deployment is left", [broken]).why.reasons
    assert list(map(code_of, reasons)) == ["server_error", "no_deployment"]
