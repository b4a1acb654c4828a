"""`radera keys rotate`: open requests go on under the new master key, and nothing opens under the old one."""

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import BusUnavailable
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.intake.producer import Producer
from orchestrator.privacy import CALLBACK_BODY, Exchange, GenerationForgotten, Identifier, Keyring
from orchestrator.service import needed
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.store import Outgoing, Store, StoredKeys, open_engine
from orchestrator.store.alone import rotating_alone
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


def later(installation: Installation) -> None:
    """Lets so much time pass that nobody seals to a public key of before any more."""
    installation.clock.now += 8 * 86_400 * 1_000_000


def rotated(installation: Installation, *flags: str) -> str:
    """What a rotation says that does all it should."""
    result = installation.cli("keys", "rotate", *flags)
    assert 0 == result.exit_code, result.output
    return result.stdout


def refused(installation: Installation, *flags: str) -> str:
    """What a rotation says that is refused; it has changed nothing."""
    file = installation.file.parent / "radera.keys"
    before = file.read_bytes()
    result = installation.cli("keys", "rotate", *flags)
    assert (1, "") == (result.exit_code, result.stdout)
    assert before == file.read_bytes()
    assert "nothing was changed" in result.stderr
    return result.stderr


def test_open_requests_go_on_after_rotations(installation: Installation) -> None:
    """Whoever runs meanwhile reads the new key by itself. The one that is replaced stays until the next
    rotation, and is gone from the file then.
    """
    request_id = unverified(installation)
    [first] = numbers(installation)
    said = rotated(installation)
    [_, second] = numbers(installation)
    assert said == (
        f"generation {second} is current; 1 open keys wrapped again; destroyed: none; "
        f"kept until a later rotation: {first}\n"
    )
    later(installation)
    said = rotated(installation)
    [_, third] = numbers(installation)
    assert said == (
        f"generation {third} is current; 1 open keys wrapped again; destroyed: {first}; "
        f"kept until a later rotation: {second}\n"
    )
    assert completes(installation, request_id)


