"""OpenDSR's signatures: made so that openssl verifies them, and verified when openssl made them."""

import base64
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from handlers.sandbox.certificates import Authority, new_key, pem, private_pem
from handlers.sandbox.signing import public_pem
from handlers.sandbox.testing import START
from handlers.sandbox.web import moment
from orchestrator.privacy.signatures import SignatureRefused, Signer, SignerUnusable, check_signature, names
from orchestrator.secret import SecretRef
from tests.ci import under_ci

DOMAIN = "radera.example.com"
BODY = b'{"request_status": "completed", "n": 1.0}\n'
DAY = 86_400_000_000

# Under CI it has to be there: without it these fail.
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None and not under_ci(), reason="openssl is not installed"
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(START)


def signer(folder: Path, certificate: str, key: str | None = None, domain: str = DOMAIN) -> Signer:
    (folder / "key.pem").write_text(private_pem(new_key("ours")) if key is None else key)
    (folder / "certificate.pem").write_text(certificate)
    return Signer(
        domain=domain,
        key=SecretRef(file=folder / "key.pem"),
        certificate=SecretRef(file=folder / "certificate.pem"),
    )


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(
        ["openssl", *map(str, arguments)],  # noqa: S607 - whichever openssl the machine has
        check=True,
        capture_output=True,
    ).stdout


@needs_openssl
def test_openssl_verifies_what_we_sign(tmp_path: Path, authority: Authority) -> None:
    """A controller with other tools than ours can check us: RSA PKCS#1 v1.5, SHA-256, the raw body."""
    key = new_key("ours")
    made = signer(tmp_path, authority.issue(DOMAIN, key)).headers(BODY, START, "2")
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "signature").write_bytes(base64.b64decode(made["X-OpenDSR-Signature"]))
    (tmp_path / "public.pem").write_text(public_pem(key))

    said = openssl(
        "dgst",
        "-sha256",
        "-verify",
        tmp_path / "public.pem",
        "-signature",
        tmp_path / "signature",
        tmp_path / "body",
    )
    assert b"Verified OK\n" == said
    assert DOMAIN == made["X-OpenDSR-Processor-Domain"]


@needs_openssl
def test_we_verify_what_openssl_signed(tmp_path: Path, authority: Authority) -> None:
    """The reverse; and one byte less of the body is another body."""
    key = new_key("theirs")
    (tmp_path / "key.pem").write_text(private_pem(key))
    (tmp_path / "body").write_bytes(BODY)
    made = openssl("dgst", "-sha256", "-sign", tmp_path / "key.pem", tmp_path / "body")
    said: dict[str, Any] = {
        "certificate": authority.issue("agency.example", key),
        "domain": "agency.example",
        "signature": base64.b64encode(made).decode(),
        "at": START,
        "roots": authority.root(),
    }
    check_signature(body=BODY, **said)
    with pytest.raises(SignatureRefused, match=r"^signature_invalid$"):
        check_signature(body=BODY[:-1], **said)


def test_the_versions_name_their_headers_differently(tmp_path: Path, authority: Authority) -> None:
    """OpenGDPR 1.0 is still honoured, by its own names."""
    made = signer(tmp_path, authority.issue(DOMAIN, new_key("ours"))).headers(BODY, START, "1")
    assert ["X-OpenGDPR-Processor-Domain", "X-OpenGDPR-Signature"] == list(made)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"domain": "other.example"}, "certificate_of_another_domain"),
        ({"at": START + 366 * DAY}, "certificate_not_in_force"),
        ({"at": START - 366 * DAY}, "certificate_not_in_force"),
        ({"roots": Authority(START, "Another authority").root()}, "certificate_not_trusted"),
        ({"roots": "nothing to trust"}, "certificate_not_trusted"),
        ({"certificate": "no certificate"}, "certificate_unusable"),
        ({"signature": "AAAA"}, "signature_invalid"),
        ({"signature": "no base64!"}, "signature_invalid"),
        ({"signature": ""}, "signature_invalid"),
        ({"body": BODY + b" "}, "signature_invalid"),
    ],
)
def test_what_does_not_hold_is_refused(authority: Authority, changed: dict[str, Any], code: str) -> None:
    """Wrong signature, body, domain, time or authority: each by its name."""
    key = new_key("theirs")

    good: dict[str, Any] = {
        "certificate": authority.issue("agency.example", key),
        "domain": "agency.example",
        "signature": base64.b64encode(key.sign(BODY, padding.PKCS1v15(), hashes.SHA256())).decode(),
        "body": BODY,
        "at": START,
        "roots": authority.root(),
    }
    check_signature(**good)
    with pytest.raises(SignatureRefused, match=f"^{code}$"):
        check_signature(**{**good, **changed})


