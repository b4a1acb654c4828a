"""Where was looked, by what, and where not: what the mails say of it."""

from typing import Any, get_args

import pytest

from handlers.registry import declared_places
from orchestrator.mailbox import dpo, notice, terms, words
from orchestrator.mailbox.places import Looks, Titles
from orchestrator.privacy import KINDS, looks_personal
from orchestrator.settings import Dpo, Installation, Settings, Smtp, System
from schemas.messages import EscalationOutcome, Language, Outcome, OutcomeKind, Place, SystemOutcome

DAY = 86_400_000_000
NOW = 1_788_211_800_000_000  # 31 August 2026, 23:30 in Stockholm

TITLES: Titles = {
    "crm": {
        "contacts": {"en": "contacts", "sv": "kontakter", "nb": "kontakter"},
        "archive": {"en": "deleted contacts", "sv": "raderade kontakter", "nb": "slettede kontakter"},
        "tickets": {"en": "tickets", "sv": "ärenden", "nb": "saker"},
        "chats": {"en": "chats", "sv": "chattar", "nb": "chatter"},
    }
}
LOOKED = (
    Place(name="contacts", looked=True, by={"email": 1}, not_by={"phone": 1}),
    Place(name="archive", looked=True, by={"email": 1}, not_by={"phone": 1}),
    Place(name="tickets", looked=True),
    Place(name="chats", looked=False, reason="not_configured"),
)


def _settings(language: Any = "en") -> Settings:
    return Settings(
        installation=Installation(
            name="Example AB", domain="radera.example.com", public_url="https://radera.example.com"
        ),
        dpo=Dpo(address="dpo@example.com", language=language),
        smtp=Smtp(host="mail.example.com", sender="radera@example.com"),
        systems={"crm": System(kind="crm", title="The CRM")},
    )


def _outcome(kind: OutcomeKind, *systems: SystemOutcome, **changed: Any) -> Outcome:
    given: dict[str, Any] = {
        "event_id": "o-1",
        "request_id": "7d9f4c1e-0000-4000-8000-000000000001",
        "kind": kind,
        "code": "acted" if kind == "notice" else None,
        "occurred_at": NOW,
        "status": "completed",
        "received_at": NOW - 20 * DAY,
        "due_at": NOW + 10 * DAY,
        "acted_at": NOW,
        "grade": "seen_absent",
        "systems": systems,
        "timeline_head": "9f" * 32,
    }
    return Outcome(**(given | changed))


def _system(**changed: Any) -> SystemOutcome:
    given: dict[str, Any] = {
        "system": "crm",
        "status": "absent",
        "grade": "seen_absent",
        "places": LOOKED,
    }
    return SystemOutcome(**(given | changed))


def _told(*systems: SystemOutcome, language: Any = "en", **changed: Any) -> str:
    text = dpo.render(_outcome("completed", *systems, **changed), _settings(language), TITLES)
    return " ".join(text.split())


def _notified(*systems: SystemOutcome, language: Language = "en", **changed: Any) -> str:
    text = notice.render(_outcome("notice", *systems, language=language, **changed), _settings(), TITLES)
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        (
            "en",
            (
                "The CRM nothing found, looking in the right account "
                "looked in contacts, deleted contacts; by e-mail address; NOT by telephone number "
                "NOT LOOKED IN: tickets (nothing was found that leads there) "
                "NOT LOOKED IN: chats (it is not set up here)"
            ),
        ),
        (
            "sv",
            (
                "The CRM inget funnet, vid sökning i rätt konto "
                "letat i kontakter, raderade kontakter; på e-postadress; INTE på telefonnummer "
                "INTE LETAT I: ärenden (inget hittades som leder dit) "
                "INTE LETAT I: chattar (det är inte inställt här)"
            ),
        ),
    ],
)
def test_the_officer_reads_where_was_looked_and_where_not(language: str, lines: str) -> None:
    """By which kinds of identifier, what was given and not searched by, and what nothing found led to."""
    assert lines in _told(_system(), language=language)


@pytest.mark.parametrize(
    ("language", "looked", "not_looked"),
    [
        (
            "en",
            (
                "This is where we have looked, and by what: "
                "- The CRM; contacts, deleted contacts; by e-mail address; not by telephone number "
                "- The CRM; tickets; by what we had found of you"
            ),
            "Here we have not looked: - The CRM; chats; it is not set up here",
        ),
        (
            "sv",
            (
                "Här har vi letat, och på vad: "
                "- The CRM; kontakter, raderade kontakter; på e-postadress; inte på telefonnummer "
                "- The CRM; ärenden; via det vi hade funnit om dig"
            ),
            "Här har vi inte letat: - The CRM; chattar; det är inte inställt här",
        ),
        (
            "nb",
            (
                "Her har vi lett, og på hva: "
                "- The CRM; kontakter, slettede kontakter; på e-postadresse; ikke på telefonnummer "
                "- The CRM; saker; ut fra det vi hadde funnet om deg"
            ),
            "Her har vi ikke lett: - The CRM; chatter; det er ikke satt opp her",
        ),
    ],
)
def test_the_person_reads_where_was_looked_and_where_not(
    language: Language, looked: str, not_looked: str
) -> None:
    """In their own language, with the handler's own names of the places."""
    told = _notified(_system(status="erased", found=1), language=language)
    assert [True, True] == [looked in told, not_looked in told]


