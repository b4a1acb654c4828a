"""`radera keys rotate`: open requests go on under the new master key, and nothing opens under the old one."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import BusUnavailable
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.privacy import CALLBACK_BODY, GenerationForgotten, Keyring
from orchestrator.store import Store, StoredKeys, open_engine
from orchestrator.store.tables import subject_keys
from schemas import topics
from schemas.codec import encode
from schemas.messages import Callback
from tests.integration.installation import PERSON, START, Installation, installed


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


class Killed(BaseException):
    """The process dies here."""


def numbers(installation: Installation) -> list[int]:
    """The generations in the key file, as another process would read it."""
    return [one.number for one in Keyring.from_file(installation.file.parent / "radera.keys").generations]


def unverified(installation: Installation) -> str:
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    return request_id


def completes(installation: Installation, request_id: str) -> bool:
    """Whether the request can be carried out to its end, with what it was about."""
    result = installation.cli("decide", request_id, "verify")
    assert 0 == result.exit_code, result.output
    installation.settle()
    told = [to for to, _ in installation.postman.sent]
    return installation.saga(request_id).status == "completed" and PERSON in told


def test_open_requests_go_on_after_a_rotation(installation: Installation) -> None:
    """Whoever runs meanwhile reads the new key by itself; the old one is gone from the file."""
    request_id = unverified(installation)
    [first] = numbers(installation)
    result = installation.cli("keys", "rotate")
    [second] = numbers(installation)
    said = f"generation {second} is current; 1 open keys wrapped again; destroyed: {first}\n"
    assert (0, said) == (result.exit_code, result.stdout), result.output
    assert completes(installation, request_id)


def test_a_backup_from_before_opens_nothing_after(installation: Installation, tmp_path: Path) -> None:
    """The old database beside the present key file: the request's key can't be had, though it is open."""
    request_id = unverified(installation)
    with sqlite3.connect(tmp_path / "radera.db") as source, sqlite3.connect(tmp_path / "backup.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    assert 0 == installation.cli("keys", "rotate").exit_code
    restored = open_engine(f"sqlite:///{tmp_path}/backup.db")
    keys = StoredKeys(Store(restored), Keyring.from_file(tmp_path / "radera.keys"))
    with pytest.raises(GenerationForgotten):
        keys.key_of(request_id)
    restored.dispose()


@pytest.mark.parametrize("where", ["rewrap", "generations", "shred"])
def test_a_death_between_the_steps_loses_no_request(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The request can still be read, and the next rotation leaves one generation only."""
    request_id = unverified(installation)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StoredKeys, where, die)
        with pytest.raises(Killed):
            installation.cli("keys", "rotate")
    installation.restart()
    assert 0 == installation.cli("keys", "rotate").exit_code
    assert 1 == len(numbers(installation))
    assert completes(installation, request_id)


def test_a_key_that_cannot_be_read_keeps_the_old_generations(installation: Installation) -> None:
    """Exit code 1, the request by its id; nothing is destroyed that may be needed yet."""
    broken, whole = unverified(installation), unverified(installation)
    with installation.ground.engine.begin() as connection:
        connection.execute(
            sa.update(subject_keys).where(subject_keys.c.request_id == broken).values(wrapped=b"\0" * 60)
        )
    result = installation.cli("keys", "rotate")
    assert 1 == result.exit_code
    assert broken in result.stderr
    assert "Put back the keyring that they were made with" in result.stderr
    assert 2 == len(numbers(installation))
    assert completes(installation, whole)


def test_a_callback_that_waits_keeps_the_old_generations(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sealed under the old one, so that destroying it would lose what a party said."""
    monkeypatch.setattr("orchestrator.cli.keys.PATIENCE", 0.0)
    monkeypatch.setattr("orchestrator.cli.keys.time.sleep", lambda _: None)
    monkeypatch.setattr("orchestrator.cli.keys.time.monotonic", iter(range(0, 10_000, 60)).__next__)
    sealed = installation.ground.keyring.seal_installation(CALLBACK_BODY, b"{}")
    callback = Callback(event_id="callback:1", kind="hubspot", received_at=START, sealed_body=sealed)
    installation.publish(topics.callbacks("hubspot"), encode(callback))
    result = installation.cli("keys", "rotate")
    assert (1, 2) == (result.exit_code, len(numbers(installation))), result.output
    assert "wait to be read that only they can open" in result.stderr


def test_a_bus_that_does_not_tell_what_waits_keeps_the_old_generations(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody could look for may be there."""

    def fail(*_: Any) -> None:
        raise BusUnavailable("no leader")

    monkeypatch.setattr(SqliteBus, "backlog", fail)
    result = installation.cli("keys", "rotate")
    assert (1, 2) == (result.exit_code, len(numbers(installation))), result.output
    assert "the old master keys were kept: the bus doesn't tell what waits" in result.stderr


def test_keys_from_elsewhere_are_rotated_elsewhere(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, and where they are to be changed."""
    key = "A" * 43 + "="
    monkeypatch.setenv("RADERA_MASTER_KEYS", f"1:{key}")
    monkeypatch.setenv("RADERA_DIGEST_KEY", key)
    result = installation.cli("keys", "rotate")
    assert 1 == result.exit_code
    assert "The master keys come from the environment" in result.stderr
    assert key not in result.output


def test_a_keyring_that_was_moved_aside_is_named(installation: Installation, tmp_path: Path) -> None:
    """The operator sees what lies there, and that it was left."""
    aside = tmp_path / "radera.keys.old"
    aside.write_bytes((tmp_path / "radera.keys").read_bytes())
    text = aside.read_bytes()
    for command in ("public", "rotate"):
        result = installation.cli("keys", command)
        assert (0, True) == (result.exit_code, f"{aside} lies beside the key file" in result.stderr)
    assert text == aside.read_bytes()