def test_a_certificate_that_was_given_needs_no_authority(authority: Authority) -> None:
    """Pinned, it still has to name the domain and be in force."""

    key = new_key("theirs")
    said: dict[str, Any] = {
        "certificate": authority.issue("agency.example", key),
        "signature": base64.b64encode(key.sign(BODY, padding.PKCS1v15(), hashes.SHA256())).decode(),
        "body": BODY,
        "roots": None,
    }
    check_signature(domain="agency.example", at=START, **said)
    with pytest.raises(SignatureRefused, match=r"^certificate_not_in_force$"):
        check_signature(domain="agency.example", at=START + 400 * DAY, **said)
    with pytest.raises(SignatureRefused, match=r"^certificate_of_another_domain$"):
        check_signature(domain="example", at=START, **said)


def test_a_wildcard_stands_for_one_label(authority: Authority) -> None:
    """*.agency.example is opendsr.agency.example, and neither agency.example nor a.b.agency.example."""

    certificate = x509.load_pem_x509_certificate(
        authority.issue("*.agency.example", new_key("theirs")).encode()
    )
    found = [one for one in ("opendsr", "a.b") if names(certificate, f"{one}.agency.example")]
    assert ["opendsr"] == found
    assert not names(certificate, "agency.example")


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("another_key", "the certificate is another key's"),
        ("another_domain", f"the certificate does not name {DOMAIN}"),
        ("expired", "the certificate is not yet, or no longer, in force"),
        ("self_signed", "the certificate is self-signed"),
        ("short_key", "the key is not RSA of 2048 bits or more"),
        ("no_key", "the key is not PEM"),
        ("no_certificate", "the certificate is not PEM"),
    ],
)
def test_a_signer_that_nobody_would_believe_does_not_sign(
    tmp_path: Path, authority: Authority, what: str, problem: str
) -> None:
    """The message says what to mend, and holds nothing of the key."""
    ours = new_key("ours")
    certificate, key = authority.issue(DOMAIN, ours), private_pem(ours)
    match what:
        case "another_key":
            key = private_pem(new_key("theirs"))
        case "another_domain":
            certificate = authority.issue("other.example", ours)
        case "expired":
            certificate = authority.issue(DOMAIN, ours, ends=moment(START) - timedelta(days=1))
        case "self_signed":
            certificate, key = _self_signed()
        case "short_key":
            short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
            certificate, key = authority.issue(DOMAIN, short), private_pem(short)
        case "no_key":
            key = "no key"
        case "no_certificate":
            certificate = "no certificate"
    with pytest.raises(SignerUnusable, match=re.escape(problem)):
        signer(tmp_path, certificate, key).sign(BODY, START)


def test_a_renewed_certificate_counts_at_once(tmp_path: Path, authority: Authority) -> None:
    """Whoever renews certificates writes a file, and restarts nothing."""
    ours = new_key("ours")
    made = signer(tmp_path, authority.issue(DOMAIN, ours, ends=moment(START) - timedelta(days=1)))
    with pytest.raises(SignerUnusable):
        made.certificate(START)
    renewed = authority.issue(DOMAIN, ours)
    (tmp_path / "certificate.pem").write_text(renewed)
    assert renewed == made.certificate(START) + "\n"


def _self_signed() -> tuple[str, str]:

    key = new_key("ours")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(moment(START) - timedelta(days=1))
        .not_valid_after(moment(START) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return pem(made), private_pem(key)
