"""Ended requests whose evidence would no longer suffice: what can be told from what is kept of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.saga.decide import Decision
from orchestrator.saga.events import Event
from orchestrator.saga.model import Ended, Finished, InProgress, Place, Saga, Step
from orchestrator.saga.older import upgraded
from orchestrator.saga.timeline import GENESIS, Entry, append
from orchestrator.service.recheck import FAULTS, faults_of
from tests.oracle.life import Life
from tests.unit.saga_world import AGENCY, CRM, MARKETING, World

REQUEST = "7d9f4c1e-0000-4000-8000-000000000001"
LOOKED = (Place(name="contacts", looked=True, by={"email": 1}),)


def saga(*steps: Step, **changed: Any) -> Saga:
    given: dict[str, Any] = {
        "request_id": REQUEST,
        "version": 1,
        "state": Finished(status="completed", at=90),
        "received_at": 1,
        "due_at": 100,
        "source": "web",
    }
    return Saga(**{**given, "steps": steps, **changed})


def step(end: Any = "erased", *, kind: str = "hubspot", **changed: Any) -> Step:
    given: dict[str, Any] = {
        "system": "crm",
        "kind": kind,
        "grade": "seen_absent",
        "erased": 1,
        "erased_at": 20,
        "places": LOOKED,
    }
    fields = {**given, **changed}
    return Step(state=Ended(end=end, at=80, grade=fields["grade"]), **fields)


def told(*lines: str) -> list[Entry]:
    """A timeline, from lines such as "confirmed trigger=located attempt=1 found=1"; of the system "crm"
    where the action is one of a system's.
    """
    entries: list[Entry] = []
    previous = GENESIS
    for seq, line in enumerate(lines, start=1):
        action, *pairs = line.split()
        data = dict(pair.split("=") for pair in pairs)
        if action in ("confirmed", "command_sent"):
            data = {"system": "crm", **data}
        entries.append(append(previous, seq, seq, action, data))
        previous = entries[-1].hash
    return entries


def faults(one: Saga, entries: Sequence[Entry]) -> list[tuple[str | None, str]]:
    """What the command finds in a document as it is kept, and read today."""
    one = upgraded(one)
    return [(fault.system, fault.fault) for fault in faults_of(one, entries)]


FIRST = (
    "received",
    "command_sent verb=locate attempt=1",
    "confirmed trigger=located verb=locate attempt=1 found=1",
    "command_sent verb=erase attempt=2",
    "confirmed trigger=accepted verb=erase attempt=2 erased=1",
    "command_sent verb=prove attempt=3",
    "confirmed trigger=proved verb=prove attempt=3",
)
SECOND = (
    "supplemented",
    "command_sent verb=locate attempt=4",
    "confirmed trigger=located verb=locate attempt=4 found=2",
    "command_sent verb=erase attempt=5",
)


def test_a_request_that_ended_by_the_rules_has_no_fault() -> None:
    """Searched, erased, proved, with places; and once more after identifiers were added."""
    again = ("confirmed trigger=accepted verb=erase attempt=5 erased=2",)
    assert [] == faults(saga(step()), told(*FIRST))
    assert [] == faults(saga(step()), told(*FIRST, *SECOND, *again))


def test_an_open_request_is_not_listed() -> None:
    """It will end by today's rules, or ask."""
    assert [] == faults(saga(step(places=()), state=InProgress(until=9)), told(*FIRST))


def test_the_acceptance_of_the_first_erasure_ended_the_second() -> None:
    """Identifiers were added; what ended the step is an answer to the command before."""
    late = (*FIRST[:4], *SECOND, "confirmed trigger=accepted verb=erase attempt=2 erased=1")
    assert [("crm", "answer_about_less")] == faults(saga(step()), told(*late))


def test_nothing_found_by_fewer_identifiers() -> None:
    """An absence that answers the search before the supplement says nothing of what was added."""
    entries = told(*FIRST[:2], "supplemented", "confirmed trigger=absent verb=locate attempt=1")
    assert [("crm", "answer_about_less")] == faults(saga(step("absent")), entries)


def test_a_partys_word_by_an_older_link() -> None:
    """It counts from the asking whose link it came by; one without a link from where it stands."""
    asked = (
        "command_sent verb=locate attempt=1",
        "supplemented",
        "command_sent verb=locate attempt=2",
    )
    agency = step(kind="recruitment", grade="party_stated", places=())
    faulty = [
        faults(saga(agency), told(*asked, f"confirmed trigger=party_erased attempt={attempt}"))
        for attempt in (1, 2, 0)
    ]
    assert [[("crm", "answer_about_less")], [], []] == faulty


