"""`radera decide`: each decision from the command line to its effect, and each refusal in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.decide import REFUSALS
from schemas import topics
from tests.integration.installation import PERSON, Installation, installed

REASON = "the contract has ended"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def asked(installation: Installation, **fields: Any) -> str:
    """A request that waits for an answer to its command to locate."""
    installation.systems.says["crm", "locate"].insert(0, None)
    request_id = installation.submit(("email", PERSON), **fields)
    installation.settle()
    return request_id


def failed(installation: Installation, **fields: Any) -> str:
    """A request whose CRM has failed for good."""
    installation.systems.says["crm", "locate"].insert(0, {"kind": "failed", "code": "no_rights"})
    request_id = installation.submit(("email", PERSON), **fields)
    installation.settle()
    return request_id


def decide(installation: Installation, *arguments: str) -> None:
    """A decision that is taken, and applied."""
    result = installation.cli("decide", *arguments)
    assert 0 == result.exit_code, result.output
    assert "recorded; a running `radera up` applies it" in result.stdout
    installation.settle()
    assert [] == installation.dead_letters(topics.DECISIONS)


# --- each decision, end to end ---


def test_verify_starts_a_request(installation: Installation) -> None:
    """Nobody is asked to erase anything before; afterwards all of it is carried out."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    assert [] == installation.systems.commands
    decide(installation, request_id, "verify")
    installation.later(hours=13)
    assert "completed" == installation.saga(request_id).status


def test_retry_tries_again(installation: Installation) -> None:
    """The failed verb goes out once more, and the request completes."""
    request_id = failed(installation)
    decide(installation, request_id, "retry")
    installation.later(hours=13)
    assert ["locate", "locate", "erase", "prove"] == [one.verb for one in installation.systems.commands]
    assert "completed" == installation.saga(request_id).status


def test_waive_lets_a_system_go_with_its_reason(installation: Installation) -> None:
    """The step ends waived, and the reason is on the record."""
    request_id = failed(installation)
    decide(installation, request_id, "waive", "--reason", REASON, "--by", "dpo.two")
    entries = installation.ground.store.timeline(request_id)
    [decided] = [entry.data for entry in entries if entry.action == "decided"]
    assert ("waive", "dpo.two", REASON) == (decided["action"], decided["by"], decided["reason"])
    installation.later(hours=13)
    saga = installation.saga(request_id)
    assert ("completed", "waived") == (saga.status, getattr(saga.steps[0].state, "end", None))


@pytest.mark.parametrize(("action", "status"), [("reject", "rejected"), ("cancel", "cancelled")])
def test_reject_and_cancel_end_a_request(installation: Installation, action: str, status: str) -> None:
    """No further erasing command goes out; it ends when what is out can't act any more."""
    request_id = asked(installation)
    decide(installation, request_id, action, "--reason", REASON)
    installation.later(hours=13)
    assert status == installation.saga(request_id).status
    assert ["locate"] == [one.verb for one in installation.systems.commands]
    told = [to for to, _ in installation.postman.sent if to == PERSON]
    assert ([PERSON] if action == "reject" else []) == told


def test_extend_gives_two_further_months_once_the_person_knows(installation: Installation) -> None:
    """The due date moves when the notice has gone out: three months from receipt, to the end of the day."""
    request_id = asked(installation)
    decide(installation, request_id, "extend", "--reason", "complex")
    saga = installation.saga(request_id)
    assert saga.extended
    assert [PERSON] == [to for to, _ in installation.postman.sent]
    assert "2026-11-30T22:59:59.999999Z" in installation.cli("status", request_id).stdout


def test_erase_takes_a_newer_record_too(installation: Installation) -> None:
    """What reappeared is erased by a decision only, and then proved again."""
    says = installation.systems.says
    says["crm", "prove"] = [{"kind": "reappeared", "found": 1}]
    request_id = installation.submit(("email", PERSON))
    installation.settle()
    assert ["reappeared"] == installation.questions(request_id)
    decide(installation, request_id, "erase")
    installation.later(hours=13)
    verbs = [one.verb for one in installation.systems.commands]
    assert ["locate", "erase", "prove", "locate", "erase", "prove"] == verbs
    assert "completed" == installation.saga(request_id).status


