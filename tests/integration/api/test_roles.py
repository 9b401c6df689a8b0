"""Who may do what: each route with each role, and the login by a proxy's header."""

from dataclasses import replace
from ipaddress import ip_network

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.api_config import TrustedProxy
from api.roles import required_role
from db.router_registry import register
from db.tenants import IdentityTaken, Role, Tenants
from evaluation.models.artifact_cache import SHIPPED, bundle
from routing.fleet import Fleet
from settings import Settings
from tests.integration.api.conftest import CONFIG, Served, line, serving
from tests.integration.api.test_batch_routes import create, upload
from tests.integration.api.test_isolation import beginning, locked
from tests.integration.ledger_fixtures import LedgerHarness

ADMINS = {
    ("GET", "/v1/pointsman/keys"),
    ("POST", "/v1/pointsman/keys"),
    ("DELETE", "/v1/pointsman/keys/{id}"),
    ("POST", "/v1/pointsman/routers/rollback"),
    ("POST", "/v1/pointsman/routers/{name}/promote"),
}
"""What the table in docs/security.md says of admins; of all else a viewer may read it and an operator change it."""


def test_each_route_refuses_the_roles_below_its_own_and_no_other(module_served: Served) -> None:
    found = locked(module_served.app)
    assert found >= ADMINS
    ranks = list(Role)
    for role in Role:
        with module_served.client(module_served.key("default", role=role)) as client:
            for method, path in sorted(found):
                needed = Role.ADMIN if (method, path) in ADMINS else Role.VIEWER if method == "GET" else Role.OPERATOR
                place = path.replace("{name}", "nothing").replace("{id}", "0" * 12)
                if place.endswith("rollback"):
                    assert required_role(method, place) is needed
                    continue
                status, text = beginning(client, method, place, **({} if method == "GET" else {"json": {}}))
                is_refused = status == 403 and "role_too_low" in text
                assert is_refused == (ranks.index(role) < ranks.index(needed)), (role, method, path, status, text)


def test_an_admin_manages_the_keys_of_its_tenant_alone(served: Served) -> None:
    other = served.key("b")
    with served.client(served.key("a", role=Role.ADMIN)) as client:
        made = client.post("/v1/pointsman/keys", json={"name": "ci", "role": "viewer"}).json()
        listed = client.get("/v1/pointsman/keys").json()["data"]
        assert [(key["name"], key["role"]) for key in listed] == [("test", "admin"), ("ci", "viewer")]
        assert made["key"] not in client.get("/v1/pointsman/keys").text
        with served.client(made["key"]) as viewer:
            assert viewer.get("/v1/batches").status_code == 200
        assert client.delete(f"/v1/pointsman/keys/{other.split('-')[1]}").status_code == 404
        assert client.delete(f"/v1/pointsman/keys/{made['id']}").status_code == 200
        assert client.post("/v1/pointsman/routers/rollback").json()["error"]["code"] == "operators_only"
    with served.client(other) as client:
        assert client.get("/v1/batches").status_code == 200


def test_an_admin_promotes_a_router_and_rolls_it_back(served: Served) -> None:
    served.play(lambda bench: register_shipped(bench.engine, "v1"))
    with served.client(served.key("default", role=Role.ADMIN)) as client:
        unknown = client.post("/v1/pointsman/routers/nothing/promote")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (409, "not_promoted")
        promoted = client.post("/v1/pointsman/routers/v1/promote").json()
        assert [(one["name"], one["promoted_by"], one["undone_at"]) for one in promoted["history"]] == [
            ("v1", "test", None)
        ]
        assert (promoted["promoted"], [one["name"] for one in promoted["routers"]]) == ("v1", ["v1"])
        assert client.post("/v1/pointsman/routers/rollback").json()["history"][0]["undone_by"] == "test"
        assert client.post("/v1/pointsman/routers/rollback").json()["error"]["code"] == "nothing_promoted"


async def register_shipped(engine: AsyncEngine, name: str) -> None:
    """The shipped router once more, under another name."""
    files = bundle(SHIPPED)
    await register(engine, name=name, digest=files.digest, manifest=files.manifest, files=files.files, by="test")


HEADER = {"x-forwarded-user": "ada@example.com"}


def test_a_proxys_header_logs_in_only_from_a_trusted_address(settings: Settings, shipped_fleet: Fleet) -> None:
    def invite(served: Served, role: Role) -> None:
        async def story(bench: LedgerHarness) -> None:
            tenants = Tenants(bench.engine)
            await tenants.create_key(tenant="research", name="ada", role=role, identity="ada@example.com")
            with pytest.raises(IdentityTaken):
                await tenants.create_key(tenant="research", name="twin", identity="ada@example.com", day_usd=0.0)
            assert [key.day_usd for key in await tenants.keys(tenant="research")] == [None]

        served.play(story)

    trusting = replace(CONFIG, proxy=TrustedProxy("X-Forwarded-User", (ip_network("127.0.0.0/8"),)))
    with serving(settings, shipped_fleet, trusting) as served:
        invite(served, Role.OPERATOR)
        asked = {"headers": HEADER, "base_url": served.url, "timeout": 60.0}
        with httpx.Client(**asked) as browser:  # type: ignore[arg-type]  # a client's arguments
            assert browser.get("/v1/pointsman/figures").json()["tenant"] == "research"
            # A form of another site's page: the browser adds the proxy's cookie by itself.
            forged = browser.post("/v1/batches/batch_x/cancel")
            assert (forged.status_code, forged.json()["error"]["code"]) == (403, "not_from_a_page")
            browser.headers["x-pointsman-page"] = "1"
            assert create(browser, upload(browser, [line("a")])["id"])["status"] == "validating"
            assert browser.get("/v1/pointsman/keys").json()["error"]["code"] == "role_too_low"
            assert browser.get("/v1/batches", headers={"x-forwarded-user": "eve@example.com"}).status_code == 401
        twice = [("x-forwarded-user", "ada@example.com"), ("x-forwarded-user", "eve@example.com")]
        assert httpx.get(f"{served.url}/v1/batches", headers=twice).status_code == 401
    elsewhere = replace(CONFIG, proxy=TrustedProxy("X-Forwarded-User", (ip_network("10.0.0.5"),)))
    for config in (elsewhere, CONFIG):
        with serving(settings, shipped_fleet, config) as served:
            assert httpx.get(f"{served.url}/v1/batches", headers=HEADER).status_code == 401
