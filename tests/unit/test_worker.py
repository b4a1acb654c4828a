"""The worker: every command is answered, and nothing personal gets out."""

import base64
import logging
from hashlib import sha256
from typing import Any

import anyio
import httpx
import pytest
import sqlalchemy as sa

from handlers.port import (
    CallbackBody,
    Control,
    Expired,
    Permanent,
    Reference,
    Retryable,
    Task,
    pack_references,
    unpack_references,
)
from handlers.results import Absent, Accepted, Ambiguous, Located, Proved, Result
from orchestrator.http import Clients
from orchestrator.privacy import (
    IDENTIFIERS,
    REFERENCES,
    GenerationForgotten,
    GenerationLost,
    GenerationUnknown,
    Identifier,
    Identifiers,
    KeyDestroyed,
    KeyUnknown,
    seal,
    unseal,
)
from orchestrator.store import SteadyClock, StoreUnavailable
from tests.contract.worker_bench import ANNA, KEY, NOW, REQUEST, Bench, control, located

pytestmark = pytest.mark.anyio


async def test_a_command_is_unsealed_carried_out_and_answered(bench: Bench) -> None:
    """The handler sees the person; the confirmation names the command, and its references are sealed."""
    command = bench.command()
    said = await bench.answer(command, located("700001", contacts="1"))
    assert [ANNA] == [one.value for one in bench.handler.asked[0].identifiers]
    assert ("located", 1, "hubspot", "locate", 1) == (
        said.kind,
        said.found,
        said.system,
        said.verb,
        said.attempt,
    )
    assert command.event_id == said.command_id
    assert said.sealed_references is not None
    references = unpack_references(unseal(KEY, REQUEST, REFERENCES, said.sealed_references))
    assert ["700001"] == [one.id for one in references]


async def test_all_batches_of_references_reach_the_handler_each_record_once(bench: Bench) -> None:
    """A record mentioned twice is one, with the marks of both mentions."""
    batches = (
        (Reference(kind="person", id="1"), Reference(kind="ticket", id="2")),
        (Reference(kind="person", id="1", marks=("seen_in_bin",)),),
    )
    sealed = tuple(seal(KEY, REQUEST, REFERENCES, pack_references(batch)) for batch in batches)
    command = bench.command(verb="prove", sealed_references=sealed)
    await bench.answer(command, Proved(control=control(), grade="seen_absent"))
    seen = bench.handler.asked[0].references
    assert [("person", ("seen_in_bin",)), ("ticket", ())] == [(one.kind, one.marks) for one in seen]


async def test_the_records_asked_about_come_back_apart_from_those_to_erase(bench: Bench) -> None:
    """They leave sealed and come back with the decision; no handler sees them among the references."""
    mine, theirs = Reference(kind="contact", id="700001"), Reference(kind="contact", id="700002")
    said = await bench.answer(bench.command(), Ambiguous(asked=(mine, theirs), evidence={"id": "700001"}))
    assert ("located", 2, "ambiguous_match") == (said.kind, said.found, said.code)
    assert said.sealed_references is not None
    assert "700001" not in str(said.evidence)
    known = seal(KEY, REQUEST, REFERENCES, pack_references((theirs,)))
    command = bench.command(takes_all=2, sealed_references=(known, said.sealed_references))
    await bench.answer(command, located("700001"))
    task = bench.handler.asked[-1]
    assert ((theirs,), (mine, theirs)) == (task.references, task.asked)


