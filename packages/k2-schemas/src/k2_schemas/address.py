"""Address: whether a host, or a URL's, is this machine's own: nobody is in between."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine's own."""
    return is_local(urlsplit(url).hostname or "")


def is_local(host: str) -> bool:
    """Tell whether a host, by name or number, is this machine's own."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    # A JVM's sockets are of the sixth version, also those on 127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