@pytest.mark.parametrize(
    ("language", "not_looked", "by_found"),
    [
        ("en", "- The CRM; tickets; nothing was found that leads there", "by what we had found"),
        ("sv", "- The CRM; ärenden; inget hittades som leder dit", "via det vi hade funnit"),
        ("nb", "- The CRM; saker; ingenting ble funnet som fører dit", "ut fra det vi hadde funnet"),
    ],
)
def test_a_place_that_is_read_by_what_was_found_was_not_read_where_nothing_was(
    language: Language, not_looked: str, by_found: str
) -> None:
    """ "We found nothing" and "we looked by what we had found of you" can't both be true."""
    absent = _notified(_system(), language=language)
    assert [True, False] == [not_looked in absent, by_found in absent]
    assert not_looked not in _notified(_system(status="erased", found=1), language=language)


def test_the_officer_reads_that_a_place_was_read_by_the_records_that_were_found() -> None:
    """Where some were found."""
    expected = (
        "looked in tickets; by the records that were found NOT LOOKED IN: chats (it is not set up here)"
    )
    assert expected in _told(_system(status="erased", found=1))


@pytest.mark.parametrize(
    ("status", "claims"),
    [
        ("absent", ("nothing found, looking in the right account", "We have looked, and found nothing")),
        ("erased", ("erased, and seen absent", "we have looked again to see that it is gone")),
    ],
)
@pytest.mark.parametrize(
    ("places", "is_said"),
    [
        pytest.param(LOOKED, True, id="it says where"),
        pytest.param((), False, id="it says nothing"),
        pytest.param((LOOKED[3],), False, id="it names only where it did not look"),
    ],
)
def test_a_look_is_told_of_only_with_its_places(
    status: str, claims: tuple[str, str], places: tuple[Place, ...], is_said: bool
) -> None:
    """ "Nothing found" and "looked again, and it is gone" are said only of a handler that says where."""
    system = _system(status=status, places=places)
    told = [_told(system), _notified(system)]

    assert [is_said] * 2 == [claim in text for claim, text in zip(claims, told, strict=True)]
    assert [is_said, is_said] == ["where it looked" not in told[0], "where we looked" not in told[1]]
    assert is_said == ("we looked ourselves" in told[0])


@pytest.mark.parametrize(
    ("status", "grade"), [("erased", None), ("absent", None), ("absent", "vendor_promised")]
)
def test_without_our_own_look_no_notice_says_that_we_looked(status: str, grade: Any) -> None:
    """An end without a proof of our own is worded by what there is."""
    told = _notified(_system(status=status, grade=grade))
    assert [False, False] == ["looked again" in told, "We have looked, and" in told]


def test_of_two_addresses_one_searched_by_is_counted() -> None:
    """ "By e-mail address" alone would be read as by each of them."""
    place = Place(name="contacts", looked=True, by={"email": 2}, not_by={"email": 1})
    assert "by e-mail address (2); NOT by e-mail address (1)" in _told(_system(places=(place,)))


def test_a_place_that_nobody_declares_is_told_by_its_token_made_readable() -> None:
    """One of an earlier version's handler, or of a handler that was removed since."""
    places = (
        Place(name="call_logs", looked=True, by={"badge_number": 1}),
        Place(name="vault.2", looked=False, reason="under_repair"),
    )
    for told in (_told(_system(places=places)), _notified(_system(places=places))):
        assert [True] * 4 == [one in told for one in ("call logs", "badge number", "vault 2", "under repair")]


def test_a_token_that_looks_personal_stays_out_of_every_mail() -> None:
    """A handler of somebody else's may put into a name what doesn't belong there."""
    places = (Place(name="calls_of_0701740605", looked=True, by={"email": 1}),)
    told = _told(_system(places=places)) + _notified(_system(places=places))
    assert [False, True] == ["0701740605" in told, "looked in (…)" in told]


PURGE = {"prove.purged_by": "2026-09-30T00:00:00Z"}
AHEAD = {"status": "erased", "found": 1, "erased": 1, "evidence": PURGE}


@pytest.mark.parametrize(
    ("language", "to_dpo", "to_person"),
    [
        (
            "en",
            (
                "OUT OF REACH, but NOT purged yet: the vendor purges it by 30 September 2026; 1 found; "
                "1 accepted for erasure"
            ),
            "the supplier still has it in store and purges it later: - The CRM; purged by 30 September 2026",
        ),
        (
            "sv",
            (
                "UTOM RÄCKHÅLL, men ännu INTE gallrat: leverantören gallrar det senast 30 september 2026; "
                "funna: 1; godtagna för radering: 1"
            ),
            "har dem kvar i sin lagring och gallrar dem senare: - The CRM; gallras senast 30 september 2026",
        ),
    ],
)
def test_what_a_vendor_has_still_to_purge_is_not_gone(
    language: Language, to_dpo: str, to_person: str
) -> None:
    """It is out of our reach: that it can't be found any more does not mean that it is no more."""
    told = _told(_system(**AHEAD), language=language)
    notified = _notified(_system(**AHEAD), language=language)

    assert [True, True] == [to_dpo in told, to_person in notified]
    assert [False] * 3 == [one in told + notified for one in ("seen absent", "looked again", "sett borta")]