@pytest.mark.parametrize(
    ("expected", "takes_all", "asked", "seen"),
    [
        (True, 0, (), ()),
        (False, 0, (), ("a",)),
        (True, 2, ("a", "b"), ("a", "b")),
        (True, 2, ("a", "b"), ("b",)),
        (False, 2, ("a", "b"), ("a", "c")),
        (False, 2, ("a", "b"), ("c",)),
        # A question of an earlier version says how many it was about, and not which.
        (True, 2, (), ("a", "c")),
        (False, 2, (), ("a", "b", "c")),
    ],
)
def test_the_dpos_word_is_about_the_records_that_he_was_asked_about(
    expected: bool, takes_all: int, asked: tuple[str, ...], seen: tuple[str, ...]
) -> None:
    """As many others are others."""
    task = Task(
        request_id=REQUEST,
        system="any",
        verb="locate",
        attempt=2,
        identifiers=Identifiers(()),
        issued_at=NOW,
        not_after=NOW,
        clock=lambda: NOW,
        takes_all=takes_all,
        asked=tuple(Reference(kind="contact", id=one) for one in asked),
    )
    assert expected == task.may_take(Reference(kind="contact", id=one) for one in seen)


@pytest.mark.parametrize(
    ("step", "kind", "code", "retryable", "retry_after"),
    [
        (Retryable("rate_limited", 7), "failed", "rate_limited", True, 7),
        (Permanent("wrong_account"), "failed", "wrong_account", False, None),
        (Expired(), "expired", "expired", False, None),
        (TimeoutError(), "failed", "call_limit", True, None),
        (ValueError(f"no such person: {ANNA}"), "failed", "handler_error", True, None),
        (Accepted(erased=1, prove_at=NOW), "failed", "handler_error", True, None),
    ],
)
async def test_whatever_happens_the_command_is_answered(
    bench: Bench, step: Result | Exception, kind: str, code: str, retryable: bool, retry_after: int | None
) -> None:
    """Errors by their code; anything else, and an answer to another verb, as the handler's error."""
    said = await bench.answer(bench.command(), step)
    assert (kind, code, retryable, retry_after) == (said.kind, said.code, said.retryable, said.retry_after)


async def test_an_unexpected_error_is_logged_by_its_type_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may quote anything, so it stays out, and so does the traceback."""
    with caplog.at_level(logging.DEBUG):
        await bench.answer(bench.command(), ValueError(f"no such person: {ANNA}"))
    assert [vars(record)["type"] for record in caplog.records if record.message == "handler_error"] == [
        "ValueError"
    ]
    assert ANNA not in caplog.text
    assert [] == [record for record in caplog.records if record.exc_info]


async def test_a_verb_has_a_time_limit(bench: Bench) -> None:
    """A vendor that never answers is a failure that may pass."""
    bench.handler.takes = 30.0
    bench.handler.script = [located()]
    bench.send(bench.command())
    worker = bench.worker(call_limit=0.02)
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    (said,) = bench.said()
    assert ("failed", "call_limit", True) == (said.kind, said.code, said.retryable)


async def test_a_command_past_its_time_is_not_begun(bench: Bench) -> None:
    """The worker was stopped and woken: no call is made, and the answer says so."""
    bench.now = NOW + 60_000_001
    said = await bench.answer(bench.command(), located())
    assert ("expired", "expired", []) == (said.kind, said.code, bench.handler.asked)


async def test_a_command_for_a_system_that_is_not_known_yet_comes_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """In a rolling deployment the next worker knows it. The log says it at once, and nobody is asked yet."""
    said = await bench.answer(bench.command(system="other"), located())
    assert ("failed", "unknown_system", True, 600_000_000) == (
        *(said.kind, said.code, said.retryable, said.retry_after),
    )
    (told,) = (vars(one) for one in caplog.records if one.message == "system_not_known")
    assert ("other", "hubspot", REQUEST) == (told["system"], told["kind"], told["request_id"])


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (KeyDestroyed(REQUEST), "expired", "key_destroyed", False),
        (KeyUnknown(REQUEST), "failed", "key_unknown", True),
        (GenerationUnknown(number=7), "failed", "key_unusable", True),
        (GenerationForgotten(number=7), "failed", "key_lost", False),
        (GenerationLost(number=7), "failed", "key_lost", False),
    ],
)
async def test_without_its_key_a_command_has_no_effect(
    bench: Bench, error: Exception, kind: str, code: str, retryable: bool
) -> None:
    """A request that is over, or not yet recorded: the handler is never called."""
    bench.keys.error = [error]
    said = await bench.answer(bench.command(), located())
    assert (kind, code, retryable) == (said.kind, said.code, said.retryable)
    assert [] == bench.handler.asked


async def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    """It says nothing about the request, so no attempt is lost."""
    bench.keys.error = [sa.exc.OperationalError("select", {}, Exception("gone"))]
    said = await bench.answer(bench.command(), located())
    assert "located" == said.kind


async def test_a_store_that_goes_away_while_a_handler_works_costs_no_attempt(bench: Bench) -> None:
    """Handlers ask the store for the time, also before each erasing call. That it can't tell is no answer of
    the vendor's: the command is carried out again.
    """
    away = sa.exc.OperationalError("select", {}, Exception("gone"))
    bench.handler.script = [away, located()]
    bench.send(bench.command())
    worker = bench.worker(outages=(sa.exc.OperationalError,))
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    assert ["located"] == [said.kind for said in bench.said()]


async def test_what_was_done_when_the_store_went_away_is_not_done_again(bench: Bench) -> None:
    """A mail that has gone, say: when that was can be told without the store."""

    def ask() -> int:
        if bench.handler.asked:
            raise StoreUnavailable(database="d")
        return bench.now

    bench.handler.script = [located()]
    bench.send(bench.command())
    worker = bench.worker(clock=SteadyClock(ask, 60.0), outages=(StoreUnavailable,))
    with worker.subscribe() as subscription, anyio.fail_after(5):
        await worker.step(subscription)
    assert (["located"], 1) == ([said.kind for said in bench.said()], len(bench.handler.asked))


async def test_identifiers_sealed_for_another_request_are_not_used(bench: Bench) -> None:
    """Nobody who can write to the topic has one person erased in another's name."""
    other = "11111111-1111-4111-8111-111111111111"
    identifiers = Identifiers((Identifier("email", ANNA),)).to_bytes()
    sealed = seal(KEY, other, IDENTIFIERS, identifiers)
    said = await bench.answer(bench.command(sealed_identifiers=sealed), located())
    assert ("failed", "seal_broken", False, []) == (
        said.kind,
        said.code,
        said.retryable,
        bench.handler.asked,
    )


