"""Hosts with a network of their own: namespaces whose links meet in the namespace of this process, which routes.

A host's traffic to others is *forwarded* here, so a rule of the FORWARD chain breaks it and leaves this process, which
looks on, undisturbed; a link that is down is down for this process too. Addresses are of 198.18.0.0/15 (RFC 2544), and
no route leads out of these namespaces.
"""

import ctypes
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUTS, _CLONE_NEWNET = 0x04000000, 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1500

Way = Literal["out", "in"]
"""Seen from the host."""


def run(*argv: str | Path) -> str:
    """What a command prints. Raises CalledProcessError, with its errors on our own stderr."""
    return subprocess.run([str(part) for part in argv], check=True, stdout=subprocess.PIPE, text=True).stdout


def forward_loopback(port: int, address: str) -> None:
    """Has ``127.0.0.1:port`` of this thread's host lead to another: a simulated fleet names loopback only."""
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    nat = ("iptables", "-w", "-t", "nat", "-A")
    run(*nat, "OUTPUT", "-d", "127.0.0.1", "-p", "tcp", "--dport", str(port), "-j", "DNAT", "--to", f"{address}:{port}")
    run(*nat, "POSTROUTING", "-d", address, "-j", "MASQUERADE")


def _check(status: int, what: str) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


@dataclass
class Host:
    """A namespace with one link. ``delay_ms``: of each packet, each way, by a wire in user space."""

    name: str
    number: int
    delay_ms: float = 0.0
    wire: "SlowWire | None" = None

    def __post_init__(self) -> None:
        run("ip", "netns", "add", self.name)
        if self.delay_ms:
            with self.entered():
                far = _open_tun("eth0")
            self.wire = SlowWire(_open_tun(self.link), far, delay_s=self.delay_ms / 1000)
        else:
            run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "address", "add", f"198.18.{self.number}.1/24", "dev", self.link)
        run("ip", "link", "set", self.link, "up")
        inside = ("ip", "-n", self.name)
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*inside, "link", "set", device, "up")
        run(*inside, "route", "add", "default", "via", f"198.18.{self.number}.1")

    @property
    def address(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def link(self) -> str:
        """The device at our end of its link."""
        return f"to-{self.name}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is on the host: its sockets and the processes that it starts are there, and keep its name."""
        task = f"/proc/self/task/{threading.get_native_id()}/ns"
        homes = [
            (os.open(f"{task}/net", os.O_RDONLY), _CLONE_NEWNET),
            (os.open(f"{task}/uts", os.O_RDONLY), _CLONE_NEWUTS),
        ]
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _check(_LIBC.setns(there, _CLONE_NEWNET), "setns")
            _check(_LIBC.unshare(_CLONE_NEWUTS), "unshare")
            socket.sethostname(self.name)
            yield
        finally:
            for home, kind in homes:
                _check(_LIBC.setns(home, kind), "setns")
                os.close(home)
            os.close(there)

    # -- faults ----------------------------------------------------------------------------

    def unplug(self) -> None:
        """The link is down."""
        run("ip", "link", "set", self.link, "down")

    def plug(self) -> None:
        """It is up again."""
        run("ip", "link", "set", self.link, "up")

    def silence(self, *ways: Way) -> None:
        """What this host sends, or is sent, is lost without a word."""
        for way in ways:
            run("iptables", "-w", "-I", "FORWARD", *self._rule(way), "-j", "DROP")

    def unsilence(self, *ways: Way) -> None:
        """As before `silence`."""
        for way in ways:
            run("iptables", "-w", "-D", "FORWARD", *self._rule(way), "-j", "DROP")

    def lose(self, share: float) -> None:
        """This share of the packets is lost, each way."""
        for way in ("out", "in"):
            by_chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
            run("iptables", "-w", "-I", "FORWARD", *self._rule(way), *by_chance, "-j", "DROP")

    def _rule(self, way: Way) -> tuple[str, str]:
        return ("-i" if way == "out" else "-o", self.link)

    def freeze(self) -> None:
        """A machine that stands still: its processes, and its kernel, which acknowledges nothing either."""
        self.silence("in", "out")
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it stood."""
        self._signal(signal.SIGCONT)
        self.unsilence("in", "out")

    def die(self) -> None:
        """The power fails: nobody says good-bye, and nothing answers any more."""
        self.silence("in", "out")
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in run("ip", "netns", "pids", self.name).split():
            if int(pid) != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), number)


@dataclass
class Network:
    """All hosts by name."""

    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run("ip", "link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def add(self, name: str, *, delay_ms: float = 0.0) -> Host:
        self.hosts[name] = host = Host(name, len(self.hosts) + 1, delay_ms)
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def heal(self) -> None:
        """Every rule of `Host.silence` and `Host.lose` is gone."""
        run("iptables", "-w", "-F", "FORWARD")

    def remove(self) -> None:
        """Ends what still runs on the hosts, and removes them."""
        self.heal()
        for host in self.hosts.values():
            host._signal(signal.SIGKILL)
            if host.wire is not None:
                host.wire.close()
            else:
                run("ip", "link", "delete", host.link)
            run("ip", "netns", "delete", host.name)
        self.hosts.clear()


def _open_tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


class SlowWire:
    """Carries packets between two TUN devices, each ``delay_s`` later: what netem does where the kernel has it."""

    def __init__(self, near: int, far: int, *, delay_s: float) -> None:
        self.delay_s = delay_s
        self._ends = {near: far, far: near}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        under_way: deque[tuple[float, int, bytes]] = deque()
        with selectors.DefaultSelector() as ready:
            for end in self._ends:
                ready.register(end, selectors.EVENT_READ)
            while not self._over.is_set():
                wait_s = max(under_way[0][0] - time.monotonic(), 0.0) if under_way else 0.1
                for key, _ in ready.select(min(wait_s, 0.1)):
                    with suppress(OSError):  # the device is not up yet
                        packet = os.read(key.fd, _MTU + 64)
                        under_way.append((time.monotonic() + self.delay_s, self._ends[key.fd], packet))
                while under_way and under_way[0][0] <= time.monotonic():
                    _, end, packet = under_way.popleft()
                    with suppress(OSError):
                        os.write(end, packet)

    def close(self) -> None:
        """The devices go with their descriptors."""
        self._over.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)
