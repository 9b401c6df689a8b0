"""Where a webhook may go."""

import asyncio
from ipaddress import ip_address

import pytest

from api.webhook_client import ForbiddenAddress, parse_target, resolve
from providers.public_host import is_public

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"),
    *("192.0.0.192", "192.88.99.1", "168.63.129.16", "3fff::1", "5f00::1", "2001:30::1", "100:0:0:1::1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "2001:0:808:808::", "fd00:ec2::254"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_a_machine_or_its_network_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https:///path",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com/a b",
        "https://example.com/\r\nhost: evil",
        "https://exämple.com/",
        "https://example.com:99999/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "",
    ],
)
def test_a_url_that_must_not_be_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        parse_target(url, private=False)


def test_a_url_is_taken_apart() -> None:
    target = parse_target("https://example.com:8443/hook?x=1#part", private=False)
    assert (target.secure, target.host, target.port, target.path) == (True, "example.com", 8443, "/hook?x=1")
    assert target.authority == "example.com:8443"
    assert parse_target("https://example.com", private=False).authority == "example.com"
    assert parse_target("http://[::1]:8080/", private=True).authority == "[::1]:8080"


def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_looked_up() -> None:
    target = parse_target("https://localhost/", private=False)
    with pytest.raises(ForbiddenAddress):
        asyncio.run(resolve(target, private=False))
    assert asyncio.run(resolve(target, private=True))


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
def test_other_ways_to_write_an_address_do_not_get_around_it(host: str) -> None:
    target = parse_target(f"https://{host}/", private=False)
    with pytest.raises((ForbiddenAddress, OSError)):
        asyncio.run(resolve(target, private=False))
