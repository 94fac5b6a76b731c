# SPDX-License-Identifier: MIT
import socket

import pytest

from smls.address import Advertise, Reached, reach
from smls.errors import BadRecord

OUTSIDE = Reached("192.0.2.7", "198.51.100.1")
LOOPBACK = Reached("127.0.0.1", "198.51.100.1")


@pytest.mark.parametrize(
    ("explicit", "host", "reached", "address"),
    [
        ("gpu1", "127.0.0.1", OUTSIDE, "gpu1:8501"),
        ("gpu1:80", "", OUTSIDE, "gpu1:80"),
        ("203.0.113.5:80", "", OUTSIDE, "203.0.113.5:80"),
        ("2001:db8::1", "", OUTSIDE, "[2001:db8::1]:8501"),
        ("[2001:db8::1]", "", OUTSIDE, "[2001:db8::1]:8501"),
        ("[2001:db8::1]:80", "", OUTSIDE, "[2001:db8::1]:80"),
        ("", "203.0.113.9", OUTSIDE, "203.0.113.9:8501"),
        ("", "127.0.0.1", OUTSIDE, "127.0.0.1:8501"),
        ("", "2001:db8::1", OUTSIDE, "[2001:db8::1]:8501"),
        ("", "", OUTSIDE, "192.0.2.7:8501"),
        ("", "0.0.0.0", OUTSIDE, "192.0.2.7:8501"),
        ("", "::", Reached("2001:db8::7"), "[2001:db8::7]:8501"),
        ("", "", LOOPBACK, "198.51.100.1:8501"),
        ("", "", Reached("::1", "198.51.100.1"), "198.51.100.1:8501"),
        ("", "", Reached("127.0.0.1"), "127.0.0.1:8501"),
        ("", "", Reached("fe80::1%eth0"), "[fe80::1%eth0]:8501"),
    ],
)
def test_the_advertised_address(explicit, host, reached, address):
    assert Advertise(8501, host, explicit).address(reached) == address


@pytest.mark.parametrize("explicit", ["a b", "http://gpu1", "gpu1:0", "gpu1:port", ":80", "["])
def test_what_is_no_address_cannot_be_advertised(explicit):
    with pytest.raises(BadRecord, match="advertise: got"):
        Advertise(8501, explicit=explicit).fixed()


def test_loopback_is_reached_over_loopback():
    assert reach("127.0.0.1", 12480).towards_registry == "127.0.0.1"


def test_an_unknown_name_is_an_error(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="unknown"):
        reach("registry", 12480)
