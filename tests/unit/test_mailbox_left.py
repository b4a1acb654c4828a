"""The mails' texts where a handler left something on purpose, or had no use for an id."""

from typing import Any

import pytest

from orchestrator.mailbox import dpo, notice
from orchestrator.settings import Dpo, Installation, Settings, Smtp, System
from schemas.messages import EscalationOutcome, Grade, Language, Outcome, OutcomeKind, SystemOutcome

LEAVES = {"locate.appointments_left": "3", "locate.documents_left": "1"}
UNSUBMITTED = {"locate.client_ids_elsewhere": "1", "locate.client_ids_without_property": "1"}


def _settings(language: Any = "en") -> Settings:
    return Settings(
        installation=Installation(
            name="Example AB", domain="radera.example.com", public_url="https://radera.example.com"
        ),
        dpo=Dpo(address="dpo@example.com", language=language),
        smtp=Smtp(host="mail.example.com", sender="radera@example.com"),
        systems={
            "superoffice": System(kind="any", title="SuperOffice"),
            "analytics": System(kind="any", title="Analytics"),
        },
    )


def _outcome(kind: OutcomeKind, *systems: SystemOutcome, language: Language = "en") -> Outcome:
    return Outcome(
        event_id="o-1",
        request_id="7d9f4c1e-0000-4000-8000-000000000001",
        kind=kind,
        code="acted",
        language=language,
        occurred_at=2,
        status="completed",
        received_at=1,
        due_at=3,
        systems=systems,
        timeline_head="9f" * 32,
    )


@pytest.mark.parametrize("kind", ["acted", "completed", "corrected"])
@pytest.mark.parametrize(
    ("language", "evidence", "everywhere", "line"),
    [
        ("en", LEAVES, "NOT erased everywhere", "LEFT, not erased: 3 appointments, 1 document"),
        ("sv", LEAVES, "INTE raderat överallt", "KVARLÄMNAT, inte raderat: 3 möten, 1 dokument"),
        (
            "en",
            {"prove.tickets_left": "2", "prove.notes_left": "1", "prove.calls_left": "0"},
            "NOT erased everywhere",
            "LEFT, not erased: 1 note, 2 tickets",
        ),
        (
            "sv",
            {"prove.deals_left": "1", "prove.calls_left": "2"},
            "INTE raderat överallt",
            "KVARLÄMNAT, inte raderat: 2 samtal, 1 affär",
        ),
        (
            "en",
            UNSUBMITTED,
            "NOT erased everywhere",
            "NOT SUBMITTED anywhere: 1 id of a site or app that no configured property has",
        ),
        (
            "sv",
            UNSUBMITTED,
            "INTE raderat överallt",
            "INTE BEGÄRT någonstans: 1 id för en webbplats eller app utan egendom",
        ),
    ],
)
def test_what_was_left_stands_below_the_system_and_is_not_erased_everywhere(
    kind: OutcomeKind, language: str, evidence: dict[str, str], everywhere: str, line: str
) -> None:
    """An erasure that left records on purpose is never told as one of everything."""
    erased = SystemOutcome(
        system="superoffice", status="erased", grade="vendor_stated", found=1, erased=1, evidence=evidence
    )
    text = dpo.render(_outcome(kind, erased), _settings(language))

    assert everywhere in text
    assert f"\n               {line}\n" in text


@pytest.mark.parametrize(
    "evidence",
    [
        {"locate.appointments_left": "0", "locate.client_ids_without_property": "0"},
        {"prove.sales_kept": "2"},
        {"locate.left": "2", "locate.appointments_left": "unknown", "locate.documents_left": "²"},
    ],
)
def test_where_nothing_was_left_nothing_is_said_of_it(evidence: dict[str, str]) -> None:
    """No count, none above zero, or one of what the status tells: then the mails are as without it."""
    with_it, without = (
        SystemOutcome(system="hubspot", status="erased", grade="seen_absent", evidence=given)
        for given in (evidence, {})
    )
    told = [dpo.render(_outcome("completed", one), _settings()) for one in (with_it, without)]
    notified = [notice.render(_outcome("notice", one), _settings()) for one in (with_it, without)]

    assert told[1] == told[0]
    assert notified[1] == notified[0]


KEEPS = {
    "locate.documents_kept": "2",
    "locate.documents_kept_basis": "legal_claims",
    "locate.documents_kept_reason": "A dispute about the delivery is open",
}


