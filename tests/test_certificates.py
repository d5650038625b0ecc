"""Over TLS, a server must show a certificate that the system trusts; what is asked without TLS loads none."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tallystick.sdk.control.client import control_at
from tallystick.sdk.errors import NodeUnreachable
from tallystick.settlement.ethereum.http import make_client, post

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


@asynccontextmanager
async def somebody(directory: Path, asked: list[bytes]) -> AsyncIterator[int]:
    """Serve TLS on this machine under a certificate that somebody made for himself; give the port."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin.replace(year=2090))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = directory / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            if said := bytes(await stream.receive_some()):
                asked.append(said)
                await stream.send_all(ANSWER)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_ssl_over_tcp, host="127.0.0.1", https_compatible=True)
        (listener,) = await nursery.start(serving, answer, 0, context)
        yield listener.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_nobody_is_asked_over_tls_whose_certificate_the_system_does_not_trust(tmp_path: Path) -> None:
    asked: list[bytes] = []
    async with somebody(tmp_path, asked) as port:
        for scheme in ("https", "HTTPS"):
            async with make_client(f"{scheme}://localhost:{port}", 5) as node:
                with pytest.raises(httpx.ConnectError):
                    await post(node, b"{}", 5, 1_000)
            async with control_at(f"{scheme}://localhost:{port}", "a token") as control:
                with pytest.raises(NodeUnreachable):
                    await control.info()
        assert asked == []
        async with httpx.AsyncClient(verify=False, trust_env=False) as careless:
            assert (await careless.get(f"https://localhost:{port}")).status_code == 200
        assert len(asked) == 1


async def test_without_tls_no_certificate_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: pytest.fail("it loads certificates"))
    async with make_client("http://localhost:1", 5), control_at("http://localhost:1", "a token"):
        pass
