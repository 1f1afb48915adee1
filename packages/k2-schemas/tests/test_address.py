"""A host is this machine's own only if nobody can be in between."""

import pytest

from k2_schemas.address import is_local, is_loopback


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_a_host_is_own_by_name_or_number(host: str, own: bool):
    """Also as a JVM writes it."""
    assert is_local(host) is own


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("ws://127.0.0.1:8765/x", True),
        ("http://[::1]:80", True),
        ("http://me@localhost/x", True),
        ("http://127.0.0.1@evil.example/x", False),
        ("no url", False),
    ],
)
def test_of_a_url_the_host_counts(url: str, own: bool):
    """Not who logs in, nor the path."""
    assert is_loopback(url) is own
