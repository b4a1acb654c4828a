"""The operator's way with dead letters: to see why they are there, to send them again, to let them go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bus.port import Record
from schemas import topics
from schemas.codec import encode
from tests.integration.installation import PERSON, Installation, installed


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def only_letter(installation: Installation) -> str:
    """The name of the one dead letter that is listed."""
    said = installation.cli("dlq", "list")
    assert 0 == said.exit_code
    names = [line.split("│")[1].strip() for line in said.output.splitlines() if "│" in line]
    assert 1 == len(names)
    return names[0]


def test_a_dead_letter_says_where_it_came_from_and_never_what_it_holds(installation: Installation) -> None:
    """The operator sees code and origin; the payload, which may name a person, stays sealed."""
    installation.publish(topics.CONFIRMATIONS, f"no avro, but {PERSON}".encode(), key=PERSON)
    installation.settle()

    name = only_letter(installation)
    said = installation.cli("dlq", "show", name)
    assert 0 == said.exit_code
    assert "malformed_message" in said.output
    assert f"{topics.CONFIRMATIONS}/0/" in said.output
    assert PERSON not in said.output


def test_a_replay_applies_what_was_set_aside(installation: Installation) -> None:
    """A confirmation that came before its request counts when it is sent again, once."""
    request = installation.request(("email", PERSON))
    installation.systems.says["crm", "locate"] = [None]
    installation.confirm(
        request_id=request.request_id, system="crm", verb="locate", kind="located", found=3, command_id="lost"
    )
    installation.settle()
    name = only_letter(installation)
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    installation.settle()
    assert 0 == installation.saga(request.request_id).steps[0].found

    assert 0 == installation.cli("dlq", "replay", name).exit_code
    installation.settle()

    assert 3 == installation.saga(request.request_id).steps[0].found
    assert 1 == installation.cli("dlq", "replay", name).exit_code


def test_what_is_sent_again_is_as_it_came(installation: Installation) -> None:
    """With the headers by which it is read, CloudEvents' and its trace, and how often it was sent again: each
    time it comes back. In the dead letter they can't be read, since a stranger may have put a name there; and
    what nobody reads by is left out.
    """
    own = (
        ("ce_id", PERSON.encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/avro"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    )
    more = (("x-forwarded-for", PERSON.encode()), ("ce_long", b"\xff"))
    installation.ground.bus.publish(
        [Record(topic=topics.DECISIONS, key="", value=b"rubbish", headers=own + more)]
    )
    installation.settle()
    for attempt in (b"0", b"1"):
        *_, letter = installation.records(topics.dead_letters(topics.DECISIONS))
        assert attempt == letter.header("radera-attempt")
        assert not installation.has_leaked(PERSON)
        assert 0 == installation.cli("dlq", "replay", only_letter(installation)).exit_code
        *_, again = installation.records(topics.DECISIONS)
        assert (b"rubbish", {*own, ("ce_long", b"\xff"), ("radera-attempt", b"%d" % (int(attempt) + 1))}) == (
            again.value,
            set(again.headers),
        )
        installation.settle()


def test_headers_that_are_too_long_to_keep(installation: Installation) -> None:
    """The record is kept and sent again without them: it can be read without."""
    installation.ground.bus.publish(
        [Record(topic=topics.DECISIONS, key="", value=b"rubbish", headers=(("ce_id", b"x" * 9000),))]
    )
    installation.settle()

    assert 0 == installation.cli("dlq", "replay", only_letter(installation)).exit_code
    *_, again = installation.records(topics.DECISIONS)
    assert (b"rubbish", (("radera-attempt", b"1"),)) == (again.value, again.headers)


def test_a_replay_that_fails_again_can_be_replayed_again(installation: Installation) -> None:
    """Sent again too early it comes back as another dead letter, and counts when it is sent a second time."""
    request = installation.request(("email", PERSON))
    installation.systems.says["crm", "locate"] = [None]
    installation.confirm(
        request_id=request.request_id, system="crm", verb="locate", kind="located", found=3, command_id="lost"
    )
    installation.settle()
    assert 0 == installation.cli("dlq", "replay", only_letter(installation)).exit_code
    installation.settle()
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    installation.settle()

    assert 0 == installation.cli("dlq", "replay", only_letter(installation)).exit_code
    installation.settle()
    assert 3 == installation.saga(request.request_id).steps[0].found


def test_dead_letters_go_after_their_time(installation: Installation) -> None:
    """On the embedded bus nobody reads them, and they go all the same."""
    installation.publish(topics.DECISIONS, b"rubbish")
    installation.settle()
    ground, letters = installation.ground, [topics.dead_letters(topics.DECISIONS)]
    ground.trim_bus(ground.store.now(), ground.store.now() - 1)
    assert 1 == len(list(ground.bus.browse(letters)))
    ground.trim_bus(ground.store.now(), ground.store.now() + 1)
    assert [] == list(ground.bus.browse(letters))


def test_what_is_discarded_is_not_listed(installation: Installation) -> None:
    """Dealt with is dealt with."""
    installation.publish(topics.DECISIONS, b"rubbish")
    installation.settle()
    name = only_letter(installation)

    assert 0 == installation.cli("dlq", "discard", name).exit_code
    assert name not in installation.cli("dlq", "list").output
    assert 1 == installation.cli("dlq", "show", name).exit_code


def test_a_letter_whose_master_key_is_gone_can_only_be_discarded(installation: Installation) -> None:
    """A rotation keeps the old key for it unless told otherwise; then nobody can open it, as is said."""
    installation.publish(topics.DECISIONS, b"rubbish")
    installation.settle()
    name = only_letter(installation)
    assert 0 == installation.cli("keys", "rotate").exit_code
    kept = installation.cli("keys", "rotate", "--keep", "0")
    assert 1 == kept.exit_code
    assert "1 dead letters can be opened only with the master keys that would be destroyed" in kept.output
    assert "bytes" in installation.cli("dlq", "show", name).output
    assert 0 == installation.cli("keys", "rotate", "--keep", "0", "--lose-dead-letters").exit_code

    said = installation.cli("dlq", "replay", name)
    assert 1 == said.exit_code
    assert "can't be opened any more" in said.output
    assert "can't be opened" in installation.cli("dlq", "show", name).output


def test_a_dead_letter_of_a_kind_that_has_left_is_listed_and_replayed(installation: Installation) -> None:
    """It goes to the topic it came from, and the operator hears that nobody reads there yet."""
    topic = topics.callbacks("left")
    keyring = installation.ground.keyring
    place = (("radera-topic", topic.encode()), ("radera-partition", b"0"), ("radera-offset", b"7"))
    value = keyring.seal_installation("dead-letter", b"an answer")
    letter = Record(topic=topics.dead_letters(topic), key="", value=value, headers=place)
    installation.ground.bus.publish([letter])
    said = installation.cli("dlq", "replay", only_letter(installation))
    assert (0, f"replayed to {topic}\n") == (said.exit_code, said.stdout)
    assert "no system of its kind is in the settings" in said.stderr
    assert [b"an answer"] == [one.value for one in installation.records(topic)]