@pytest.mark.parametrize(
    ("language", "to_dpo", "to_person"),
    [
        (
            "en",
            "KEPT, not erased: 2 documents; ",
            "have not erased them: - SuperOffice; 2 documents; legal claims",
        ),
        (
            "sv",
            "BEHÅLLET, inte raderat: 2 dokument; ",
            "behållit och inte raderat: - SuperOffice; 2 dokument",
        ),
    ],
)
def test_what_is_kept_for_a_reason_is_told_with_the_reason(
    language: Language, to_dpo: str, to_person: str
) -> None:
    """The law and the operator's own sentence reach the DPO and the person."""
    one = SystemOutcome(system="superoffice", status="retained", grade="vendor_stated", evidence=KEEPS)
    told = " ".join(dpo.render(_outcome("completed", one), _settings(language)).split())
    notified = " ".join(notice.render(_outcome("notice", one, language=language), _settings()).split())

    assert to_dpo in told
    assert to_person in notified
    assert [True, True] == ["A dispute about the delivery is open" in text for text in (told, notified)]


def test_a_reason_that_looks_as_if_it_named_somebody_is_left_out() -> None:
    """It is the operator's text; the count and the law are told all the same."""
    evidence = {**KEEPS, "locate.documents_kept_reason": "Dispute with anna@example.com"}
    one = SystemOutcome(system="superoffice", status="retained", grade="vendor_stated", evidence=evidence)
    told = dpo.render(_outcome("completed", one), _settings())

    assert "anna" not in told
    assert "2 documents" in told


@pytest.mark.parametrize("verbs", [("locate", "erase", "prove"), ("prove", "erase", "locate")])
def test_the_proofs_count_is_the_last_word(verbs: tuple[str, ...]) -> None:
    """Somebody removed two of the three meanwhile; the looks before are out of date, wherever they stand."""
    counts = {"locate": "3", "erase": "2", "prove": "1"}
    evidence = {f"{verb}.documents_left": counts[verb] for verb in verbs}
    one = SystemOutcome(system="superoffice", status="erased", grade="vendor_stated", evidence=evidence)

    assert "LEFT, not erased: 1 document\n" in dpo.render(_outcome("completed", one), _settings())


def test_a_kind_without_a_word_of_its_own_is_told_as_its_token() -> None:
    """It is ugly, but not left out; counted twice, it is told once, with the larger count."""
    evidence = {"locate.rooms_left": "1", "prove.rooms_left": "2"}
    chats = SystemOutcome(system="hubspot", status="erased", grade="seen_absent", evidence=evidence)

    assert "LEFT, not erased: 2 rooms\n" in dpo.render(_outcome("completed", chats), _settings())