def test_one_of_several_questions_has_to_be_named(installation: Installation) -> None:
    """The message lists them; with one of them named, that one is answered."""
    says = installation.systems.says
    says["crm", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    says["agency", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    request_id = installation.submit(("email", PERSON), scope=("crm", "agency"))
    installation.settle()
    result = installation.cli("decide", request_id, "retry")
    assert 2 == result.exit_code
    assert "name one with --escalation: e1@1 (failed), e2@1 (failed)" in result.stderr
    decide(installation, request_id, "retry", "--escalation", "e2@1")
    assert ["e1"] == [one.id for one in installation.saga(request_id).escalations]


# --- each refusal ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["retry", "--escalation", "e1@7"], "other_version"),
        (["retry", "--escalation", "e7@1"], "no_such_escalation"),
        (["verify", "--escalation", "e1@1"], "action_does_not_fit"),
        (["verify"], "names_no_escalation"),
        (["waive"], "reason_missing"),
        (["cancel"], "reason_missing"),
        (["reject", "--reason", "   "], "reason_missing"),
        (["extend"], "reason_missing"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_at_once(
    installation: Installation, arguments: list[str], code: str
) -> None:
    """Exit code 1, what it means and what to do; nothing is sent."""
    request_id = failed(installation)
    result = installation.cli("decide", request_id, *arguments)
    assert (1, f"radera: {REFUSALS[code]}\n") == (result.exit_code, result.stderr)
    assert [] == installation.records(topics.DECISIONS)


def test_nothing_is_decided_on_an_ended_request(installation: Installation) -> None:
    """Exit code 1: it has ended."""
    request_id = installation.submit(("email", PERSON))
    installation.later(hours=13)
    result = installation.cli("decide", request_id, "cancel", "--reason", REASON)
    assert (1, f"radera: {REFUSALS['request_ended']}\n") == (result.exit_code, result.stderr)


def test_nothing_more_stops_a_request_that_closes(installation: Installation) -> None:
    """A second cancellation finds it closing."""
    request_id = asked(installation)
    decide(installation, request_id, "cancel", "--reason", REASON)
    result = installation.cli("decide", request_id, "cancel", "--reason", REASON)
    assert (1, f"radera: {REFUSALS['already_closing']}\n") == (result.exit_code, result.stderr)


def test_an_extension_is_given_once_and_in_time(installation: Installation) -> None:
    """Neither twice, nor when the request was acted on, nor after the first month."""
    twice, late = asked(installation), asked(installation)
    installation.systems.says["crm", "prove"] = [None]
    acted = installation.submit(("email", PERSON))
    installation.settle()
    decide(installation, twice, "extend", "--reason", "complex")
    found = {}
    for name, request_id in (("twice", twice), ("acted", acted)):
        found[name] = installation.cli("decide", request_id, "extend", "--reason", "complex")
    installation.later(days=40)
    found["late"] = installation.cli("decide", late, "extend", "--reason", "complex")
    assert {
        "twice": (1, f"radera: {REFUSALS['already_extended']}\n"),
        "acted": (1, f"radera: {REFUSALS['already_acted']}\n"),
        "late": (1, f"radera: {REFUSALS['too_late']}\n"),
    } == {name: (one.exit_code, one.stderr) for name, one in found.items()}


def test_a_system_that_is_still_unknown_cannot_be_retried(installation: Installation) -> None:
    """The message says where to add it; once it is there, the retry is taken."""
    request_id = installation.submit(("email", PERSON), scope=("crm", "newsletter"))
    installation.settle()
    result = installation.cli("decide", request_id, "retry")
    assert (1, f"radera: {REFUSALS['still_unknown']}\n") == (result.exit_code, result.stderr)
    more = '\n[systems.newsletter]\nkind = "hubspot"\nportal_id = 3\ntoken = { env = "X" }\n'
    installation.file.write_text(installation.file.read_text() + more)
    installation.restart()
    decide(installation, request_id, "retry")
    installation.later(hours=13)
    assert "completed" == installation.saga(request_id).status


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["waive", "--reason", f"wrote from {PERSON}"], "the reason seems to hold a person's address"),
        (
            ["waive", "--reason", "call 070-123 45 67"],
            "the reason seems to hold a person's address or number",
        ),
        (["waive", "--reason", "x" * 501], "one line of text of at most 500 characters"),
        (["waive", "--reason", "two\nlines"], "one line of text of at most 500 characters"),
        (["waive", "--reason", "\udcff"], "one line of text of at most 500 characters"),
        (["waive", "--reason", "..."], "still the placeholder"),
        (["waive", "--reason", REASON, "--by", "Anna Berg"], "'--by': not a short name"),
        (["retry", "--escalation", "e1"], "write the escalation as ID@VERSION"),
        (["retry", "--escalation", "e1@" + "9" * 30], "write the escalation as ID@VERSION"),
        (["retry", "--escalation", "e1@\u0663"], "write the escalation as ID@VERSION"),
        (["forget"], "is not one of"),
    ],
)
def test_a_decision_that_cannot_be_read_is_refused(
    installation: Installation, arguments: list[str], said: str
) -> None:
    """Exit code 2 and the mend; what the reason quoted is not repeated, and nothing is sent."""
    request_id = failed(installation)
    result = installation.cli("decide", request_id, *arguments)
    assert (2, True) == (result.exit_code, said in result.stderr), result.stderr
    assert PERSON not in result.output
    assert [] == installation.records(topics.DECISIONS)


@pytest.mark.parametrize("request_id", ["00000000-0000-0000-0000-000000000001", "x", "\0", "\udcff"])
def test_a_decision_on_an_unknown_request_is_refused(installation: Installation, request_id: str) -> None:
    """Exit code 1, and what lists the known ones."""
    result = installation.cli("decide", request_id, "cancel", "--reason", REASON)
    assert (1, True) == (result.exit_code, "`radera status --all` lists them" in result.stderr)


def test_a_decision_overtaken_by_events_is_refused_by_mail(installation: Installation) -> None:
    """It fitted when it was typed; when it is applied it doesn't, and the DPO hears of it."""
    request_id = failed(installation)
    for _ in range(2):
        result = installation.cli("decide", request_id, "waive", "--escalation", "e1@1", "--reason", REASON)
        assert 0 == result.exit_code
    installation.settle()
    assert f"Radera {request_id}: decision not applied" in installation.mails_to_dpo()


def test_every_refusal_has_its_words() -> None:
    """Each goes on after "radera: " and is more than a code."""
    assert [] == [text for text in REFUSALS.values() if " " not in text or text.endswith(".")]