# --- what a confirmation may say


@pytest.mark.parametrize(
    "value",
    [ANNA, f"found {ANNA.upper()}", base64.b64encode(ANNA.encode()).decode(), "record 700001 went"],
)
async def test_evidence_that_names_the_person_or_a_record_is_withheld(bench: Bench, value: str) -> None:
    """The rest is kept, and the confirmation says that something was taken out."""
    said = await bench.answer(bench.command(), located("700001", note=value, contacts="1"))
    assert ({"contacts": "1", "evidence_withheld": "1"}, "evidence_withheld") == (said.evidence, said.code)


async def asked(bench: Bench, headers: dict[str, str], *script: Any) -> dict[str, str]:
    """The evidence of a command whose handler calls once and is answered with these headers."""
    respond = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers))
    client = Clients(clock=bench.clock, steady=bench.clock, transport=respond).client(
        "https://vendor.example"
    )
    locate = bench.handler._do

    async def calling(task: Task) -> Any:
        await client.call("GET", "/")
        return await locate(task)

    vars(bench.handler)["locate"] = calling
    return (await bench.answer(bench.command(), *script)).evidence


@pytest.mark.parametrize("step", [located(), Retryable("timeout"), Permanent("wrong_account"), KeyError()])
async def test_what_the_vendors_answers_prove_is_told_whatever_became_of_the_command(
    bench: Bench, step: Any
) -> None:
    """A failure most of all: its id is what the vendor's support asks for."""
    evidence = await asked(bench, {"x-request-id": "0b7c8f5e-3f5d"}, step)
    assert ("1", "200", "0b7c8f5e-3f5d", "2026-09-01T00:00:00Z") == tuple(
        evidence[f"vendor_{name}"] for name in ("calls", "status", "correlation", "answered_at")
    )


