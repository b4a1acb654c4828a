"""A certificate authority for the stand-ins and for tests: who speaks OpenDSR signs with a certificate that
an authority issued for its domain.
"""

import functools
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from handlers.sandbox.web import moment

YEAR = timedelta(days=365)


@functools.cache
def _key(whose: str) -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def private_pem(key: RSAPrivateKey) -> str:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()).decode()


class Authority:
    """Issues certificates that are in force around `now`. One key for each name in a process."""

    def __init__(self, now: int, name: str = "Sandbox authority") -> None:
        self._now = moment(now)
        self._name = _name(name)
        self._key = _key(name)
        self.certificate = self._signed(
            self._name,
            self._key,
            [x509.BasicConstraints(ca=True, path_length=0), _usage(authority=True)],
            self._now - YEAR,
            self._now + 10 * YEAR,
        )

    def root(self) -> str:
        """What has to be trusted, PEM."""
        return pem(self.certificate)

    def issue(
        self,
        domain: str,
        key: RSAPrivateKey,
        *,
        client: bool | None = False,
        begins: datetime | None = None,
        ends: datetime | None = None,
    ) -> str:
        """A certificate for the domain, PEM; for a server, for a client of one, or (None) for any use."""
        extensions: list[x509.ExtensionType] = [
            x509.BasicConstraints(ca=False, path_length=None),
            x509.SubjectAlternativeName([x509.DNSName(domain)]),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            _usage(authority=False),
        ]
        if client is not None:
            use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
            extensions.append(x509.ExtendedKeyUsage([use]))
        begins, ends = begins or self._now - YEAR, ends or self._now + YEAR
        return pem(self._signed(_name(domain), key, extensions, begins, ends))

    def _signed(
        self,
        subject: x509.Name,
        key: RSAPrivateKey,
        extensions: list[x509.ExtensionType],
        begins: datetime,
        ends: datetime,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        for extension in extensions:
            critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())


def new_key(whose: str) -> RSAPrivateKey:
    """A key; the same one for the same name within a process, since making one takes time."""
    return _key(f"key of {whose}")


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
