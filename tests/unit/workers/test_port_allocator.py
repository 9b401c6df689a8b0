"""Two stacks on one machine never have the same port."""

import os
import socket
import sys
from pathlib import Path

import pytest

from routing.fleet import Fleet
from settings import Settings
from workers.local_stack import LocalStack
from workers.port_allocator import PortAllocator


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, claimed by nobody."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with PortAllocator() as ports:
        return ports.any()


def test_the_usual_port_is_claimed_once_although_nobody_listens_yet(usual: int) -> None:
    with PortAllocator() as first, PortAllocator() as second:
        assert first.claim(usual) == usual
        assert second.claim(usual) != usual
    with PortAllocator() as third:
        assert third.claim(usual) == usual


def test_a_port_where_somebody_listens_is_left_alone(usual: int) -> None:
    with socket.create_server(("127.0.0.1", usual)), PortAllocator() as ports:
        assert ports.claim(usual) not in (usual, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child listen where its parent holds the port")
def test_a_port_is_given_to_nobody_else_before_its_child_listens_nor_between_two_of_them(usual: int) -> None:
    with PortAllocator() as ports:
        for port in (ports.claim(usual), ports.any()):
            for _ in range(2):
                with socket.socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind(("127.0.0.1", port))
                with socket.create_server(("127.0.0.1", port)) as child:
                    assert child.getsockname()[1] == port


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_a_lock_of_somebody_else_means_another_port(usual: int, tmp_path: Path) -> None:
    (tmp_path / "pointsman").mkdir(mode=0o700, exist_ok=True)
    (tmp_path / "pointsman" / f"port-{usual}.lock").touch(0o000)
    with PortAllocator() as ports:
        assert ports.claim(usual) != usual


def test_another_port_than_the_usual_is_reported(usual: int, tmp_path: Path, shipped_fleet: Fleet) -> None:
    said: list[str] = []
    stack = LocalStack(Settings.load({"POINTSMAN_HOME": str(tmp_path)}), shipped_fleet, tell=said.append)
    with socket.create_server(("127.0.0.1", usual)), stack._ports:
        port = stack._claim(usual)
    assert said == [f"port {usual} is taken; using {port}"]