@pytest.mark.parametrize("id_", ["contact-46701234567", "anna.example-id", "x-700001-y"])
async def test_an_id_that_names_the_person_or_a_record_is_left_out(bench: Bench, id_: str) -> None:
    """It comes from the vendor, who may make it of anything. The rest is told."""
    known = pack_references((Reference(kind="contact", id="700001"),))
    references = (seal(KEY, REQUEST, REFERENCES, known),)
    respond = httpx.MockTransport(lambda request: httpx.Response(200, headers={"x-request-id": id_}))
    client = Clients(clock=bench.clock, steady=bench.clock, transport=respond).client(
        "https://vendor.example"
    )

    async def calling(task: Task) -> Any:
        await client.call("GET", "/")
        return located()

    vars(bench.handler)["locate"] = calling
    said = await bench.answer(bench.command(sealed_references=references), located())
    is_hidden = id_ != "anna.example-id"
    assert is_hidden == ("vendor_correlation" not in said.evidence)
    assert "200" == said.evidence["vendor_status"]


async def test_the_same_answer_twice_is_one_event_and_another_answer_another(bench: Bench) -> None:
    """A repeat after a crash has the same id, though the clock moved and the seal differs."""
    command = bench.command()
    first = await bench.answer(command, located("1", "2"))
    bench.now += 1_000_000
    repeat = await bench.answer(command, located("1", "2"))
    other = await bench.answer(command, located("1", "2", "3"))
    failed = await bench.answer(command, Retryable("timeout"))
    assert first.event_id == repeat.event_id
    assert 3 == len({first.event_id, other.event_id, failed.event_id})


def test_absence_cannot_be_said_without_control() -> None:
    """Neither type can be made without one, and only a comparison that held makes one."""
    with pytest.raises(TypeError):
        Absent()  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        Proved(grade="seen_absent")  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match="made by Control"):
        Control(object(), record=True)
    for pinned, answered in (("a", "b"), ("", "")):
        with pytest.raises(Permanent, match=r"^wrong_account$"):
            Control.shown(pinned=pinned, answered=answered)
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        Control.shown(pinned="a", answered="a", record_found=False)
    with pytest.raises(ValueError, match="needs a Control"):
        Located(references=())


def test_nothing_shows_who_it_is_about() -> None:
    """Not a task, a reference or a callback."""
    task = Task(
        request_id=REQUEST,
        system="hubspot",
        verb="locate",
        attempt=1,
        identifiers=Identifiers((Identifier("email", ANNA),)),
        references=(Reference(kind="contact", id="700001"),),
        issued_at=NOW,
        not_after=NOW,
        clock=lambda: NOW,
    )
    callback = CallbackBody(token="tok3n", headers={"a": ANNA}, body=ANNA.encode(), received_at=NOW)
    shown = f"{task!r} {task.references[0]!r} {callback!r}"
    assert [] == [secret for secret in (ANNA, "700001", "tok3n") if secret in shown]


@pytest.mark.parametrize("error", [Retryable("Anna Ek was not found!", -5), Permanent("")])
async def test_a_code_that_is_no_token_is_not_passed_on(bench: Bench, error: Exception) -> None:
    """A third party's handler may say anything; the command is answered all the same."""
    said = await bench.answer(bench.command(), error)
    assert ("failed", "handler_error") == (said.kind, said.code)
    assert not said.retry_after


async def test_an_answer_too_large_for_a_message_is_a_failure_and_not_a_silence(bench: Bench) -> None:
    """A hundred thousand records don't fit; the command is not what is wrong."""
    ids = [sha256(str(n).encode()).hexdigest() for n in range(60_000)]
    many = Located(references=tuple(Reference(kind="contact", id=id_) for id_ in ids))
    said = await bench.answer(bench.command(), many)
    assert ("failed", "answer_too_large", False) == (said.kind, said.code, said.retryable)