def test_a_backup_from_before_opens_nothing_from_the_next_rotation_on(
    installation: Installation, tmp_path: Path
) -> None:
    """The old database beside the present key file: the request's key can't be had, though it is open."""
    request_id = unverified(installation)
    with sqlite3.connect(tmp_path / "radera.db") as source, sqlite3.connect(tmp_path / "backup.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    rotated(installation)
    restored = open_engine(f"sqlite:///{tmp_path}/backup.db")
    keys = StoredKeys(Store(restored), Keyring.from_file(tmp_path / "radera.keys"))
    assert keys.key_of(request_id)
    later(installation)
    rotated(installation)
    with pytest.raises(GenerationForgotten):
        keys.key_of(request_id)
    restored.dispose()


@pytest.mark.parametrize("where", ["rewrap", "generations", "shred"])
def test_a_death_between_the_steps_loses_no_request(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The request can still be read, and later rotations leave no more generations than after others."""
    request_id = unverified(installation)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.cli.assembly.KnownGenerations.check", lambda _: None)
        patch.setattr(StoredKeys, where, die)
        with pytest.raises(Killed):
            installation.cli("keys", "rotate")
    installation.restart()
    later(installation)
    rotated(installation)
    assert 2 == len(numbers(installation))
    assert completes(installation, request_id)


def test_what_is_stored_late_is_read(installation: Installation) -> None:
    """A database that is slow: an answer was sealed before a rotation, and stored after it. Nothing that the
    rotation could see waited, and yet the answer is read; also after a second rotation on the same day.
    """
    sealed = installation.ground.keyring.seal_installation(CALLBACK_BODY, b"thanked")
    request = installation.request(("email", PERSON), verified=False)
    for flags in ((), ()):
        rotated(installation, *flags)
    assert b"thanked" == installation.ground.keyring.unseal_installation(CALLBACK_BODY, sealed)
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    installation.settle()
    assert completes(installation, request.request_id)


def test_a_rotation_keeps_the_key_that_it_replaces(installation: Installation) -> None:
    """Whatever is to be kept: in the moment of the rotation somebody may be sealing under it."""
    [first] = numbers(installation)
    rotated(installation, "--keep", "0")
    assert first in numbers(installation)
    rotated(installation, "--keep", "0")
    assert first not in numbers(installation)


def test_producers_outside_may_still_seal_to_the_key_before(installation: Installation) -> None:
    """They learn of the new one in their own time; after a week and a rotation more it is too late."""
    producer = Producer(Exchange(installation.ground.keyring).public_key(), source="web_form")
    given = [Identifier("email", PERSON)]
    for seen, flags in ((True, ()), (True, ()), (False, ("--keep", "0"))):
        rotated(installation, *flags)
        made = producer.request(given, verified=False)
        installation.ground.bus.publish([made.record])
        installation.settle()
        assert seen == (installation.ground.store.saga(made.request_id) is not None)


def test_one_rotation_runs_at_a_time(installation: Installation) -> None:
    """The second one is refused at once."""
    with rotating_alone(installation.ground.engine) as is_alone:
        assert is_alone
        assert "another rotation is under way" in refused(installation)
    rotated(installation)


def test_what_a_rotation_destroys_is_fixed_before_it_looks(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits for what is to be read, time passes and generations come: none of them is destroyed."""
    [first] = numbers(installation)
    rotated(installation)
    later(installation)
    real = needed.what_needs_keys

    def meanwhile(*given: Any, **named: Any) -> Any:
        later(installation)
        installation.ground.keyring.rotate(installation.clock())
        later(installation)
        return real(*given, **named)

    monkeypatch.setattr("orchestrator.cli.keys.what_needs_keys", meanwhile)
    assert f"destroyed: {first};" in rotated(installation)
    assert 3 == len(numbers(installation))


def test_a_key_that_cannot_be_read_stops_the_rotation(installation: Installation) -> None:
    """Exit code 1, the request by its id; nothing has changed."""
    broken, whole = unverified(installation), unverified(installation)
    with installation.ground.engine.begin() as connection:
        connection.execute(
            sa.update(subject_keys).where(subject_keys.c.request_id == broken).values(wrapped=b"\0" * 60)
        )
    said = refused(installation)
    assert broken in said
    assert "Put back the keyring that they were made with" in said
    assert completes(installation, whole)


def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a command wait without waiting."""
    monkeypatch.setattr("orchestrator.cli.keys.time.monotonic", iter(range(0, 10_000, 60)).__next__)
    monkeypatch.setattr("orchestrator.service.needed.time.sleep", lambda _: None)


def callback(installation: Installation) -> bytes:
    sealed = installation.ground.keyring.seal_installation(CALLBACK_BODY, b"{}")
    return encode(Callback(event_id="callback:1", kind="hubspot", received_at=START, sealed_body=sealed))


@pytest.mark.parametrize("kind", ["hubspot", "removed"])
def test_a_callback_that_waits_stops_the_rotation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is sealed under the key that would go, so that destroying it would lose what a party said; also one
    of a kind that has left the settings.
    """
    in_no_time(monkeypatch)
    installation.publish(topics.callbacks(kind), callback(installation))
    rotated(installation)
    later(installation)
    assert f"wait to be read that only old master keys may open ({topics.callbacks(kind)})" in refused(
        installation
    )


@pytest.mark.parametrize(
    "topic", [topics.REQUESTS, topics.callbacks("hubspot"), topics.dead_letters(topics.DECISIONS)]
)
def test_what_is_in_the_outbox_stops_the_rotation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """The broker is away: what was taken in, and dead letters, are in the database alone."""
    in_no_time(monkeypatch)
    rotated(installation)
    with installation.ground.store.begin() as transaction:
        transaction.enqueue([Outgoing(event_id="1", topic=topic, key="", value=b"sealed")])
    later(installation)
    assert topic in refused(installation)


def test_a_request_that_nobody_has_read_stops_the_rotation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key may have come with its record. How far was read the database says."""
    in_no_time(monkeypatch)
    rotated(installation)
    later(installation)
    request_id = installation.submit(("email", PERSON), verified=False)
    assert topics.REQUESTS in refused(installation)
    installation.settle()
    rotated(installation)
    assert completes(installation, request_id)


@pytest.mark.parametrize("kind", ["hubspot", "removed"])
def test_dead_letters_stop_the_rotation_that_would_close_them(installation: Installation, kind: str) -> None:
    """Those of every topic that the bus has; not those under a generation that stays."""
    sealed = installation.ground.keyring.seal_installation(DEAD_LETTER, b"rubbish")
    installation.publish(topics.dead_letters(topics.commands(kind)), sealed)
    rotated(installation)
    later(installation)
    assert "1 dead letters can be opened only with" in refused(installation)
    rotated(installation, "--lose-dead-letters")

    sealed = installation.ground.keyring.seal_installation(DEAD_LETTER, b"rubbish")
    installation.publish(topics.dead_letters(topics.commands(kind)), sealed)
    later(installation)
    rotated(installation, "--lose-dead-letters")


def test_a_bus_that_does_not_tell_what_waits_stops_the_rotation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody could look for may be there."""

    def fail(*_: Any) -> None:
        raise BusUnavailable("no leader")

    rotated(installation)
    later(installation)
    for question in ("ends", "topics"):
        with monkeypatch.context() as patch:
            patch.setattr(SqliteBus, question, fail)
            assert "the bus doesn't tell what waits" in refused(installation)


def test_topics_that_the_account_may_not_see_are_asked_for(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker leaves them out of its list. Asked by name, it says that it doesn't say."""
    sealed = installation.ground.keyring.seal_installation(DEAD_LETTER, b"rubbish")
    installation.publish(topics.dead_letters(topics.commands("hubspot")), sealed)
    rotated(installation)
    later(installation)
    monkeypatch.setattr(SqliteBus, "topics", lambda _: set())
    assert "1 dead letters can be opened only with" in refused(installation)


def test_rewrapping_says_which_keys_are_needed_no_more(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a request waits, or a dead letter, no old key may be taken away, whatever wraps the open keys."""
    in_no_time(monkeypatch)
    [first] = numbers(installation)
    installation.ground.keyring.rotate(START)
    request_id = installation.submit(("email", PERSON), verified=False)
    said = installation.cli("keys", "rewrap")
    assert "no longer needed: none" in said.stdout
    assert f"generation {first} is still needed: unread records of {topics.REQUESTS}" in said.stderr

    installation.settle()
    sealed = from_generation(installation, first)
    installation.publish(topics.dead_letters(topics.commands("removed")), sealed)
    said = installation.cli("keys", "rewrap")
    assert f"generation {first} is still needed: 1 dead letters" in said.stderr
    assert completes(installation, request_id)

    only = f"{topics.dead_letters(topics.commands('removed'))}/0/"
    [letter] = installation.ground.bus.browse([only.split("/")[0]])
    assert 0 == installation.cli("dlq", "discard", f"{only}{letter.offset}").exit_code
    assert f"no longer needed: {first}\n" in installation.cli("keys", "rewrap").stdout


def from_generation(installation: Installation, number: int) -> bytes:
    """Something that was sealed under the generation, as far as its header says."""
    return b"\x02" + struct.pack(">I", number) + b"sealed"


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
