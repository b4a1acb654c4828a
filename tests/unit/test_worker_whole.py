"""Nothing is forgotten between a command and its handler, nor between a handler's answer and the saga."""

from dataclasses import fields, replace
from threading import Event
from typing import Any

import pytest
from typing_extensions import override

from handlers.port import CallbackBody, Expired, Permanent, Reference, Retryable, Task, pack_references
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    AwaitingParty,
    CannotLook,
    Instructed,
    Located,
    PartyAbsent,
    PartyErased,
    PartyRefused,
    Pending,
    Proved,
    Received,
    Result,
    Retained,
    StillAmbiguous,
    VendorPurged,
)
from orchestrator.privacy import REFERENCES, seal
from schemas.messages import Confirmation, Place, mark
from tests.contract.worker_bench import ANNA, KEY, NOW, REQUEST, Bench, Scripted, control, located

pytestmark = pytest.mark.anyio
THREE = tuple(Reference(kind="contact", id=f"70000{n}") for n in (1, 2, 3))
PLACES = (
    Place(name="persons", looked=True, by={"email": 1}, not_by={"phone": 1}),
    Place(name="chats", looked=False, reason="not_configured"),
)


def parts(*ids: str) -> tuple[bytes, ...]:
    """One sealed part of references for each id."""
    return tuple(
        seal(KEY, REQUEST, REFERENCES, pack_references((Reference(kind="contact", id=one),))) for one in ids
    )


# --- to the handler ---


async def test_all_that_a_command_says_reaches_the_handler(bench: Bench) -> None:
    """Each field by its name; what is forgotten here no handler can heed."""
    command = bench.command(
        verb="prove",
        attempt=4,
        language="nb",
        capacity="processor",
        tenant="acme",
        instruction="erase",
        reminder=True,
        erased_at=NOW - 3,
        accepted_at=NOW - 2,
        found=2,
        takes_all=5,
        sealed_references=parts("700001", "700002"),
    )
    await bench.answer(command, Proved(control=control(), grade="seen_absent"))
    [task] = bench.handler.asked
    ours = {"identifiers", "references", "asked", "clock", "in_force", "rounds"}
    told = {one.name for one in fields(Task)} - ours
    assert {name: getattr(command, name) for name in told} == {name: getattr(task, name) for name in told}
    assert ([ANNA], ["700001", "700002"]) == (
        [one.value for one in task.identifiers],
        [one.id for one in task.references],
    )


async def test_when_a_record_was_made_reaches_the_handler(bench: Bench) -> None:
    """By it a record newer than the erasure is told from one that the erasure should have taken."""
    packed = pack_references((Reference(kind="contact", id="700001", created_at=NOW - 7),))
    command = bench.command(verb="prove", sealed_references=(seal(KEY, REQUEST, REFERENCES, packed),))
    await bench.answer(command, Proved(control=control(), grade="seen_absent"))
    assert [NOW - 7] == [one.created_at for one in bench.handler.asked[0].references]


@pytest.mark.parametrize("marked", [0, 1])
async def test_a_record_keeps_what_was_noted_of_it_whichever_mention_has_it(
    bench: Bench, marked: int
) -> None:
    """That it was seen in the bin is what its end rests on; a later mention without it says nothing else."""
    person = Reference(kind="person", id="700001")
    mentions = [person, person]
    mentions[marked] = person.marked("seen_in_bin")
    sealed = tuple(seal(KEY, REQUEST, REFERENCES, pack_references((one,))) for one in mentions)
    command = bench.command(verb="prove", sealed_references=sealed)
    await bench.answer(command, Proved(control=control(), grade="seen_absent"))
    assert [("seen_in_bin",)] == [one.marks for one in bench.handler.asked[0].references]


async def test_leave_to_erase_ends_with_the_commands_time(bench: Bench) -> None:
    """To the microsecond: after it the request may be closing, and its key is about to go."""
    await bench.answer(bench.command(verb="erase"), Accepted(erased=1, prove_at=NOW))
    [asked] = bench.handler.asked
    task = replace(asked, in_force=lambda: True)
    bench.now = task.not_after
    task.may_erase()
    bench.now += 1
    with pytest.raises(Expired):
        task.may_erase()