@pytest.mark.parametrize("end", ["erased", "retained", "anonymised"])
def test_records_that_no_erasure_carried(end: str) -> None:
    """A proof saw records after the last accepted erasure, and the step ended all the same."""
    seen = "confirmed trigger=still_present verb=prove attempt=3 found=1"
    assert [("crm", "seen_after_erasure")] == faults(saga(step(end)), told(*FIRST[:6], seen))
    carried = ("command_sent verb=erase attempt=4", "confirmed trigger=absent verb=erase attempt=4")
    assert [] == faults(saga(step(end)), told(*FIRST[:6], seen, *carried))


def test_an_erasure_after_a_refusal() -> None:
    """The controller's latest word is no, and a command to erase went out after it."""
    refused = ("confirmed trigger=instructed attempt=1", "confirmed trigger=refused attempt=1")
    after = ("command_sent verb=erase attempt=8", "confirmed trigger=accepted verb=erase attempt=8")
    tenant = step(kind="tenant", answered_at=5, instruction="erase")
    assert [("crm", "erased_after_refusal")] == faults(saga(tenant), told(*FIRST, *refused, *after))
    taken_back = "confirmed trigger=instructed attempt=1"
    assert [] == faults(saga(tenant), told(*FIRST, *refused, taken_back, *after))
    # Too late to stop anything: the DPO heard of it then.
    assert [] == faults(saga(tenant), told(*FIRST, *refused))
    # Numbered words count in their order: the refusal was the earlier one, and read later.
    numbered = (
        "confirmed trigger=instructed attempt=1 order=9",
        "confirmed trigger=refused attempt=1 order=8",
    )
    assert [] == faults(saga(tenant), told(*FIRST, *numbered, *after))
    # An agency is only asked again.
    assert [] == faults(saga(step(kind="recruitment")), told(*FIRST, *refused, *after))


def test_acted_on_and_then_not_erased() -> None:
    """The person's letter says that the erasure is under way; in the end it was waived."""
    seen = ("acted", "confirmed trigger=still_present verb=prove attempt=3 found=1")
    waived = step("waived", grade=None)
    assert [("crm", "acted_then_not_erased")] == faults(saga(waived), told(*FIRST[:6], *seen))
    assert [] == faults(saga(waived), told(*FIRST[:6], *seen, "acted_withdrawn"))


def test_more_people_than_the_officer_agreed_to() -> None:
    """Her "erase" was about two records; a later search took three, and nobody asked."""
    asked = (
        "command_sent verb=locate attempt=1",
        "confirmed trigger=located verb=locate attempt=1 found=2",
        "escalated escalation=e1 version=1 reason=ambiguous system=crm",
        "decided action=erase escalation=e1",
        "command_sent verb=locate attempt=2",
        "confirmed trigger=located verb=locate attempt=2 found=2",
        "supplemented",
        "command_sent verb=locate attempt=3",
    )
    end = ("command_sent verb=erase attempt=4", "confirmed trigger=accepted verb=erase attempt=4")
    more, same = (
        told(*asked, f"confirmed trigger=located verb=locate attempt=3 found={n}", *end) for n in (3, 2)
    )
    old = step(grade="party_stated", places=())
    assert [("crm", "erased_unasked")] == faults(saga(old), more)
    assert [] == faults(saga(old), same)
    again = "confirmed trigger=located verb=locate attempt=3 found=3 code=ambiguous_match"
    assert [] == faults(saga(old), told(*asked, again, *end))


def test_a_handler_that_did_not_say_where_it_looked() -> None:
    """Every look of before; a party's word and a promise rest on none."""
    for grade in ("seen_absent", "vendor_stated"):
        assert [("crm", "places_unsaid")] == faults(saga(step(grade=grade, places=())), told(*FIRST))
    for grade in ("party_stated", "vendor_promised"):
        assert [] == faults(saga(step(grade=grade, places=())), told(*FIRST))


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({"prove.recycle_bin": "empty"}, ["bin_never_seen", "places_unsaid"]),
        ({"prove.in_recycle_bin": "0"}, ["bin_never_seen", "places_unsaid"]),
        ({"prove.in_recycle_bin": "1"}, ["places_unsaid"]),
        ({"answer.vendor_event": "person.deleted"}, ["places_unsaid"]),
        (
            {"locate.submissions": "1", "prove.in_recycle_bin": "0"},
            ["lead_not_followed", "bin_never_seen", "places_unsaid"],
        ),
        ({"locate.submissions": "1", "locate.persons": "1", "prove.in_recycle_bin": "1"}, ["places_unsaid"]),
    ],
)
def test_superoffices_bin_and_leads(evidence: dict[str, str], found: list[str]) -> None:
    """What the vendor states rests on a record that was seen in its bin; a submission leads to a person."""
    one = step(kind="superoffice", grade="vendor_stated", evidence=evidence, places=())
    assert [("crm", fault) for fault in found] == faults(saga(one), told(*FIRST))
    # A handler that says where it looked goes by today's rules.
    assert [] == faults(saga(replace(one, places=LOOKED)), told(*FIRST))


