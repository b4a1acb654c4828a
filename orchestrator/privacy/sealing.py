"""Sealing: identifiers, references and raw callbacks exist at rest and in transit only like this.

A sealed value is a version byte (01), a random nonce of 12 bytes, and AES-256-GCM's ciphertext with its tag.
The request's id and the purpose are authenticated with it: what was sealed for one request or one purpose
opens for no other, so nobody who can write to a topic can have one person's data erased in another's name.

Every request has a key of its own, which seals a handful of values. A repeat of a random nonce under one key,
the one thing that GCM does not forgive, is therefore out of the question.

`seal_alike` makes the same bytes of the same plaintext. Answers name what they were about by a mark of its
sealed bytes: when a database is put back from a backup and a request is read again, they are still about it.
"""

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.privacy.errors import PrivacyError

KEY_BYTES: Final = 32

# The purposes in use. What is sealed to the installation (`Keyring.seal_installation`) has its own two.
IDENTIFIERS: Final = "identifiers"
REFERENCES: Final = "references"
CALLBACK_BODY: Final = "callback-body"

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class SealBroken(PrivacyError):
    """A sealed value does not open: it was altered, or sealed with another key, for another request or for
    another purpose ({purpose}). Whoever wrote it is at fault; repeating won't help."""


class UnusableKey(PrivacyError):
    """A key must be {expected} bytes, and this one isn't. Make it with new_key()."""


def new_key() -> bytes:
    """A fresh random key."""
    return AESGCM.generate_key(KEY_BYTES * 8)


def seal(key: bytes, request_id: str, purpose: str, plaintext: bytes) -> bytes:
    """The plaintext, sealed for this request and purpose."""
    return seal_with(key, _bound_to(request_id, purpose), plaintext)


def unseal(key: bytes, request_id: str, purpose: str, sealed: bytes) -> bytes:
    """What `seal` was given, for the same key, request and purpose. Raises SealBroken."""
    plaintext = open_with(key, _bound_to(request_id, purpose), sealed)
    if plaintext is None:
        raise SealBroken(purpose=purpose)
    return plaintext


def seal_with(key: bytes, associated: bytes, plaintext: bytes) -> bytes:
    """The plaintext, sealed under what is associated with it. For this package; others seal for a request."""
    return _sealed(key, os.urandom(_NONCE_BYTES), associated, plaintext)


def seal_alike(key: bytes, request_id: str, purpose: str, plaintext: bytes) -> bytes:
    """The plaintext, sealed for this request and purpose; the same bytes each time.

    Its nonce is an HMAC of all that is sealed, under a key of its own, so that two plaintexts have two nonces
    (as in RFC 5297, section 3). What it tells is that two sealed values of one request are equal.
    """
    associated = _bound_to(request_id, purpose)
    nonces = hmac.digest(key, b"radera/nonce/1", "sha256")
    nonce = hmac.digest(nonces, associated + b"\0" + plaintext, "sha256")[:_NONCE_BYTES]
    return _sealed(key, nonce, associated, plaintext)


def _sealed(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
    return _VERSION + nonce + _cipher(key).encrypt(nonce, plaintext, associated)


def open_with(key: bytes, associated: bytes, sealed: bytes) -> bytes | None:
    """What `seal_with` was given, or None if it doesn't open."""
    cipher = _cipher(key)
    if not sealed.startswith(_VERSION) or len(sealed) < len(_VERSION) + _NONCE_BYTES + _TAG_BYTES:
        return None
    body = len(_VERSION) + _NONCE_BYTES
    try:
        return cipher.decrypt(sealed[len(_VERSION) : body], sealed[body:], associated)
    except InvalidTag:
        return None


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise UnusableKey(expected=KEY_BYTES)
    return AESGCM(key)


def _bound_to(request_id: str, purpose: str) -> bytes:
    # A separator within a part would let two different pairs have the same bytes.
    if not request_id or not purpose or "\0" in request_id + purpose:
        raise ValueError("the request's id and the purpose are non-empty and without NUL")
    return b"radera/1\0" + request_id.encode() + b"\0" + purpose.encode()