@pytest.mark.parametrize(
    ("language", "in_part", "kept", "unsubmitted"),
    [
        (
            "en",
            "SuperOffice; but not everything: see below",
            (
                "We have kept these records, which are linked to you, and have not erased them: "
                "- SuperOffice; 3 appointments, 1 document "
                "The data protection officer, whose address is below, will give you the reasons."
            ),
            (
                "Some ids that you gave us belong to no site or app that we measure, so we could not ask for "
                "erasure by them. Their number: 1. If you tell us on which of our sites"
            ),
        ),
        (
            "sv",
            "SuperOffice; men inte allt: se nedan",
            (
                "Dessa poster, som är kopplade till dig, har vi behållit och inte raderat: "
                "- SuperOffice; 3 möten, 1 dokument "
                "Dataskyddsombudet, vars adress finns nedan, ger dig skälen."
            ),
            (
                "Några id som du gav oss hör inte till någon webbplats eller app som vi mäter, så vi har "
                "inte kunnat begära radering med dem. Antal: 1. Om du berättar på vilken"
            ),
        ),
        (
            "nb",
            "SuperOffice; men ikke alt: se nedenfor",
            (
                "Disse postene, som er knyttet til deg, har vi beholdt og ikke slettet: "
                "- SuperOffice; 3 avtaler, 1 dokument "
                "Personvernombudet, med adressen nedenfor, gir deg begrunnelsen."
            ),
            (
                "Noen ID-er som du ga oss, hører ikke til noe nettsted eller noen app som vi måler, så vi "
                "har ikke kunnet be om sletting med dem. Antall: 1. Hvis du forteller oss på hvilket"
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    ("status", "grade"),
    [("erased", "seen_absent"), ("erased", "vendor_stated"), ("anonymised", None), ("accepted", None)],
)
def test_a_notice_names_the_kinds_that_were_kept(
    status: str, grade: Grade | None, language: Language, in_part: str, kept: str, unsubmitted: str
) -> None:
    """Where a system's data is told of as erased, or soon erased, the person reads that some of it is not."""
    systems = (
        SystemOutcome(system="superoffice", status=status, grade=grade, evidence=LEAVES),
        SystemOutcome(system="analytics", status="erased", grade="vendor_promised", evidence=UNSUBMITTED),
    )
    text = notice.render(_outcome("notice", *systems, language=language), _settings())
    told = " ".join(text.split())

    assert [True, True, True] == [said in told for said in (in_part, kept, unsubmitted)]


FACTS = {
    "locate.persons_of_one_address": "2",
    "locate.created_first": "2019-03-01",
    "locate.created_last": "2026-08-31",
}


@pytest.mark.parametrize(
    ("language", "facts", "line"),
    [
        ("en", FACTS, "Records with an address of the person's: 2, created from 2019-03-01 to 2026-08-31"),
        ("sv", FACTS, "Poster med en av personens adresser: 2, skapade från 2019-03-01 till 2026-08-31"),
        ("en", {"locate.persons_of_one_address": "3"}, "Records with an address of the person's: 3"),
        (
            "en",
            {"locate.persons_of_one_address": "2", "prove.persons_of_one_address": "0"}
            | {"prove.records_changed": "1"},
            "Records that were found, and that have none of the person's addresses by now: 1",
        ),
        (
            "sv",
            {"locate.persons_of_one_address": "0", "locate.records_changed": "2"},
            "Poster som hittades och som inte längre har någon av personens adresser: 2",
        ),
        (
            "en",
            {"locate.persons_of_one_address": "0", "locate.persons_led_to": "1"},
            "to whom a record of the person leads: 1",
        ),
        (
            "sv",
            {**FACTS, "locate.persons_led_to": "1"},
            (
                "Poster med en av personens adresser: 2; "
                "Personer med andra adresser, som en av personens poster leder till: 1"
            ),
        ),
        ("en", {}, "Whose these records are can't be told"),
    ],
)
def test_who_decides_on_several_records_hears_what_tells_them_apart(
    language: Language, facts: dict[str, str], line: str
) -> None:
    """How many, and how old: nothing that names anybody, and no more than the handler knew."""
    asked = EscalationOutcome(
        escalation_id="e1",
        version=1,
        reason="ambiguous",
        system="superoffice",
        code="ambiguous_match",
        raised_at=1,
        actions=("erase", "retry", "waive"),
    )
    system = SystemOutcome(system="superoffice", status="awaiting_decision", found=2, evidence=facts)
    outcome = _outcome("escalated", system).model_copy(update={"escalations": (asked,), "concerns": "e1"})
    told = " ".join(dpo.render(outcome, _settings(language)).split())

    assert line in told
    assert "erase --escalation e1@1" in told


def test_an_id_of_no_property_is_counted_once_for_all_properties() -> None:
    """Each property counts the same ids, so that their numbers don't add up. The person reads it once."""
    systems = [
        SystemOutcome(system=name, status="erased", grade="vendor_promised", evidence=UNSUBMITTED)
        for name in ("superoffice", "analytics")
    ]
    told = " ".join(notice.render(_outcome("notice", *systems), _settings()).split())
    assert 1 == told.count("Their number: 1.")


def test_ids_of_two_kinds_that_no_property_takes_are_counted_together() -> None:
    """A client id and a user id; what another property takes is no loss."""
    evidence = {
        "erase.client_ids_without_property": "1",
        "erase.user_ids_without_property": "2",
        "erase.app_instance_ids_elsewhere": "4",
    }
    one = SystemOutcome(system="analytics", status="erased", grade="vendor_promised", evidence=evidence)
    assert "NOT SUBMITTED anywhere: 3 ids" in dpo.render(_outcome("completed", one), _settings())


@pytest.mark.parametrize(("reached", "count"), [((), 3), (("shop",), 2), (("web", "shop"), 0)])
def test_an_id_of_a_property_that_the_request_does_not_reach_is_told(
    reached: tuple[str, ...], count: int
) -> None:
    """Another property takes it, and nobody asks that one: the id must not vanish."""
    evidence = {"locate.client_ids_elsewhere": "3", "locate.client_ids_elsewhere_in": "app,web:2 shop:1"}
    systems = [
        SystemOutcome(system="analytics", status="erased", grade="vendor_promised", evidence=evidence),
        *(SystemOutcome(system=name, status="erased", grade="vendor_promised") for name in reached),
    ]
    told = " ".join(dpo.render(_outcome("completed", *systems), _settings(), {}).split())
    line = f"NOT SUBMITTED: ids of properties that are not part of this request: {count}"
    assert [bool(count)] * 2 == [line in told, "NOT erased everywhere" in told]
    words: dict[Language, str] = {"en": "Their number: ", "sv": "Antal: ", "nb": "Antall: "}
    for language, said in words.items():
        outcome = _outcome("notice", *systems, language=language)
        notified = " ".join(notice.render(outcome, _settings(), {}).split())
        assert bool(count) == (f"{said}{count}." in notified)
