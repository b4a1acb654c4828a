"""An attacker who has all that remains: key files, databases of today and of before, topics, dead letters.

What they do with it, sparing nothing:

* Every key is taken that can be had: the master keys in the key file, whatever is derived from them, every
  wrapped key in a row, in a producer's record, or anywhere in the raw bytes of a file that one of those
  opens.
* Every sealed value is tried with every key, for every request and every purpose. What was sealed to the
  installation and opens is read on: a dead letter holds a record.
"""

import base64
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.privacy import Exchange, Keyring, PrivacyError, Wrapped
from orchestrator.privacy.sealing import (
    CALLBACK_BODY,
    IDENTIFIERS,
    REFERENCES,
    SealBroken,
    unseal,
)
from orchestrator.service.dead_letters import DEAD_LETTER
from schemas.codec import CodecError, decode
from schemas.messages import Callback, Command, Confirmation, Decision, Message, Outcome, Request
from tests.integration.processes import copy

_PURPOSES = (IDENTIFIERS, REFERENCES)
_INSTALLATION = (CALLBACK_BODY, DEAD_LETTER)
_WRAPPED = 1 + 12 + 32 + 16


@dataclass(slots=True)
class Loot:
    """What was taken: copies of databases, each with what lay beside it, and of key files."""

    databases: list[Path] = field(default_factory=list)
    key_files: list[Path] = field(default_factory=list)

    def take(self, directory: Path, into: Path, *, keys: bool) -> None:
        """Copies a database with its log, as a backup or a thief would, and the key file if asked to."""
        into.mkdir()
        for name in ("radera.db", "radera.db-wal", "radera.db-shm"):
            copy(directory / name, into / name)
        self.databases.append(into / "radera.db")
        if keys:
            self.take_keys(directory, into)

    def take_keys(self, directory: Path, into: Path) -> None:
        into.mkdir(exist_ok=True)
        copy(directory / "radera.keys", into / "radera.keys")
        (into / "radera.keys").chmod(0o600)
        self.key_files = [into / "radera.keys"]


@dataclass(slots=True)
class Spoils:
    """What the attack came to: what was read of each request, and whose every key was."""

    requests: dict[str, set[bytes]] = field(default_factory=dict)
    keys: dict[bytes, str] = field(default_factory=dict)


def attack(loot: Loot) -> Spoils:
    """All of it, against all of it."""
    spoils = Spoils()
    keyrings = [Keyring.from_file(path) for path in loot.key_files]
    found = _Pieces()
    for path in loot.databases:
        found.read_database(path)
    for keyring in keyrings:
        for sealed in list(found.sealed_to_installation):
            for clear in _opened(keyring, sealed):
                found.read_anything(clear)
    ids = sorted({request_id for request_id, _ in found.sealed} | {one for one, *_ in found.wrapped})
    for keyring in keyrings:
        for request_id, key in _unwrap_all(keyring, found, ids):
            spoils.keys[key] = request_id
    keys = [*spoils.keys, *(key for keyring in keyrings for key in _raw_keys(keyring))]
    for request_id, sealed in found.sealed:
        for key in keys:
            for purpose in _PURPOSES:
                with suppress(SealBroken):
                    clear = unseal(key, request_id, purpose, sealed)
                    spoils.requests.setdefault(request_id, set()).add(clear)
    return spoils


def _opened(keyring: Keyring, sealed: bytes) -> Iterator[bytes]:
    for purpose in _INSTALLATION:
        with suppress(PrivacyError):
            yield keyring.unseal_installation(purpose, sealed)


def _raw_keys(keyring: Keyring) -> Iterator[bytes]:
    """The master keys themselves and what is derived from them, in case something was sealed with those."""
    yield keyring.digest_key
    for generation in keyring.generations:
        yield generation.key
        for use in ("wrap", "installation", "exchange", "clear"):
            yield keyring.derived(generation.number, use)


def _unwrap_all(keyring: Keyring, found: "_Pieces", ids: list[str]) -> Iterator[tuple[str, bytes]]:
    exchange = Exchange(keyring)
    for request_id, generation, blob in found.wrapped:
        with suppress(PrivacyError):
            yield request_id, keyring.unwrap(Wrapped(generation, blob), request_id)
    for request_id, generation, blob in found.wrapped_by_producers:
        with suppress(PrivacyError):
            yield request_id, exchange.unwrap(blob, generation, request_id)
    for generation in (one.number for one in keyring.generations):
        cipher = AESGCM(keyring.derived(generation, "wrap"))
        for request_id in ids:
            associated = b"radera/wrap/1\0" + generation.to_bytes(4, "big") + request_id.encode()
            for raw in found.raw:
                for blob in _near(request_id.encode(), raw):
                    with suppress(InvalidTag):
                        yield request_id, cipher.decrypt(blob[1:13], blob[13:], associated)


