"""The user of this machine at the other end of a TCP connection over loopback, according to the Linux kernel.

It is queried by a netlink message of `sock_diag(7)`, as ``ss`` does, which takes 0.1 ms with any number of sockets.
``/proc/net/tcp`` takes a thousand times as long. A socket of another network namespace (a container) is not found.
"""

import os
import socket
import struct
import sys
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

_SOCK_DIAG: Final = 4
"""The netlink family."""
_BY_FAMILY: Final = 20
"""The type of request and reply: ``SOCK_DIAG_BY_FAMILY``."""
_REQUEST: Final = struct.Struct("=IHHII BBBBI")
"""``nlmsghdr`` and the start of ``inet_diag_req_v2``: family, protocol, extensions, padding, states."""
_PORTS: Final = struct.Struct(">HH")
_SOCKET_ID: Final = struct.Struct("=4s16s16sIII")
"""``inet_diag_sockid``: ports, source, destination, interface, cookie."""
_REPLY: Final = struct.Struct("=4xHHII BBBB48s IIIII")
"""``nlmsghdr`` without its length and ``inet_diag_msg``: family, state, timer, retransmits, socket id, expiry, queues,
uid, inode."""
_ANY: Final = 0xFFFFFFFF
_ESTABLISHED: Final = 1


def is_own_user(own: tuple[Any, ...] | None, peer: tuple[Any, ...] | None) -> bool:
    """Whether this process's user opened the socket at ``peer`` that is connected to ``own``: (host, port, …) each.

    False if that cannot be determined: on a system other than Linux, and for a socket that is closed already (None), on
    another machine or in another network namespace.
    """
    if sys.platform != "linux" or not own or not peer:
        return False
    return _user_id(local=peer, remote=own) == os.geteuid()


def _user_id(*, local: tuple[Any, ...], remote: tuple[Any, ...]) -> int | None:
    """Return the user of the established TCP socket with these addresses."""
    source, destination = ip_address(local[0]), ip_address(remote[0])
    family = socket.AF_INET if isinstance(source, IPv4Address) else socket.AF_INET6
    request = _SOCKET_ID.pack(
        _PORTS.pack(local[1], remote[1]),
        source.packed.ljust(16, b"\0"),
        destination.packed.ljust(16, b"\0"),
        0,
        _ANY,
        _ANY,
    )
    size = _REQUEST.size + len(request)
    head = _REQUEST.pack(size, _BY_FAMILY, 1, 1, 0, family, socket.IPPROTO_TCP, 0, 0, _ANY)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _SOCK_DIAG) as kernel:
            kernel.send(head + request)
            reply = kernel.recv(4096)  # the kernel answers before `send` returns
    except OSError:
        return None
    if len(reply) < _REPLY.size:
        return None
    kind, _, _, _, _, state, _, _, _, _, _, _, user, inode = _REPLY.unpack_from(reply)
    # A socket that its program has closed has no inode, and is said to be root's.
    return user if (kind, state) == (_BY_FAMILY, _ESTABLISHED) and inode else None