def test_a_proof_that_did_not_know_when() -> None:
    """Without the time of the erasure nothing newer can be told."""
    one = step(erased_at=None, places=())
    assert [("crm", "proof_without_time"), ("crm", "places_unsaid")] == faults(saga(one), told(*FIRST))


def test_a_verification_about_less() -> None:
    """The identifiers that were added rode on a question that did not know them."""
    asked, verified = "escalated escalation=e1 reason=identity_unverified version=1", "decided action=verify"
    assert [(None, "verified_about_less")] == faults(saga(), told(asked, "supplemented", verified))
    again = asked.replace("version=1", "version=2")
    assert [] == faults(saga(), told(asked, "supplemented", again, verified))


@pytest.mark.parametrize(("kind", "counts"), [("tenant", True), ("recruitment", True), ("hubspot", False)])
def test_words_that_were_set_aside(kind: str, counts: bool) -> None:
    """A vendor is asked again after the quarantine; what a party said is not said again."""
    one = step(kind=kind, grade="party_stated")
    for action in ("parked", "quarantined"):
        assert ([(None, "words_set_aside")] if counts else []) == faults(saga(one), told(*FIRST, action))
        # A timeline of today says what it was, and a party's words are kept.
        assert [] == faults(saga(one), told(*FIRST, f"{action} trigger=located"))


def test_two_notices_by_one_decision() -> None:
    """A waiver that named one of them settled both."""
    waived, given = "decided action=waive", "notice_given purpose=acted how=otherwise"
    assert [(None, "told_by_one_decision")] == faults(saga(), told(waived, given, given))
    assert [] == faults(saga(), told(waived, given, waived, given))


def test_a_system_that_holds_nothing_has_no_evidence_to_look_at() -> None:
    """It ended by what the settings say of it."""
    nothing = Step(
        system="crm", kind="paper", state=Ended(end="not_identifiable", at=3, reason="no_identifiers_kept")
    )
    assert [] == faults(saga(nothing), told("received", "supplemented"))


def test_a_fault_has_the_date_of_the_end_and_words() -> None:
    """Of the step's end, where it is a step's."""
    [one] = faults_of(saga(step(places=())), told(*FIRST))
    assert (REQUEST, 80) == (one.request_id, one.ended_at)
    assert all(words.endswith(".") for words in FAULTS.values())


@pytest.mark.parametrize("seed", range(40))
def test_no_random_life_of_today_is_listed(seed: int) -> None:
    """Whatever happens to a request, it doesn't end with what the command looks for."""
    life = Life(seed)
    entries: list[Entry] = []
    feed = life.feed

    def noted(event: Event, *, breaks: bool = False) -> Decision:
        decision = feed(event, breaks=breaks)
        entries.extend(decision.entries)
        return decision

    life.feed = noted  # type: ignore[method-assign]  # only listens
    life.live()
    assert life.open.is_finished
    assert {"places_unsaid"} >= {fault for _, fault in faults(life.open, entries)}


def test_the_page_names_every_fault() -> None:
    """With the meaning that the command prints."""
    page = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    assert [] == [name for name, words in FAULTS.items() if f"| `{name}` | {words} |" not in page]


def test_what_ends_by_todays_rules_is_not_listed() -> None:
    """Whole lives, supplement and all: the only thing to say is that these answers name no places."""
    world = World(CRM, MARKETING, AGENCY)
    world.request()
    world.supplement()
    for system in ("crm", "marketing"):
        world.finish(system)
    world.answer("agency", "awaiting_party")
    world.callback("agency", "party_erased", grade="party_stated")
    world.mail_everything()
    while not world.open.is_finished:
        world.tick()
    assert {"places_unsaid"} >= {fault for _, fault in faults(world.open, world.entries)}
