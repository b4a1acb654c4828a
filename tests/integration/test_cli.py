"""The command line: what a person types, what comes back, and that no traceback ever does."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result

from orchestrator.cli import main as command
from orchestrator.cli import submit
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.store import Transaction
from orchestrator.store.tables import timeline
from schemas import topics
from schemas.codec import decode
from schemas.messages import Request
from tests.integration.installation import PERSON, Installation, installed, radera, write_settings

BAD_BYTES = "\udcff"  # as Python has an argument that is not UTF-8


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def submitted(installation: Installation, *arguments: str, typed: str | None = None) -> str:
    result = installation.cli("submit", *arguments, typed=typed)
    assert 0 == result.exit_code, result.output
    return result.stdout.strip()


# --- submit ---


def test_a_request_by_flags_is_carried_out(installation: Installation) -> None:
    """Its id is printed, alone, and leads to it."""
    request_id = submitted(installation, "--email", PERSON, "--phone", "070-123 45 67", "--scope", "crm")
    assert str(uuid.UUID(request_id)) == request_id
    installation.settle()
    assert ("email", "phone") == installation.saga(request_id).identifier_kinds
    assert ["crm"] == [step.system for step in installation.saga(request_id).steps]


def test_a_request_by_standard_input_is_the_same(installation: Installation) -> None:
    """Kinds may be written as flags are; empty lines and comments are passed over, a BOM too."""
    typed = f"\ufeff# from the form\r\n\r\nemail = {PERSON}\r\nga-client-id=GA1.1.11.22@shop.example\r\n"
    request_id = submitted(installation, typed=typed)
    installation.settle()
    assert ("email", "ga_client_id") == installation.saga(request_id).identifier_kinds


def test_the_same_request_again_is_one(installation: Installation) -> None:
    """With its id, a repeat is dropped, in whatever order and form the identifiers come."""
    first = submitted(installation, "--email", PERSON, "--name", "Kanarie Person")
    again = submitted(
        installation, "--id", first, typed=f"name=Kanarie  Person\nemail={PERSON.upper()}\nemail={PERSON}"
    )
    installation.settle()
    assert first == again
    assert 1 == len(installation.sagas())
    assert [] == installation.dead_letters(topics.REQUESTS)


def test_what_is_submitted_is_sealed(installation: Installation) -> None:
    """Nothing on the bus, and nothing that is printed, shows whom the request is about."""
    result = installation.cli("submit", typed=f"email={PERSON}")
    installation.relay.step()
    [record] = installation.records(topics.REQUESTS)
    assert PERSON.encode() not in record.value + record.key.encode() + repr(record.headers).encode()
    assert PERSON not in result.output


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (f"email={PERSON}\nno such thing", 2),
        (f"mail={PERSON}", 1),
        ("\n\n# comment\nemail=", 4),
        ("=" + PERSON, 1),
        (PERSON, 1),
        (b"email=a@b.example\nname=\xff\xfe", 2),
        ("email=a@b.example\n".encode("utf-16"), 1),
    ],
)
def test_a_bad_line_is_named_by_its_number_never_by_its_text(
    installation: Installation, typed: str | bytes, line: int
) -> None:
    """Nothing is submitted; the message says which line, and repeats nothing of it."""
    result = installation.cli("submit", typed=typed)
    assert 2 == result.exit_code
    assert f"line {line} of standard input is not" in result.stderr
    assert PERSON not in result.output
    assert [] == installation.records(topics.REQUESTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody is named; give at least one identifier"),
        (["--email", "canary.person"], "nobody could be found by what is given as email"),
        (["--email", PERSON, "--phone", "canary"], "nobody could be found by what is given as phone"),
        (["--customer-id", BAD_BYTES], "nobody could be found by what is given as customer_id"),
        (["--email", PERSON, "--scope", "crm", "--scope", "nowhere"], "there is no system nowhere"),
        (["--email", PERSON, "--id", "canary"], "a request's id is a lower-case UUID"),
        (["--email", PERSON, "--id", str(uuid.UUID(int=11)).upper()], "a request's id is a lower-case UUID"),
        (["--email", PERSON, "--capacity", "processor"], "a controller's request names its tenant"),
        (["--email", PERSON, "--tenant", "Not A Name"], "'--tenant': not a short name"),
        (["--email", PERSON, "--received-at", "2099-01-01"], "the time of receipt lies in the future"),
        (["--email", PERSON, "--received-at", "0001-01-01"], "the time of receipt lies before 1970"),
        (["--email", PERSON, "--received-at", "yesterday"], "'--received-at'"),
        (["--email", PERSON, "--language", "tlh"], "'--language'"),
    ],
)
def test_a_request_that_cannot_be_made_is_refused_with_the_mend(
    installation: Installation, arguments: list[str], said: str
) -> None:
    """Exit code 2, one message, nothing of the person in it, and nothing on the bus."""
    result = installation.cli("submit", *arguments)
    assert (2, True) == (result.exit_code, said in result.stderr), result.stderr
    assert "canary" not in result.output
    assert [] == installation.records(topics.REQUESTS)


def test_a_time_of_receipt_keeps_its_zone(installation: Installation) -> None:
    """The clock runs from the moment that was typed, not from now."""
    submitted(installation, "--email", PERSON, "--received-at", "2026-08-30T09:00:00+0200")
    installation.relay.step()
    [record] = installation.records(topics.REQUESTS)
    assert 1_788_073_200_000_000 == decode(record.value, Request).received_at


def test_the_id_is_told_before_anything_is_kept(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever got no answer, because the process died before or after the commit, tries again with the id: it
    is one request.
    """

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for place, name in ((Transaction, "insert_keys"), (Transaction, "enqueue"), (submit, "_said")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            lost = installation.cli("submit", "--email", PERSON)
        assert 0 != lost.exit_code
        assert "" == lost.stdout
        [request_id] = re.findall(r"try again with --id ([0-9a-f-]{36})", lost.stderr)
        again = installation.cli("submit", "--email", PERSON, "--id", request_id)
        assert (0, f"{request_id}\n") == (again.exit_code, again.stdout)
        installation.settle()
        assert [] == installation.dead_letters(topics.REQUESTS)
        assert "quarantined" not in installation.questions(request_id)
    assert 3 == len(installation.sagas())


def ended(installation: Installation, *arguments: str) -> tuple[str, Result]:
    """A request for the CRM that has ended, and what a repeat of it by these arguments is told."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    installation.later(hours=13)
    return request_id, installation.cli("submit", *arguments, "--id", request_id)


def test_a_repeat_after_the_end_is_completed_already(installation: Installation) -> None:
    """Whoever lost the answer gets it: the id, and that it is done. Nothing is submitted."""
    request_id, result = ended(installation, "--email", PERSON, "--scope", "crm")
    assert (0, f"{request_id}\n") == (result.exit_code, result.stdout)
    assert f"request {request_id} asked the same and is already completed, on 2026-08-31" in result.stderr
    assert 1 == len(installation.records(topics.REQUESTS))


def test_another_request_under_the_id_of_one_that_ended_is_refused(installation: Installation) -> None:
    """The message says when that was, and to take a new id."""
    request_id, result = ended(installation, "--email", PERSON)
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"request {request_id} ended on 2026-08-31 and asked something else; submit under" in result.stderr


def test_what_cannot_be_compared_any_more_is_not_called_completed(installation: Installation) -> None:
    """The digest of what was asked is gone."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    installation.later(days=100)
    ground = installation.ground
    Housekeeping(store=ground.store, bus=ground.bus, retention=ground.settings.retention).step()
    result = installation.cli("submit", "--email", PERSON, "--scope", "crm", "--id", request_id)
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"request {request_id} ended on 2026-08-31; what it asked is not kept, so it was" in result.stderr


# --- audit ---


def test_an_audit_says_what_is_weak_what_it_means_and_what_to_do(installation: Installation) -> None:
    """The day is the installation's, as in the mails: 23:00 in UTC is the next day in Stockholm."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.later(hours=13)
    installation.settle()
    result = installation.cli("audit", "recheck")
    assert 1 == result.exit_code
    [line] = [one for one in result.stdout.splitlines() if request_id in one]
    assert (True, True) == ("places_unsaid" in line, "2026-09-01" in line)
    assert "places_unsaid: The system was searched, and nothing shows in which places." in result.stdout
    assert "1 ended requests examined, 1 to look at. Nothing was changed." in result.stdout
    assert "have the erasure requested anew under a new id" in result.stdout
    none = installation.cli("audit", "recheck", "--fault", "bin_never_seen")
    assert 0 == none.exit_code
    assert "1 ended requests examined, 0 to look at. Nothing was changed.\n" == none.stdout


# --- status ---


def test_status_as_json_has_all_that_is_known(installation: Installation) -> None:
    """One request's document has the fields that programs rely on, and nothing of the person."""
    installation.systems.says["letters", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm", "--scope", "letters")
    installation.settle()
    result = installation.cli("status", "--json", request_id)
    document = json.loads(result.stdout)
    assert 0 == result.exit_code
    assert (request_id, "in_progress", "escalated") == tuple(
        document[name] for name in ("request_id", "status", "outcome")
    )
    assert "2026-09-30T21:59:59.999999Z" == document["due_at"]
    assert document["acted_at"] is None
    [escalation] = document["escalations"]
    assert ("e1", 1, "failed", "letters", "no_rights") == tuple(
        escalation[name] for name in ("id", "version", "reason", "system", "code")
    )
    crm = document["systems"]["crm"]
    assert ("erased", "seen_absent", 1, 1, {}) == tuple(
        crm[name] for name in ("status", "grade", "found", "erased", "evidence")
    )
    assert "awaiting_decision" == document["systems"]["letters"]["status"]
    assert PERSON not in result.stdout


def test_status_says_what_was_left(installation: Installation) -> None:
    """A step that ended "erased" is not shown without what its handler left on purpose."""
    located = {"kind": "located", "found": 1, "sealed_references": b"sealed"}
    left = {"appointments_left": "3", "documents_left": "1"}
    without = {"client_ids_elsewhere": "1", "client_ids_without_property": "2"}
    installation.systems.says["crm", "locate"] = [{**located, "evidence": left}]
    installation.systems.says["letters", "locate"] = [{**located, "evidence": without}]
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm", "--scope", "letters")
    installation.settle()
    crm, letters = (
        line
        for line in installation.cli("status", request_id).stdout.splitlines()
        if " crm " in line or " letters " in line
    )
    assert (True, True) == ("erased" in crm, "left, not erased: 3 appointments, 1 document" in crm)
    assert "ids of no configured property: 2" in letters


def test_status_says_where_each_system_was_looked_in_and_where_not(installation: Installation) -> None:
    """As the mails do: by what, what was given and not searched by, and why a place was left out. A system
    that said nothing of it is told as that, and is never blank.
    """
    places = [
        {"name": "contacts", "looked": True, "by": {"email": 1}, "not_by": {"phone": 1}},
        {"name": "chats", "looked": False, "reason": "not_configured"},
    ]
    located = {"kind": "located", "found": 1, "sealed_references": b"sealed", "places": places}
    installation.systems.says["crm", "locate"] = [located]
    installation.systems.says["letters", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm", "--scope", "letters")
    installation.settle()
    told = [line.strip() for line in installation.cli("status", request_id).stdout.splitlines()]
    assert "crm: looked in contacts; by e-mail address; NOT by telephone number" in told
    assert "crm: NOT LOOKED IN: chats (it is not set up here)" in told
    assert "letters: it has not said where it looked" in told


def test_status_lists_the_open_requests_and_all_of_them_when_asked(installation: Installation) -> None:
    """A finished request is in the list with --all only, as a table and as JSON."""
    done = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    installation.later(hours=13)
    still_open = submitted(installation, "--email", PERSON, "--scope", "crm", "--unverified")
    installation.settle()
    listed = installation.cli("status").stdout
    everything = installation.cli("status", "--all").stdout
    assert (True, False) == (still_open in listed, done in listed)
    assert (True, True) == (still_open in everything, done in everything)
    as_json = json.loads(installation.cli("status", "--all", "--json").stdout)
    assert {done, still_open} == {one["request_id"] for one in as_json}


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["timeline"]])
@pytest.mark.parametrize("request_id", [str(uuid.UUID(int=1)), "x", "\0", BAD_BYTES, "x" * 10_000])
def test_an_unknown_request_is_said_to_be_unknown(
    installation: Installation, arguments: list[str], request_id: str
) -> None:
    """Exit code 1 and what lists the known ones; nothing on standard output."""
    result = installation.cli(*arguments, request_id)
    assert (1, "") == (result.exit_code, result.stdout)
    assert "`radera status --all` lists them" in result.stderr


def test_looking_makes_no_installation(tmp_path: Path) -> None:
    """Before the first start there is nothing to see; a look leaves no database that has no keys."""
    file = write_settings(tmp_path)
    for arguments in (["status"], ["timeline", "x"]):
        result = radera(*arguments, "--config", str(file))
        assert (1, True) == (result.exit_code, "`radera up` makes it" in result.stderr)
    assert [file] == sorted(tmp_path.iterdir())


# --- timeline ---


def test_the_timeline_says_that_its_chain_is_intact(installation: Installation) -> None:
    """Every entry, the length and the head that the saga knows."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    result = installation.cli("timeline", request_id)
    saga = installation.saga(request_id)
    assert 0 == result.exit_code
    assert f"chain intact, {saga.seq} entries, head {saga.head}" in result.stdout
    assert saga.seq + 1 == len(result.stdout.splitlines())


@pytest.mark.parametrize(
    "change",
    [
        sa.update(timeline).where(timeline.c.seq == 3).values(data={"system": "nowhere"}),
        sa.update(timeline).where(timeline.c.seq == 3).values(at=0),
        sa.delete(timeline).where(timeline.c.seq == 3),
    ],
)
def test_a_timeline_that_was_changed_is_told(installation: Installation, change: Any) -> None:
    """The first entry that doesn't fit is named, and the exit code is 1."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    with installation.ground.engine.begin() as connection:
        connection.execute(change)
    result = installation.cli("timeline", request_id)
    assert 1 == result.exit_code
    assert "the timeline was changed: entry 3 does not fit" in result.stderr


def test_a_timeline_without_its_end_is_told(installation: Installation) -> None:
    """The saga knows how long it is and what its head was."""
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    length = installation.saga(request_id).seq
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.delete(timeline).where(timeline.c.seq == length))
    result = installation.cli("timeline", request_id)
    assert (1, True) == (result.exit_code, f"entry {length} does not fit" in result.stderr)


