"""Refuse the network to this process, and note each attempt in a file.

Python imports a module of this name when it starts. `conftest.py` loads it into the
test run and puts its folder on the path of every child process.
"""

import os
import sys
from pathlib import Path

LOG = "NO_NETWORK_LOG"
"""Environment variable: the file that attempts are noted in."""
LOOPBACK = "NO_NETWORK_LOOPBACK"
"""Environment variable: set where the machine's own address is allowed."""
OWN_ADDRESSES = ("127.0.0.1", "::1", "localhost", "")

TO_ADDRESS = ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg")
IPV6_PROBE = ("::1", 0)
"""What urllib3 binds to for a moment when imported, to learn whether IPv6 is there."""
TO_NAME = ("socket.getaddrinfo", "socket.gethostbyname")


class NetworkForbiddenError(RuntimeError):
    """A test reached for the network."""


def _host(address: object) -> str | None:
    """Return the host of a socket address, None for a socket in the file system."""
    return _name(address[0]) if isinstance(address, tuple) else None


def _name(host: object) -> str:
    """Return a host as text; none given means this machine."""
    return host.decode() if isinstance(host, bytes) else str(host or "")


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where an event of the interpreter is a step towards another machine."""
    if event in TO_ADDRESS:
        probe = event == "socket.bind" and arguments[1] == IPV6_PROBE
        host = None if probe else _host(arguments[1])
    elif event in TO_NAME:
        host = _name(arguments[0])
    else:
        return
    own = host in OWN_ADDRESSES and LOOPBACK in os.environ
    if host is None or own:
        return
    message = f"{event} to {host!r}"
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a", encoding="utf-8") as log:
            log.write(message + "\n")
    raise NetworkForbiddenError(message)


sys.addaudithook(_refuse)
