"""TLS that serve speaks itself, and the client certificates that it is shown.

* A certificate is asked for and not demanded: what is for anybody (OpenDSR's discovery, our certificate)
  stays so, and a controller with a bearer token needs none. One that is shown is verified in the handshake:
  from another authority, out of force, or meant for something else, it ends the connection.
* Python's ssl module does not tell clients which authorities count, so that a browser with any certificate
  at all would bother its user for one. Hence a port of its own, which no browser is sent to.
* uvicorn hands on no certificate. Its protocol is made to: by the ASGI specification's TLS extension, which
  only a server can put into a scope. It is h11's protocol by name, and not whichever uvicorn would choose:
  with another one installed beside us every certificate would be lost silently.
* Renewed files count for the next connection. Files that don't fit each other, as in the middle of a renewal,
  change nothing.
* No session is resumed: each connection shows its certificate, and has it verified, anew. For TLS 1.2 OpenSSL
  keeps sessions by their id, which Python can't forbid; but it keeps them with their context, so that each
  connection has one of its own. Only while renewed files don't fit do some share one; a session that
  is resumed then ends its connection, and the next attempt makes a new one.
* No proxy stands in front that would do it: a connection that has not said within seconds what it wants is
  ended. uvicorn would wait for it for ever, and a few hundred of them would keep all controllers out.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self, cast

from cryptography import x509
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from orchestrator.intake.errors import CannotListen
from orchestrator.privacy.signatures import is_in_force, read_chain
from orchestrator.settings import MutualTls

_logger = logging.getLogger(__name__)

#: How long a request's head may take, in seconds; bodies have a limit of their own.
SLOWEST_HEAD: Final = 10.0

_Stamps = tuple[tuple[int, int, int], ...]


class _Encrypted(Exception):
    """The key wants a password, which nobody is there to type."""


class Tls:
    """What a server needs to speak TLS. Raises CannotListen."""

    def __init__(self, settings: MutualTls) -> None:
        self._settings = settings
        self._refused: _Stamps | None = None
        try:
            self._stamps = self._stamped()
            self._latest = self._made()
        except (OSError, _Encrypted) as error:
            why = "not PEM, a key with a password, or the key of another certificate"
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                why = f"{error.filename}: {error.strerror}"
            raise CannotListen(
                f"opendsr.mutual_tls: certificate, key or authorities can't be used ({why}): mend the files"
            ) from None
        self.context: ssl.SSLContext = _ForEach(self._for_one)

    def _stamped(self) -> _Stamps:
        found = [Path(one).stat() for one in self._files()]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def _files(self) -> tuple[Path, Path, Path]:
        return self._settings.certificate, self._settings.key, self._settings.authorities

    def _made(self) -> ssl.SSLContext:
        def password() -> str:
            raise _Encrypted

        certificate, key, authorities = self._files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key, password)
        context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        return context

    def _for_one(self) -> ssl.SSLContext:
        """A context for one connection, from the files of now; the latest there is where they don't fit."""
        try:
            stamps = self._stamped()
            if stamps != self._refused:
                self._refused = stamps
                self._latest = self._made()
                self._refused = None
                if stamps != self._stamps:
                    self._stamps = stamps
                    _logger.info("tls_renewed")
        except (OSError, _Encrypted) as error:
            _logger.warning("tls_not_renewed", extra={"type": type(error).__name__})
        return self._latest


class _ForEach(ssl.SSLContext):
    """What the event loop takes for its context: each connection is made by another one."""

    _for_one: Callable[[], ssl.SSLContext]

    def __new__(cls, for_one: Callable[[], ssl.SSLContext]) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._for_one = for_one
        return made

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self._for_one().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class CertificateProtocol(H11Protocol):
    """uvicorn's protocol, which tells the application of the connection's TLS, and does not wait for ever."""

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        if connection is not None:
            if connection.session_reused:
                # Without a word of goodbye, after which OpenSSL forgets the session.
                transport.abort()
                return
            self.app = _telling(self.app, _extension(connection))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        cycle = cast(
            "RequestResponseCycle | None", self.cycle
        )  # None before the first request, whatever it says
        if cycle is not None and not cycle.response_complete:
            self._forget_head()
        elif self._head_due is None:
            self._head_due = self.loop.call_later(SLOWEST_HEAD, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _telling(app: Any, extension: dict[str, Any]) -> ASGIApp:
    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "extensions": {**scope.get("extensions", {}), "tls": extension}}, receive, send)

    return told


def _extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """The ASGI TLS extension, version 0.2: what it demands. That is also the name beside the chain, and what
    it lets be unknown and nobody here asks for, which is None.
    """
    der = connection.getpeercert(binary_form=True)
    chain = [] if der is None else [ssl.DER_cert_to_PEM_cert(der)]
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": None if der is None else _subject(der),
        "tls_version": None,
        "cipher_suite": None,
    }


def _subject(der: bytes) -> str | None:
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return None


def _shown(scope: Mapping[str, Any]) -> list[str]:
    return list(scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ()))


def shows_certificate(scope: Mapping[str, Any]) -> bool:
    """Whether a client certificate was shown on a request's connection."""
    return bool(_shown(scope))


def client_names(scope: Mapping[str, Any], now: int) -> frozenset[str]:
    """The DNS names in the client certificate of a request's connection; none without a certificate, or with
    one that went out of force since the connection was made.
    """
    for pem in _shown(scope):
        for certificate in read_chain(pem)[:1]:
            return _dns_names(certificate) if is_in_force(certificate, now) else frozenset()
    return frozenset()


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))
