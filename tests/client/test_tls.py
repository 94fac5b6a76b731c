# SPDX-License-Identifier: MIT
"""What our programs do not import; in processes of their own, since imports stay."""

import subprocess
import sys

import pytest

START = """
import sys
from smls import tls
{before}
with tls.left_out():
    from twisted.internet import reactor
import smls.transport
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_twisted_is_there_without_openssl():
    pytest.importorskip("OpenSSL")
    told = "print('OpenSSL' in sys.modules, 'cryptography' in sys.modules)"
    assert run(START.format(before="") + told) == "False False\n"


def test_who_wants_openssl_for_itself_has_it():
    pytest.importorskip("OpenSSL")
    assert run(START.format(before="") + "import OpenSSL.SSL; print('well')") == "well\n"


def test_where_it_is_there_it_stays():
    pytest.importorskip("OpenSSL")
    told = "from twisted.internet import ssl; print(ssl.CertificateOptions is not None)"
    assert run(START.format(before="import OpenSSL") + told) == "True\n"
