"""The role that a request needs. This is the only place that decides it, for every route."""

from typing import Final

from api.auth import Principal
from api.http_errors import ApiError
from db.tenants import DEFAULT_TENANT, Role

_RANKS: Final = {role: rank for rank, role in enumerate(Role)}
_READS: Final = frozenset({"GET", "HEAD"})
_ADMIN: Final = ("/v1/pointsman/keys", "/v1/pointsman/routers")
_ADMIN_READS: Final = ("/v1/pointsman/keys",)

PAGE_HEADER: Final = "x-pointsman-page"
"""The header that the pages send. Another site's page cannot send it without a permission that this service never gives
(CORS)."""


def required_role(method: str, path: str) -> Role:
    """Return the minimum role for a request: viewer to read, operator to change, admin for keys and routers."""
    if path.startswith(_ADMIN_READS if method in _READS else _ADMIN):
        return Role.ADMIN
    return Role.VIEWER if method in _READS else Role.OPERATOR


def sees_all_tenants(principal: Principal) -> bool:
    """Whether ``principal`` may see figures of all tenants: only an operator or admin of the tenant `default`."""
    return principal.tenant == DEFAULT_TENANT and _RANKS[principal.role] >= _RANKS[Role.OPERATOR]


def check_role(principal: Principal, method: str, path: str, *, is_page: bool) -> None:
    """Raise ApiError 403 if ``principal`` lacks the role. ``is_page``: the request has `PAGE_HEADER`."""
    if principal.is_by_proxy and method not in _READS and not is_page:
        # The browser adds a proxy's cookie by itself, also to a request of another site's page.
        message = (
            f"A change through the proxy's login needs the header {PAGE_HEADER}: 1. Programs use an API key instead."
        )
        raise ApiError(403, message, code="not_from_a_page", should_retry=False)
    needed = required_role(method, path)
    if _RANKS[principal.role] < _RANKS[needed]:
        message = (
            f"This request needs the role {needed}, and this key has {principal.role}. fix: create a key with "
            "`pointsman keys create --role`."
        )
        raise ApiError(403, message, code="role_too_low", should_retry=False)
