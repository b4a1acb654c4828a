"""An SMTP server that keeps every mail, with the faults that mail servers have.

STARTTLS and a login are offered, and can be required. A fault for the vendor `mail` strikes at the end
of DATA: `451` or `550` (any three digits) is the answer instead of taking the mail; `reset` breaks the
connection before the mail is kept; `lost_response` breaks it after, so that the sender cannot know;
`slow` waits first.
"""

import asyncio
import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from handlers.sandbox.core import Sandbox

LIMIT = 5 * 1024 * 1024


def self_signed(host: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """A certificate and its key (PEM) for a mail server on loopback, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(certificate + key)
        context.load_cert_chain(chain)
    return context


class _Catcher:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd chose the name
        struck = self._sandbox.strike_mail()
        for fault in struck:
            if fault["kind"] == "slow":
                await anyio.sleep(fault["seconds"])
            elif fault["kind"] == "reset":
                return _broken(server)
            elif fault["kind"].isdigit():
                return f"{fault['kind']} refused by a fault"
        content = envelope.content or b""
        message = content if isinstance(content, bytes) else content.encode()
        self._sandbox.accept_mail(message, [str(address) for address in envelope.rcpt_tos])
        if any(fault["kind"] == "lost_response" for fault in struck):
            return _broken(server)
        return "250 Message accepted"


def _broken(server: SMTP) -> str:
    """Breaks the connection; the answer that follows reaches nobody."""
    transport = server.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    return "421 closing"


@asynccontextmanager
async def catch(
    sandbox: Sandbox,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: tuple[bytes, bytes] | None = None,
    require_starttls: bool = False,
    login: tuple[str, str] | None = None,
) -> AsyncIterator[int]:
    """Serves SMTP in the running asyncio loop; yields the port. `tls` is a certificate and its key."""

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
    ) -> AuthResult:
        known = isinstance(given, LoginPassword) and (given.login.decode(), given.password.decode()) == login
        return AuthResult(success=known, handled=False)

    def connection() -> SMTP:
        return SMTP(
            _Catcher(sandbox),
            hostname="sandbox.localhost",
            data_size_limit=LIMIT,
            tls_context=server_context(*tls) if tls else None,
            require_starttls=require_starttls,
            authenticator=authenticate if login else None,
            auth_required=login is not None,
            auth_require_tls=tls is not None,
        )

    server = await asyncio.get_running_loop().create_server(connection, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
