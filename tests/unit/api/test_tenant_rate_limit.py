"""A tenant's requests per minute, in one process."""

from api.tenant_rate_limit import LocalTenantRateLimit


def test_a_limit_is_kept_over_a_minute_and_says_how_long_to_wait() -> None:
    now = [0.0]
    rate = LocalTenantRateLimit(clock=lambda: now[0])
    taken = 0
    for step in range(6000):
        now[0] = step / 100
        taken += rate.take("a", per_min=60) == 0
    assert 60 <= taken <= 66  # the bucket's six, and one a second
    now[0] = 61.0
    while rate.take("a", per_min=60) == 0:
        pass
    wait_s = rate.take("a", per_min=60)
    now[0] += wait_s
    assert 0 < wait_s <= 1
    assert rate.take("a", per_min=60) == 0


def test_tenants_do_not_share_a_bucket() -> None:
    rate = LocalTenantRateLimit(clock=lambda: 0.0)
    assert rate.take("a", per_min=1) == 0
    assert rate.take("a", per_min=1) > 0
    assert rate.take("b", per_min=1) == 0
