from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from support.scripted_server import Server

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.auth import TokenSource
from bzctrl_provider.client.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits():
    """Return the seconds that the client would have slept."""
    return []


@pytest.fixture
def new_client(server, waits) -> Callable[..., BzCtrlClient]:
    """Return a maker of clients of that server, which close at the end."""
    clients = []

    def make(url=None, **changes):
        settings = {
            "username": "user@example.com",
            "password": SecretStr("the-password"),
            "timeout_s": 5.0,
            "tokens": TokenSource(),
            "sleep": waits.append,
            "jitter": lambda: 1.0,
        }
        endpoints = Endpoints.of_host(url or f"http://127.0.0.1:{server.port}", allow_http=True)
        clients.append(BzCtrlClient(endpoints, **(settings | changes)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def authority(tmp_path):
    """Return a server's TLS context for 127.0.0.1, and the file of the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "ca.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, tmp_path / "key.pem")
    return context, str(pem)