def _near(request_id: bytes, raw: bytes) -> Iterator[bytes]:
    """What may be a wrapped key, wherever it lies: in free pages, in the log, in rows that were deleted.

    SQLite writes a row's request id before its blob, with a few bytes of the row's head between them.
    """
    at = raw.find(request_id)
    while at >= 0:
        for start in range(at + 36, at + 60):
            blob = raw[start : start + _WRAPPED]
            if blob.startswith(b"\x01") and len(blob) == _WRAPPED:
                yield blob
        at = raw.find(request_id, at + 36)


class _Pieces:
    """What the copies of databases hold, taken apart."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.wrapped: set[tuple[str, int, bytes]] = set()
        self.wrapped_by_producers: set[tuple[str, int, bytes]] = set()
        self.sealed: set[tuple[str, bytes]] = set()
        self.sealed_to_installation: set[bytes] = set()

    def read_database(self, path: Path) -> None:
        files = [path, *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))]
        self.raw.append(b"\0".join(file.read_bytes() for file in files if file.exists()))
        # Opening it would change the files: it is read from a copy of the copy.
        aside = path.parent / "opened"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for file in files[:2]:
            copy(file, aside / file.name)
        with closing(sqlite3.connect(aside / path.name)) as connection:
            self._read(connection)

    def read_anything(self, clear: bytes) -> None:
        """Something that was sealed to the installation: a record, whatever the topic that it came by."""
        for kind in (Request, Command, Confirmation, Outcome):
            with suppress(CodecError):
                self._read_message(decode(clear, kind))

    def _read(self, connection: sqlite3.Connection) -> None:
        query = "SELECT request_id, generation, wrapped FROM subject_keys WHERE wrapped IS NOT NULL"
        self.wrapped.update(connection.execute(query))
        for table in ("bus_records", "outbox"):
            for topic, value in connection.execute(f"SELECT topic, value FROM {table}"):  # noqa: S608 - a table name from the schema itself
                self._read_record(topic, value)
        for request_id, document in connection.execute("SELECT request_id, document FROM sagas"):
            self.sealed.update((request_id, sealed) for sealed in _blobs(json.loads(document or "null")))

    def _read_record(self, topic: str, value: bytes) -> None:
        if topic.endswith(".dlq"):
            self.sealed_to_installation.add(value)
            return
        with suppress(CodecError):
            self._read_message(decode(value, _TYPES.get(topic.split(".")[1], Decision)))

    def _read_message(self, message: Message) -> None:
        match message:
            case Request():
                self.sealed.add((message.request_id, message.sealed_identifiers))
                if message.wrapped_key is not None and message.key_generation is not None:
                    outer = (message.request_id, message.key_generation, message.wrapped_key)
                    self.wrapped_by_producers.add(outer)
            case Command():
                self.sealed.add((message.request_id, message.sealed_identifiers))
                self.sealed.update((message.request_id, one) for one in message.sealed_references)
            case Confirmation(request_id=str() as request_id, sealed_references=bytes() as sealed):
                self.sealed.add((request_id, sealed))
            case Outcome(sealed_identifiers=bytes() as sealed):
                self.sealed.add((message.request_id, sealed))
            case Callback():
                self.sealed_to_installation.add(message.sealed_body)
            case _:
                pass


_TYPES: dict[str, type[Message]] = {
    "requests": Request,
    "commands": Command,
    "callbacks": Callback,
    "confirmations": Confirmation,
    "outcomes": Outcome,
}


def _blobs(document: object) -> Iterator[bytes]:
    """Whatever in a saga's document may be bytes: each text, as base64 in either alphabet."""
    if isinstance(document, dict):
        for value in document.values():
            yield from _blobs(value)
    elif isinstance(document, list):
        for value in document:
            yield from _blobs(value)
    elif isinstance(document, str) and len(document) > 38:
        for decoder in (base64.b64decode, base64.urlsafe_b64decode):
            with suppress(ValueError):
                yield decoder(document)