async def test_a_command_of_another_kind_is_carried_out_by_nobody(bench: Bench) -> None:
    """The settings were changed while it was under way: the name is known, and means another vendor now."""
    said = await bench.answer(bench.command(kind="superoffice"), located())
    assert ([], "unknown_system", True) == (bench.handler.asked, said.code, said.retryable)


# --- to the saga ---


@pytest.mark.parametrize("answer", [located(), ValueError("unexpected")])
async def test_every_answer_says_what_it_is_about(bench: Bench, answer: Result | Exception) -> None:
    """The identifiers and each part of the references that the command carried, and nothing of a later
    command; a failure too.
    """
    command = bench.command(verb="locate", sealed_references=parts("700001", "700002"))
    said = await bench.answer(command, answer)
    assert (mark(command.sealed_identifiers), *map(mark, command.sealed_references)) == said.about


async def test_the_places_reach_the_saga(bench: Bench) -> None:
    """As the handler reported them: looked at or not, by what, by what not, and why not."""
    said = await bench.answer(bench.command(), Absent(control=control(), places=PLACES))
    assert PLACES == said.places


@pytest.mark.parametrize(
    ("verb", "answer", "expected"),
    [
        ("locate", Ambiguous(asked=THREE), {"kind": "located", "found": 3, "code": "ambiguous_match"}),
        (
            "prove",
            StillAmbiguous(asked=THREE),
            {"kind": "still_present", "found": 3, "code": "ambiguous_match"},
        ),
        ("locate", Absent(control=control()), {"kind": "absent", "grade": "seen_absent"}),
        (
            "prove",
            Proved(
                control=control(),
                grade="vendor_stated",
                end="retained",
                legal_basis="bookkeeping",
                retained_until=NOW + 9,
            ),
            {
                "kind": "proved",
                "grade": "vendor_stated",
                "end": "retained",
                "legal_basis": "bookkeeping",
                "retained_until": NOW + 9,
            },
        ),
    ],
)
async def test_what_a_handler_found_is_what_is_said(
    bench: Bench, verb: str, answer: Result, expected: dict[str, object]
) -> None:
    """How many, how well proved, kept by which law and until when."""
    said = await bench.answer(bench.command(verb=verb), answer)
    assert expected == {name: getattr(said, name) for name in expected}


@pytest.mark.parametrize(
    ("verb", "one", "other", "are_two"),
    [
        ("locate", CannotLook(), AwaitingParty(remind_at=NOW), True),
        ("locate", located("700001"), located("700002"), True),
        ("locate", located("700001"), located("700001", "700002"), True),
        ("locate", located("700001", contacts="1"), located("700001", contacts="2"), False),
        ("erase", Accepted(erased=1, prove_at=NOW), Accepted(erased=2, prove_at=NOW), True),
        ("erase", Accepted(erased=1, prove_at=NOW), Accepted(erased=1, prove_at=NOW + 9), False),
        ("erase", Retryable("rate_limited", 5), Retryable("rate_limited", 9), False),
        ("erase", Retryable("rate_limited"), Permanent("rate_limited"), True),
        ("prove", Pending(look_again_at=NOW), Pending(look_again_at=NOW + 9), False),
        ("prove", Pending(look_again_at=NOW), Pending(look_again_at=NOW, code="in_bin"), True),
    ],
)
async def test_two_answers_are_two_events_when_they_say_something_else(
    bench: Bench, verb: str, one: Result | Exception, other: Result | Exception, are_two: bool
) -> None:
    """A repeat with other times to wait, or other counts on the way, says the same; with another kind, number
    or record it doesn't, and taken for a repeat it would never be heard.
    """
    command = bench.command(verb=verb)
    ids = [(await bench.answer(command, answer)).event_id for answer in (one, other)]
    assert are_two == (ids[0] != ids[1])