@pytest.mark.parametrize(
    "reason", ["see [/dossier] [bold]", "done\n   9  2026-01-01T00:00:00Z  completed", "\x1b[2J"]
)
def test_a_reason_is_shown_as_text_and_can_forge_nothing(installation: Installation, reason: str) -> None:
    """Markup, line breaks and control characters of another client's decision are shown, not obeyed."""
    installation.systems.says["crm", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    request_id = submitted(installation, "--email", PERSON, "--scope", "crm")
    installation.settle()
    installation.decide(request_id, "waive", reason=reason, escalation_id="e1", escalation_version=1)
    installation.settle()
    status, entries = installation.cli("status", request_id), installation.cli("timeline", request_id)
    assert (0, 0) == (status.exit_code, entries.exit_code)
    assert installation.saga(request_id).seq + 1 == len(entries.stdout.splitlines())
    assert "\x1b" not in entries.stdout


# --- whatever else ---


def test_a_fault_of_ours_is_one_line(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type and place, exit code 1; the error's own text stays out, for it may quote anything."""

    def known(*_: Any) -> None:
        raise LookupError(f"quoting {PERSON}")

    monkeypatch.setattr("orchestrator.cli.status.known", known)
    result = installation.cli("status", "x")
    assert 1 == result.exit_code
    assert "radera: a fault in Radera: builtins.LookupError at orchestrator/cli/status.py:" in result.stderr
    assert (1, False) == (len(result.stderr.splitlines()), PERSON in result.stderr)


@pytest.mark.parametrize("name", sorted(command.main.commands))
def test_every_command_has_help(name: str) -> None:
    """It can be asked for without settings, and says something."""
    result = radera(name, "--help")
    assert (0, True) == (result.exit_code, "Usage: " in result.stdout)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["status", "--nonsense"], ["decide"], ["decide", "x", "y"]]
)
def test_a_command_that_does_not_exist_is_a_mistake_in_typing(arguments: list[str]) -> None:
    """Exit code 2, and how it is used."""
    result = radera(*arguments)
    assert (2, True) == (result.exit_code, "Usage: " in result.stderr)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    """A demonstration or a sandbox where there can be none says where, and what to do."""
    (tmp_path / "file").write_text("in the way")
    directory = str(tmp_path / place)
    for arguments in (["demo"], ["sandbox", "--port", "1"]):
        result = radera(*arguments, "--directory", directory)
        assert result.exit_code in (1, 2)
        assert directory in result.stderr


def test_the_demonstration_leaves_a_strange_directory_alone(tmp_path: Path) -> None:
    """It replaces only what a demonstration made."""
    (tmp_path / "letters.txt").write_text("mine")
    result = radera("demo", "--directory", str(tmp_path))
    assert (2, True) == (result.exit_code, "holds something else" in result.stderr)
    assert ["letters.txt"] == [path.name for path in tmp_path.iterdir()]


def test_a_second_request_of_the_same_person_is_pointed_out(installation: Installation) -> None:
    """Both run, and whoever submits the second hears of the first; another person's is nobody's business."""
    installation.systems.says["crm", "locate"] = [None, None, None]
    first = installation.cli("submit", "--email", PERSON)
    installation.settle()
    second = installation.cli("submit", "--email", PERSON.upper())
    other = installation.cli("submit", "--email", "somebody.else@people.example")

    assert (0, 0, 0) == (first.exit_code, second.exit_code, other.exit_code)
    assert f"request {first.stdout.strip()} of the same person is open" in second.stderr
    assert "same person" not in first.stderr + other.stderr
    assert PERSON not in second.output
