"""OpenDSR's signatures: RSA PKCS#1 v1.5 with SHA-256 over the raw body, in base64, and the certificates
behind them.

* What is signed is the body as it travels, byte for byte; nobody parses it before its signature has held.
* A signature counts with a certificate that is in force at that time and names the signer's domain, by which
  the other side knows it. It also has to be one that an authority issued (OpenDSR 2.0, 4.1): either the very
  certificate was given to us beforehand, or its chain ends at an authority that we trust.
* The time is the caller's. A signature has none of its own, so an old one holds for ever: whoever receives
  one has to know by what it says whether it is about what was asked.
"""

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import verification

from orchestrator.privacy.errors import PrivacyError
from orchestrator.secret import SecretRef

#: By the API's major version, what the headers' names begin with.
PREFIXES: Final = {"2": "X-OpenDSR", "1": "X-OpenGDPR"}
SMALLEST_KEY: Final = 2048
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SignerUnusable(PrivacyError):
    """What [opendsr] names to sign with can't be used: {problem}."""


class SignatureRefused(Exception):
    """The signature is not to be believed; `code` says why in one token."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Pair:
    key: rsa.RSAPrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]


class Signer:
    """Signs for one domain, with a key and a certificate that are read anew for each use: a renewed file
    counts at once. The certificate's file may hold its chain, the signer's own first.
    """

    def __init__(self, *, domain: str, key: SecretRef, certificate: SecretRef) -> None:
        self.domain = domain
        self._key = key
        self._certificate = certificate

    def certificate(self, now: int) -> str:
        """The certificate and its chain, PEM. Raises SignerUnusable or SecretUnavailable."""
        self._pair(now)
        return self._certificate.read()

    def sign(self, body: bytes, now: int) -> str:
        """The signature of a body. Raises SignerUnusable or SecretUnavailable."""
        made = self._pair(now).key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(made).decode()

    def headers(self, body: bytes, now: int, version: str) -> dict[str, str]:
        """Who signed, and the signature, as the version calls them."""
        prefix = PREFIXES[version]
        return {
            f"{prefix}-Processor-Domain": self.domain,
            f"{prefix}-Signature": self.sign(body, now),
        }

    def _pair(self, now: int) -> _Pair:
        pair = _pair_of(self._key.read(), self._certificate.read())
        leaf = pair.chain[0]
        problem: str | None = None
        if not names(leaf, self.domain):
            problem = f"the certificate does not name {self.domain}"
        elif leaf.issuer == leaf.subject:
            problem = "the certificate is self-signed, which the other side must not trust"
        elif not is_in_force(leaf, now):
            problem = "the certificate is not yet, or no longer, in force"
        if problem is not None:
            raise SignerUnusable(problem=problem)
        return pair


@lru_cache(maxsize=2)
def _key_of(pem: str) -> rsa.RSAPrivateKey:
    """Kept, since reading one checks it, which takes longer than signing."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise SignerUnusable(problem="the key is not PEM, or wants a password") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SMALLEST_KEY:
        raise SignerUnusable(problem=f"the key is not RSA of {SMALLEST_KEY} bits or more")
    return key


@lru_cache(maxsize=2)
def _pair_of(key_pem: str, certificate_pem: str) -> _Pair:
    key, chain = _key_of(key_pem), read_chain(certificate_pem)
    if not chain:
        raise SignerUnusable(problem="the certificate is not PEM")
    if chain[0].public_key() != key.public_key():
        raise SignerUnusable(problem="the certificate is another key's")
    return _Pair(key, chain)


def check_signature(
    *, certificate: str, domain: str, signature: str, body: bytes, at: int, roots: str | None
) -> None:
    """Returns if the body was signed by the domain's certificate, in force `at`. Raises SignatureRefused.

    `certificate` is PEM, with its chain behind it. With `roots` (PEM) the chain has to end at one of them;
    without, the certificate itself is one that we were given.
    """
    chain = read_chain(certificate)
    if not chain:
        raise SignatureRefused("certificate_unusable")
    leaf = chain[0]
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_KEY:
        raise SignatureRefused("certificate_unusable")
    if not names(leaf, domain):
        raise SignatureRefused("certificate_of_another_domain")
    if not is_in_force(leaf, at):
        raise SignatureRefused("certificate_not_in_force")
    if roots is not None and not _is_issued(chain, domain, at, roots):
        raise SignatureRefused("certificate_not_trusted")
    try:
        key.verify(base64.b64decode(signature, validate=True), body, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError, binascii.Error):
        raise SignatureRefused("signature_invalid") from None


def read_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """The certificates in a text, none if it can't be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except ValueError:
        return ()


def names(certificate: x509.Certificate, domain: str) -> bool:
    """Whether the domain is among the certificate's names, also by a wildcard for its first label."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    known = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
    wildcard = f"*.{domain.lower().partition('.')[2]}"
    return domain.lower() in known or wildcard in known


def is_in_force(certificate: x509.Certificate, at: int) -> bool:
    """Whether the time lies within the certificate's."""
    moment = _moment(at)
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def _is_issued(chain: tuple[x509.Certificate, ...], domain: str, at: int, roots: str) -> bool:
    trusted = list(read_chain(roots))
    if not trusted:
        return False
    builder = verification.PolicyBuilder().store(verification.Store(trusted)).time(_moment(at))
    try:
        builder.build_server_verifier(x509.DNSName(domain)).verify(chain[0], list(chain[1:]))
    except (verification.VerificationError, ValueError):
        return False
    return True


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)
