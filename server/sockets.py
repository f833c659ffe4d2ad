"""Listening sockets, made before the server starts, so that a taken port is a clear error."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path

BACKLOG = 2048


class AddressError(OSError):
    """The address cannot be listened on; the message says why and what to do."""


class NotLoopback(AddressError):
    """Other machines could reach it, which was not wanted."""


def listen_tcp(host: str, port: int, *, loopback_only: bool = False) -> list[socket.socket]:
    """One socket for each address of ``host``, all on one port; 0 takes any that is free.

    Raises: AddressError; NotLoopback if ``loopback_only`` and ``host`` is more than that.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise AddressError(f"host {host!r} is not known here: {error.strerror}") from None
    addresses = dict.fromkeys((family, str(address[0])) for family, *_, address in found)
    if loopback_only and not all(is_loopback(address) for _, address in addresses):
        raise NotLoopback(f"host {host or 'all addresses'} can be reached from other machines")
    sockets: list[socket.socket] = []
    for family, address in addresses:
        try:
            listener = _listener(family, (address, port))
        except OSError as error:
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # localhost is often given an IPv6 address that is not there
            _close_all(sockets)
            raise AddressError(_explain(error, host, port)) from None
        sockets.append(listener)
        port = listener.getsockname()[1]
    return sockets


def listen_unix(path: Path) -> socket.socket:
    """A socket in the file system; one left behind by a dead process is replaced.

    Raises: AddressError.
    """
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressError(f"{path}: is there and is no socket")
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(path)) == 0:
                raise AddressError(f"{path}: another process listens there")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(f"{path}: {error.strerror}") from None
    return listener


def remove_unix(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def is_loopback(address: str) -> bool:
    """Whether only processes of this machine can reach the IP address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def base_url(listener: socket.socket, *, tls: bool) -> str:
    """The URL of a socket of ``listen_tcp``, as a client on this machine writes it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _listener(family: int, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without, the second write of an answer waits for an ACK
        # that clients delay by 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _close_all(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def _explain(error: OSError, host: str, port: int) -> str:
    where = f"port {port} of {host or 'all addresses'}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use: choose another, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"{where} may not be used by this user: choose one from 1024 up"
    return f"{where}: {error.strerror}"