def test_a_purge_ahead_is_not_erased_everywhere() -> None:
    """The officer's first lines say so."""
    assert "NOT erased everywhere" in _told(_system(**AHEAD))


def test_once_the_day_of_the_purge_has_passed_it_is_told_as_erased() -> None:
    """From then on nobody has it."""
    told = _told(_system(**AHEAD), occurred_at=NOW + 40 * DAY)
    notified = _notified(_system(**AHEAD), occurred_at=NOW + 40 * DAY)
    assert [True, True] == ["erased, and seen absent" in told, "looked again" in notified]


def test_a_purge_whose_day_cannot_be_read_is_still_ahead() -> None:
    """Nobody knows when; so nothing is called gone."""
    system = _system(**(AHEAD | {"evidence": {"prove.purged_by": "vendor"}}))
    assert "when the vendor purges it is not known" in _told(system)
    assert [True, False] == [one in _notified(system) for one in ("purges it later", "looked again")]


@pytest.mark.parametrize(
    ("code", "words_en", "words_sv"),
    [
        (
            "place_unreadable.archive",
            "“deleted contacts” could not be read",
            "”raderade kontakter” kunde inte",
        ),
        ("place_unreadable.call_logs", "“call logs” could not be read", "”call logs” kunde inte läsas"),
        ("proof_in_fewer_places", "looked in fewer places", "letade på färre platser"),
        ("circuit_open", "has not answered for so long", "har inte svarat på så länge"),
        ("unknown_system", "No worker knows the system", "Ingen worker känner till"),
        ("told_to_wait", "must not be called", "får anropas"),
        ("no_free_connection", "gets its turn", "får plats"),
        ("resolver_busy", "name server is too slow", "Namnservern är så långsam"),
        ("resolver_silent", "does not say where", "säger inte var"),
        ("record_changed", "is another one now", "är nu en annan"),
        ("filter_not_honoured", "that nobody asked for", "ingen frågade efter"),
        ("answer_about_less", "Is an older worker running?", "Kör en äldre worker ännu?"),
        ("several_addresses", "none was chosen for letters", "ingen är vald för brev"),
    ],
)
def test_what_a_code_means_stands_below_its_question(code: str, words_en: str, words_sv: str) -> None:
    """A place is named as in the rest of the mail."""
    asked = EscalationOutcome(
        escalation_id="e1",
        version=1,
        reason="failed",
        system="crm",
        code=code,
        raised_at=1,
        actions=("retry",),
    )
    one = SystemOutcome(system="crm", status="awaiting_decision")
    told = [_told(one, language=language, escalations=(asked,)) for language in ("en", "sv")]
    assert [True, True] == [words_en in told[0], words_sv in told[1]]


def test_every_place_of_our_handlers_has_a_title_in_every_language() -> None:
    """The mails name it by that, and it names nobody."""
    for kind, places in declared_places().items():
        for place in places:
            titles = [place.title.get(language, "") for language in get_args(Language)]
            assert (kind, place.name, []) == (kind, place.name, [one for one in titles if not one.strip()])
            assert not any(looks_personal(one) for one in titles)


def test_every_kind_of_identifier_has_a_name_in_every_language() -> None:
    """What was searched by is told by it; nothing is searched by the address that the person is told at."""
    assert [{*KINDS} - {"notice_to"}] * 3 == [{*table} for table in terms.MISSING.values()]


def test_the_languages_say_the_same_codes_and_reasons() -> None:
    """What one table has, the others have."""
    assert words.FAILURE["en"].keys() == words.FAILURE["sv"].keys()
    assert terms.NOT_LOOKED["en"].keys() == terms.NOT_LOOKED["sv"].keys() == terms.NOT_LOOKED["nb"].keys()


def test_a_place_that_was_not_read_to_its_end_is_told_as_not_looked_in() -> None:
    """The vendor shows only a part of it: the DPO and the person read why, and never that it was searched."""
    part = Place(name="tickets", looked=True, reason="archived_contact")
    told = _told(_system(status="erased", found=1, places=(LOOKED[0], part)))
    assert "NOT LOOKED IN: tickets (an archived contact does not show what belongs to it)" in told
    assert "looked in tickets" not in told
    notified = _notified(_system(status="erased", found=1, places=(LOOKED[0], part)))
    assert "The CRM; tickets; an archived contact does not show what belongs to it" in notified


def test_the_mail_and_the_status_are_told_from_one_list() -> None:
    """What `radera status` prints of a system is in the DPO's mail, word for word."""
    system = _system(status="erased", found=1)
    lines = list(Looks(system, _settings(), TITLES, "en").told(words.LABEL["en"]))
    assert 3 == len(lines)
    assert [] == [line for line in lines if line not in _told(system)]