async def test_a_code_that_is_a_records_own_id_is_withheld(bench: Bench) -> None:
    """It goes into the timeline and the DPO's mail, where no record may be named."""
    command = bench.command(verb="prove", sealed_references=parts("700001"))
    said = await bench.answer(command, Pending(look_again_at=NOW, code="700001"))
    assert "evidence_withheld" == said.code


@pytest.mark.parametrize(
    ("asked", "told"),
    [(None, None), (7, 7), (-7, 0), (10**15, 366 * 24 * 3600 * 1_000_000)],
)
async def test_a_vendor_may_put_us_off_for_a_year_and_no_longer(
    bench: Bench, asked: int | None, told: int | None
) -> None:
    """What it says is not to be believed beyond that, and would fit into no message."""
    said = await bench.answer(bench.command(), Retryable("rate_limited", asked))
    assert told == said.retry_after


def test_a_worker_that_fails_gives_its_records_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that went wrong, no answer was published: the process ends, and the next one gets it."""
    bench.send(bench.command())
    worker = bench.worker()

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(worker, "handle", broken)
    with pytest.raises(RuntimeError, match="given back"):
        worker.run(Event())
    with worker.subscribe() as subscription:
        assert 1 == len(subscription.poll(0.0, 10))


def test_nothing_located_is_no_answer() -> None:
    """That there is nothing can only be said with a control."""
    with pytest.raises(ValueError, match="needs a Control"):
        Located(references=())


# --- callbacks ---


class Named(Scripted):
    """Whose callbacks name the request, and the attempt whose link was used."""

    @override
    async def receive(self, callback: CallbackBody) -> Received:
        answer = await super().receive(callback)
        return Received(result=answer.result, request_id=REQUEST, system="hubspot", attempt=3, said_at=11)


async def called_back(bench: Bench, result: Result, **stated: Any) -> Confirmation:
    bench.handler = Named()
    bench.handler.script = [result]
    bench.call_back(b"{}", **stated)
    worker = bench.worker()
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    [said] = bench.said()
    return said


async def test_a_partys_word_keeps_its_time_its_place_and_its_attempt(bench: Bench) -> None:
    """It counts from when it came, however late we read it; among the party's other words where `serve` put
    it; and for what the attempt was about whose link it came by.
    """
    bench.now = NOW + 90
    said = await called_back(bench, Instructed(), received_at=NOW - 8, order=17)
    assert (NOW - 8, 17, 3, 11, REQUEST, "hubspot") == (
        said.occurred_at,
        said.order,
        said.attempt,
        said.said_at,
        said.request_id,
        said.system,
    )


async def test_a_word_from_the_future_counts_from_now(bench: Bench) -> None:
    """The clock of whoever took it in ran ahead; a word that comes after this one is the later."""
    assert NOW == (await called_back(bench, Instructed(), received_at=NOW + 8)).occurred_at


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (PartyErased(prove_at=None), {"kind": "party_erased", "grade": "party_stated", "look_at": None}),
        (PartyErased(prove_at=NOW + 5), {"kind": "party_erased", "look_at": NOW + 5}),
        (PartyAbsent(), {"kind": "absent", "grade": "party_stated"}),
        (PartyRefused(code="legal_claims"), {"kind": "refused", "code": "legal_claims"}),
        (VendorPurged(), {"kind": "proved", "grade": "vendor_stated", "end": "erased"}),
        (
            Retained(legal_basis="bookkeeping", retained_until=NOW + 9),
            {
                "kind": "retained",
                "legal_basis": "bookkeeping",
                "retained_until": NOW + 9,
                "grade": "party_stated",
            },
        ),
    ],
)
async def test_what_a_party_says_is_worth_what_a_partys_word_is(
    bench: Bench, result: Result, expected: dict[str, object]
) -> None:
    """No word of theirs is as good as a look of ours."""
    said = await called_back(bench, result)
    assert expected == {name: getattr(said, name) for name in expected}
