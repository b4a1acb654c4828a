"""What is sealed opens only with its key, for its request and its purpose."""

import traceback

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.privacy import SealBroken, new_key, seal, unseal
from orchestrator.privacy.sealing import UnusableKey, seal_alike

KEY = bytes(range(32))
REQUEST = "3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90"
OTHER_REQUEST = "00000000-9d8e-4b60-8a11-2f5e6d7c8b90"
CANARY = b"anna.svensson@example.com"


@given(st.binary(max_size=500))
def test_what_was_sealed_opens(plaintext: bytes) -> None:
    """Nothing is lost, and nothing shows."""
    sealed = seal(KEY, REQUEST, "identifiers", plaintext)
    assert plaintext == unseal(KEY, REQUEST, "identifiers", sealed)
    assert len(plaintext) < 4 or plaintext not in sealed


def test_the_format_is_as_published() -> None:
    """A producer of ours in another language can seal by it: 01, nonce, AES-256-GCM with the tag."""
    nonce = bytes(12)
    associated = b"radera/1\x00" + REQUEST.encode() + b"\x00identifiers"
    sealed = b"\x01" + nonce + AESGCM(KEY).encrypt(nonce, CANARY, associated)
    assert CANARY == unseal(KEY, REQUEST, "identifiers", sealed)


def test_no_two_seals_are_the_same() -> None:
    """The nonce is fresh each time, so that equal plaintexts can't be told."""
    assert 100 == len({seal(KEY, REQUEST, "identifiers", CANARY)[1:13] for _ in range(100)})


def test_what_is_sealed_alike_has_a_nonce_of_its_own() -> None:
    """The same bytes each time; and no two plaintexts, requests, purposes or keys share a nonce."""
    assert seal_alike(KEY, REQUEST, "identifiers", CANARY) == seal_alike(KEY, REQUEST, "identifiers", CANARY)
    assert CANARY == unseal(KEY, REQUEST, "identifiers", seal_alike(KEY, REQUEST, "identifiers", CANARY))
    others = [
        seal_alike(KEY, REQUEST, "identifiers", CANARY),
        seal_alike(KEY, REQUEST, "identifiers", CANARY + b"."),
        seal_alike(KEY, REQUEST, "references", CANARY),
        seal_alike(KEY, OTHER_REQUEST, "identifiers", CANARY),
        seal_alike(bytes(32), REQUEST, "identifiers", CANARY),
    ]
    assert len(others) == len({sealed[1:13] for sealed in others})


@pytest.mark.parametrize(
    ("key", "request_id", "purpose"),
    [
        (bytes(32), REQUEST, "identifiers"),
        (KEY, OTHER_REQUEST, "identifiers"),
        (KEY, REQUEST, "references"),
        (KEY, REQUEST + "identifiers", "identifiers"),
        (KEY, REQUEST[:-1], "0identifiers"),
    ],
)
def test_it_opens_for_nothing_else(key: bytes, request_id: str, purpose: str) -> None:
    """Another key, another request or another purpose: one person's data is never taken for another's."""
    sealed = seal(KEY, REQUEST, "identifiers", CANARY)
    with pytest.raises(SealBroken):
        unseal(key, request_id, purpose, sealed)


@given(st.data())
def test_any_changed_bit_breaks_the_seal(data: st.DataObject) -> None:
    """Version, nonce, ciphertext and tag are all authentic or nothing is."""
    sealed = bytearray(seal(KEY, REQUEST, "identifiers", CANARY))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        unseal(KEY, REQUEST, "identifiers", bytes(sealed))


@given(st.data())
def test_any_cut_breaks_the_seal(data: st.DataObject) -> None:
    """So does every cut."""
    sealed = seal(KEY, REQUEST, "identifiers", CANARY)
    with pytest.raises(SealBroken):
        unseal(KEY, REQUEST, "identifiers", sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def test_the_error_is_silent() -> None:
    """It names the purpose; neither cause nor context brings the library's exception along."""
    with pytest.raises(SealBroken, match="identifiers") as caught:
        unseal(KEY, REQUEST, "identifiers", CANARY + bytes(40))
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert CANARY.decode() not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("request_id", "purpose"), [("", "x"), ("x", ""), ("a\0b", "x"), ("a", "b\0x")])
def test_ambiguous_names_are_refused(request_id: str, purpose: str) -> None:
    """("a", "b\\0x") and ("a\\0b", "x") would be bound to the same bytes."""
    with pytest.raises(ValueError, match="without NUL"):
        seal(KEY, request_id, purpose, b"")


def test_a_key_of_the_wrong_length_is_refused() -> None:
    """AES-GCM would take 16 bytes without a word, and seal more weakly."""
    with pytest.raises(UnusableKey):
        seal(bytes(16), REQUEST, "identifiers", b"")
    assert 32 == len(new_key())
    assert new_key() != new_key()
