"""How the service is set up."""

import pytest

from api.api_config import ApiConfig
from settings import SettingsError


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_only_loopback_is_this_machine_alone(host: str, local: bool) -> None:
    assert ApiConfig(host=host).on_loopback is local


def test_limits_come_from_the_environment() -> None:
    config = ApiConfig.load({"POINTSMAN_API_MAX_FILE_BYTES": "1000", "POINTSMAN_API_PRIVATE_WEBHOOKS": "1"})
    assert (config.max_file_bytes, config.max_batch_lines, config.private_webhooks) == (1000, 50_000, True)


@pytest.mark.parametrize("given", ["0", "-1", "many", "1e3", "٣"])
def test_what_is_no_number_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(SettingsError, match="POINTSMAN_API_MAX_BATCH_LINES"):
        ApiConfig.load({"POINTSMAN_API_MAX_BATCH_LINES": given})


@pytest.mark.parametrize(
    "given",
    [
        {"POINTSMAN_API_IDENTITY_HEADER": "X-Forwarded-User"},
        {"POINTSMAN_API_TRUSTED_PROXIES": "10.0.0.5"},
        {"POINTSMAN_API_IDENTITY_HEADER": "X-Forwarded-User", "POINTSMAN_API_TRUSTED_PROXIES": "proxy.example"},
    ],
)
def test_a_trusted_proxy_is_a_header_and_addresses(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="POINTSMAN_API_TRUSTED_PROXIES"):
        ApiConfig.load(given)
    both = {"POINTSMAN_API_IDENTITY_HEADER": "X-User", "POINTSMAN_API_TRUSTED_PROXIES": "10.0.0.5, fd00::/8"}
    assert len(ApiConfig.load(both).proxy.addresses) == 2  # type: ignore[union-attr]
