# SPDX-License-Identifier: MIT
"""Which store a command line names, and how etcd is reached over TLS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from attrs import frozen
from OpenSSL.crypto import Error as PEMError
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from smls.errors import BadRecord
from smls.wire import join_address, split_address

ETCD_PORT = 2379

PREFIX = "/smls"

_URL = re.compile(
    r"(?P<scheme>etcds?)://(?:(?P<user>[^@/:,]+)@)?(?P<hosts>[^@/]+)(?P<prefix>(?:/[^/?#]+)*)/?"
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@frozen
class EtcdPlace:
    """What ``etcd://[USER@]HOST[:PORT][,HOST...][/PREFIX]`` says; ``etcds`` is over TLS."""

    endpoints: tuple[str, ...]
    user: str = ""
    prefix: str = PREFIX

    @property
    def is_secure(self) -> bool:
        return self.endpoints[0].startswith("https:")


def store_place(text: str) -> EtcdPlace | None:
    """The etcd that ``text`` names; ``None`` for ``memory``.

    >>> store_place("etcd://me@one,two:4001/smls/test")
    EtcdPlace(endpoints=('http://one:2379', 'http://two:4001'), user='me', prefix='/smls/test')

    :raises ValueError: where it is neither.
    """
    if text == "memory":
        return None
    match = _URL.fullmatch(text)
    if match is None:
        # What is no such URL may hold a password, so it is not shown.
        raise ValueError(
            "--store: wanted memory or etcd://[USER@]HOST:PORT[,HOST:PORT...][/PREFIX], "
            "or the same with etcds:// for TLS; the password is no part of it"
        )
    scheme = "https" if match["scheme"] == "etcds" else "http"
    try:
        addresses = [_address(each) for each in match["hosts"].split(",")]
    except BadRecord as error:
        raise ValueError(f"--store: {error.message}") from error
    return EtcdPlace(
        tuple(f"{scheme}://{address}" for address in addresses),
        match["user"] or "",
        match["prefix"] or PREFIX,
    )


@implementer(IPolicyForHTTPS)
class ClientTLS:
    """How etcd proves itself and the registry itself to etcd: by PEM files, where they are given.

    Without ``ca`` the system's authorities are trusted.

    :raises ValueError: where a file is not there or holds something else.
    """

    def __init__(self, ca: str | None, certificate: str | None, key: str | None) -> None:
        self._trust: Any = None
        self._own: PrivateCertificate | None = None
        if (certificate is None) != (key is None):
            raise ValueError("--store-cert and --store-key: wanted both or neither")
        if ca is not None:
            found = _CERTIFICATE.findall(_file("--store-ca", ca))
            if not found:
                raise ValueError(f"--store-ca: {ca} holds no certificate (PEM)")
            self._trust = trustRootFromCertificates(
                [_loaded("--store-ca", ca, Certificate.loadPEM, each) for each in found]
            )
        if certificate is not None and key is not None:
            both = _file("--store-cert", certificate) + b"\n" + _file("--store-key", key)
            named = f"{certificate} with {key}"
            self._own = _loaded("--store-cert", named, PrivateCertificate.loadPEM, both)

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(
            hostname.decode("ascii"), trustRoot=self._trust, clientCertificate=self._own
        )


def _address(text: str) -> str:
    with_port = text if re.search(r":[0-9]+$", text) else f"{text}:{ETCD_PORT}"
    return join_address(*split_address(with_port))


def _file(option: str, name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ValueError(f"{option}: {name} cannot be read: {error.strerror}") from error


def _loaded(option: str, name: str, load: Any, pem: bytes) -> Any:
    try:
        return load(pem)
    except (PEMError, ValueError) as error:
        raise ValueError(f"{option}: {name} cannot be used as PEM") from error
