"""The mails' texts, whole: what an officer and a subject read, in every language."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from orchestrator.cli.decide import REFUSALS
from orchestrator.mailbox import dpo, notice, questions, terms, words
from orchestrator.privacy.guard import looks_personal
from orchestrator.saga import escalations
from orchestrator.saga.model import End, StepStatus
from orchestrator.settings import Dpo, Installation, Notices, Settings, Smtp, System
from schemas.messages import (
    EscalationOutcome,
    Grade,
    Language,
    Outcome,
    OutcomeKind,
    Place,
    SystemOutcome,
)

REQUEST = "7d9f4c1e-0000-4000-8000-000000000001"
DAY = 86_400_000_000
RECEIVED = 1_788_211_800_000_000  # 31 August 2026, 23:30 in Stockholm
DUE = 1_790_805_599_999_999  # the end of 30 September 2026 in Stockholm
END_OF_2033 = 2_019_686_399_999_999  # in UTC, as who says a retention date gives it


def _settings(language: Any = "en", **changed: Any) -> Settings:
    titles = {
        "superoffice": "SuperOffice",
        "hubspot": "HubSpot",
        "analytics": "Analytics",
        "agency": "The agency",
    }
    systems = {name: System(kind="any", title=title) for name, title in titles.items()}
    systems["survey"] = System(kind="holds_nothing", title="Surveys", reason="anonymous")
    given: dict[str, Any] = {
        "installation": Installation(
            name="Example AB", domain="radera.example.com", public_url="https://radera.example.com"
        ),
        "dpo": Dpo(address="dpo@example.com", language=language),
        "smtp": Smtp(host="mail.example.com", sender="radera@example.com"),
        "systems": systems,
    }
    return Settings(**(given | changed))


CONTACTS = (
    Place(name="contacts", looked=True, by={"email": 1}),
    Place(name="chats", looked=False, reason="not_configured"),
)
ENDED = (
    SystemOutcome(
        system="superoffice",
        status="retained",
        grade="seen_absent",
        found=5,
        erased=4,
        legal_basis="bokforingslagen_7_2",
        retained_until=END_OF_2033,
        evidence={"locate.appointments_left": "3", "locate.documents_left": "1", "prove.sales_kept": "1"},
        places=CONTACTS,
    ),
    SystemOutcome(
        system="hubspot",
        status="erased",
        grade="seen_absent",
        found=1,
        erased=1,
        places=(Place(name="contacts", looked=True, by={"email": 1}, not_by={"phone": 1}),),
    ),
    SystemOutcome(
        system="analytics",
        status="erased",
        grade="vendor_promised",
        erased=1,
        evidence={"locate.client_ids_elsewhere": "1", "locate.client_ids_without_property": "2"},
    ),
    SystemOutcome(system="agency", status="not_identifiable", missing=("email",)),
    SystemOutcome(system="survey", status="not_identifiable", reason="anonymous"),
)
UNDER_WAY = (
    SystemOutcome(system="superoffice", status="accepted", found=5, erased=5),
    SystemOutcome(system="hubspot", status="awaiting_decision", found=1),
    SystemOutcome(system="agency", status="awaiting_party"),
)
QUESTIONS = (
    EscalationOutcome(
        escalation_id="e1",
        version=2,
        reason="failed",
        system="hubspot",
        code="http_403",
        raised_at=RECEIVED + 10 * DAY,
        actions=("retry", "waive"),
    ),
    EscalationOutcome(
        escalation_id="e2",
        version=1,
        reason="deadline_near",
        raised_at=RECEIVED + 20 * DAY,
        actions=("extend",),
    ),
)


def _outcome(kind: OutcomeKind, **changed: Any) -> Outcome:
    given: dict[str, Any] = {
        "event_id": "o-1",
        "request_id": REQUEST,
        "kind": kind,
        "occurred_at": RECEIVED + 20 * DAY,
        "status": "completed",
        "received_at": RECEIVED,
        "due_at": DUE,
        "acted_at": RECEIVED + 9 * DAY,
        "grade": "vendor_promised",
        "systems": ENDED,
        "timeline_head": "9f" * 32,
    }
    return Outcome(**(given | changed))


def _escalated(**changed: Any) -> Outcome:
    given: dict[str, Any] = {
        "status": "in_progress",
        "acted_at": None,
        "grade": None,
        "systems": UNDER_WAY,
        "escalations": QUESTIONS,
        "concerns": "e2",
    }
    return _outcome("escalated", **(given | changed))


COMPLETED_EN = """\
Every system has come to an end, as listed. Our key to the identifiers is destroyed.
The weakest of the proofs below: a vendor has promised to erase. It has NOT been seen, nor reported
as done.
It is NOT erased everywhere: see the lines in capitals.

Request   7d9f4c1e-0000-4000-8000-000000000001
Received  31 August 2026 23:30
Due       by the end of 30 September 2026; acted on 9 September 2026 23:30, in time

Systems
  SuperOffice  RETAINED IN PART by law; the rest erased, and seen absent; 5 found; 4 erased; the
               Swedish Bookkeeping Act (Bokföringslagen 7:2); up to and including 31 December 2033
               LEFT, not erased: 3 appointments, 1 document
               looked in contacts; by e-mail address
               NOT LOOKED IN: chats (it is not set up here)
  HubSpot      erased, and seen absent; 1 found; 1 erased
               looked in contacts; by e-mail address; NOT by telephone number
  Analytics    NOT SEEN: the vendor has promised to erase, and nothing can be looked at; 1 accepted
               for erasure
               NOT SUBMITTED anywhere: 2 ids of sites or apps that no configured property has
  The agency   NOT ERASED: nobody could be identified (Art. 11); it needs: e-mail address
  Surveys      considered; holds nothing that could be traced to a person; reason: anonymous

Timeline 9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f
Times are in Europe/Stockholm.
"""

COMPLETED_SV = """\
Alla system är avslutade, enligt listan. Vår nyckel till identifierarna är förstörd.
Det svagaste beviset nedan: en leverantör har lovat radera. Det är INTE sett, och inte rapporterat
som gjort.
Det är INTE raderat överallt: se raderna med versaler.

Begäran   7d9f4c1e-0000-4000-8000-000000000001
Mottagen  31 augusti 2026 23:30
Frist     till och med 30 september 2026; åtgärdad 9 september 2026 23:30, i tid

System
  SuperOffice  DELVIS BEVARAT enligt lag; resten raderat, och sett borta; funna: 5; raderade: 4;
               bokföringslagen 7 kap. 2 §; till och med 31 december 2033
               KVARLÄMNAT, inte raderat: 3 möten, 1 dokument
               letat i contacts; på e-postadress
               INTE LETAT I: chats (det är inte inställt här)
  HubSpot      raderat, och sett borta; funna: 1; raderade: 1
               letat i contacts; på e-postadress; INTE på telefonnummer
  Analytics    INTE SETT: leverantören har lovat radera, och inget finns att titta på; godtagna för
               radering: 1
               INTE BEGÄRT någonstans: 2 id för webbplatser eller appar utan egendom
  The agency   INTE RADERAT: ingen kunde identifieras (art. 11); det behöver: e-postadress
  Surveys      prövat; innehåller inget som kan härledas till en person; skäl: anonymous

Tidslinje 9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f
Tider anges i Europe/Stockholm.
"""

ESCALATED_EN = """\
A question about this request waits for your decision.

Request   7d9f4c1e-0000-4000-8000-000000000001
Received  31 August 2026 23:30
Due       by the end of 30 September 2026; 10 days left

Systems
  SuperOffice  the vendor has accepted; NOT proved yet; 5 found; 5 accepted for erasure
  HubSpot      waits for your decision; 1 found
  The agency   the party has been asked; no answer yet

Waiting for your decision
  e2@1, since 20 September 2026 23:30
  The statutory period is about to run out.
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 extend --escalation e2@1 --reason "…"
  e1@2, about HubSpot, since 10 September 2026 23:30, code http_403
  The last attempt failed, or the error will not pass by itself.
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 retry --escalation e1@2 --reason "…"
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 waive --escalation e1@2 --reason "…"

Timeline 9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f
Times are in Europe/Stockholm.
"""

ESCALATED_SV = """\
En fråga om denna begäran väntar på ditt beslut.

Begäran   7d9f4c1e-0000-4000-8000-000000000001
Mottagen  31 augusti 2026 23:30
Frist     till och med 30 september 2026; 10 dagar kvar

System
  SuperOffice  leverantören har godtagit; ännu INTE bevisat; funna: 5; godtagna för radering: 5
  HubSpot      väntar på ditt beslut; funna: 1
  The agency   parten är tillfrågad; inget svar ännu

Väntar på ditt beslut
  e2@1, sedan 20 september 2026 23:30
  Den lagstadgade fristen går snart ut.
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 extend --escalation e2@1 --reason "…"
  e1@2, om HubSpot, sedan 10 september 2026 23:30, kod http_403
  Det sista försöket misslyckades, eller så går felet inte över av sig självt.
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 retry --escalation e1@2 --reason "…"
    radera decide 7d9f4c1e-0000-4000-8000-000000000001 waive --escalation e1@2 --reason "…"

Tidslinje 9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f
Tider anges i Europe/Stockholm.
"""


@pytest.mark.parametrize(("language", "text"), [("en", COMPLETED_EN), ("sv", COMPLETED_SV)])
def test_a_completion_says_what_is_known_of_each_system_and_no_more(language: str, text: str) -> None:
    """A promise is not an erasure; a part that is kept is named with its ground and its end."""
    assert text == dpo.render(_outcome("completed"), _settings(language))


@pytest.mark.parametrize("status", ["retained", "not_identifiable", "refused", "waived", "stopped"])
def test_one_system_that_was_not_erased_is_enough(status: StepStatus) -> None:
    """Nobody may read "erased everywhere" who left one system out on purpose."""
    systems = (
        SystemOutcome(system="hubspot", status="erased", grade="seen_absent", found=1, erased=1),
        SystemOutcome(system="superoffice", status=status),
    )
    erased = dpo.render(_outcome("completed", systems=systems[:1], grade="seen_absent"), _settings())
    left = dpo.render(_outcome("completed", systems=systems, grade="seen_absent"), _settings())

    assert (False, True) == ("NOT erased everywhere" in erased, "NOT erased everywhere" in left)


@pytest.mark.parametrize(("language", "text"), [("en", ESCALATED_EN), ("sv", ESCALATED_SV)])
def test_an_escalation_says_what_to_decide_and_how(language: str, text: str) -> None:
    """The question that the mail is about comes first; every fitting decision is a line to be copied."""
    assert text == dpo.render(_escalated(), _settings(language))


@pytest.mark.parametrize("language", ["en", "sv"])
def test_a_mail_fits_on_a_screen(language: str) -> None:
    """No line is wider than a terminal; ten systems and two questions take no more than 45 lines."""
    systems = tuple(
        SystemOutcome(system=f"system-{number}", status="erased", grade="party_stated", found=1, erased=1)
        for number in range(10)
    )
    text = dpo.render(_escalated(systems=systems), _settings(language))

    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 45


@pytest.mark.parametrize("language", ["en", "sv"])
@pytest.mark.parametrize(
    ("grade", "words_en", "words_sv"),
    [
        ("seen_absent", "we looked ourselves", "vi har själva tittat"),
        ("vendor_stated", "a vendor's own record states it", "en leverantörs egna uppgifter"),
        ("party_stated", "an agency or controller states it", "ett rekryteringsföretag"),
        (
            "vendor_promised",
            "has promised to erase. It has NOT been seen",
            "har lovat radera. Det är INTE sett",
        ),
        (None, "nothing has been shown to be erased", "inget har visats vara raderat"),
    ],
)
def test_the_whole_is_worded_by_the_weakest_grade(
    language: str, grade: Grade | None, words_en: str, words_sv: str
) -> None:
    """One promise among ten sightings makes the whole a promise."""
    text = " ".join(dpo.render(_outcome("completed", grade=grade), _settings(language)).split())

    assert (words_en if language == "en" else words_sv) in text


@pytest.mark.parametrize("status", ["erased", "absent", "anonymised"])
def test_each_grade_of_each_end_has_words_of_its_own(status: str) -> None:
    """Nobody can take one strength of proof for another; without proof it says so."""
    for table in words.STATUS.values():
        said = [table[status], *(table[f"{status}.{grade}"] for grade in get_args(Grade))]
        assert 5 == len(set(said))


def test_every_state_and_question_of_the_saga_has_words_in_both_languages() -> None:
    """A new one can't be added without saying what it means to the officer."""
    states = (set(get_args(StepStatus)) - {"ended"}) | set(get_args(End))
    kinds = set(get_args(OutcomeKind)) - {"notice"}
    for language in ("en", "sv"):
        assert set() == states - words.STATUS[language].keys()
        assert set() == escalations.REASONS.keys() - questions.QUESTION[language].keys()
        assert kinds == words.HEADLINE[language].keys() == words.SUBJECT[language].keys()


def test_every_refusal_of_a_decision_has_words() -> None:
    """In the mail that says so, in both languages, and on the command line."""
    codes = set(get_args(escalations.Misfit))
    for language in ("en", "sv"):
        assert set() == codes - words.CODE[language].keys()
    assert codes == REFUSALS.keys()


def test_a_system_that_a_controller_named_in_vain_is_told_by_its_place() -> None:
    """Never by the controller's own word, which may be anything."""
    question = EscalationOutcome(
        escalation_id="e1",
        version=1,
        reason="unknown_system",
        system="3_of_5",
        code="3_of_5",
        raised_at=RECEIVED,
        actions=("waive",),
    )
    system = SystemOutcome(system="3_of_5", status="awaiting_decision")
    for language, name in (("en", "system 3 of 5"), ("sv", "system 3 av 5")):
        outcome = _escalated(systems=(system,), escalations=(question,), concerns="e1")
        mail = dpo.render(outcome, _settings(language))
        assert 2 <= mail.count(name)
        assert f"S{name[1:]} " in mail


def test_a_question_that_cannot_be_decided_yet_says_so() -> None:
    """While a request stands still only its release is offered; the others come after that."""
    for language in ("en", "sv"):
        told = words.LABEL[language]["not_yet"]
        held = tuple(one.model_copy(update={"actions": ()}) for one in QUESTIONS)
        assert 2 == dpo.render(_escalated(escalations=held), _settings(language)).count(told)
        assert told not in dpo.render(_escalated(), _settings(language))


@pytest.mark.parametrize(
    "code", ["supplemented", "counted_anew", "found_more", "new_word", "notice_address_added"]
)
def test_a_question_that_is_put_again_says_why(code: str) -> None:
    """The officer must know what has changed, and that the earlier version is void."""
    for language in ("en", "sv"):
        told = questions.AGAIN[language][code]
        assert told[:40] in dpo.render(_escalated(code=code), _settings(language))
        assert told[:40] not in dpo.render(_escalated(), _settings(language))


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", ("NOTHING is erased by it any more", "Decide whether", "send the request anew")),
        ("sv", ("INGET mer raderas genom den", "Avgör om", "sända begäran på nytt")),
    ],
)
def test_an_instruction_after_the_end_says_what_the_officer_has_to_do(
    language: Any, told: tuple[str, ...]
) -> None:
    """The request can't be taken up again, its key is destroyed: without the officer nothing is erased."""
    asked = QUESTIONS[0].model_copy(update={"reason": "instructed_late", "system": "tenant"})
    text = " ".join(dpo.render(_escalated(escalations=(asked,)), _settings(language)).split())
    assert [] == [one for one in told if one not in text]


@pytest.mark.parametrize(
    "tables",
    [
        *(words.SUBJECT, words.HEADLINE, words.GRADE, words.STATUS, words.CODE, words.LABEL),
        *(questions.QUESTION, questions.AGAIN),
        *(terms.MISSING, terms.LEFT, terms.BASIS),
    ],
)
def test_the_languages_say_the_same_things(tables: Mapping[str, Mapping[str, str]]) -> None:
    """What one table has, the others have."""
    known = [set(table) for table in tables.values()]

    assert all(known[0] == table for table in known)


@pytest.mark.parametrize("kind", sorted(set(get_args(OutcomeKind)) - {"notice"}))
@pytest.mark.parametrize("language", ["en", "sv"])
def test_every_kind_of_outcome_can_be_told(kind: OutcomeKind, language: Any) -> None:
    """None is without a headline, and the subject line holds an id and fixed words."""
    outcome = _outcome(kind, escalations=QUESTIONS, code="other_version")

    assert words.HEADLINE[language][kind][:40] in dpo.render(outcome, _settings(language))
    assert f"Radera {REQUEST}: {words.SUBJECT[language][kind]}" == dpo.subject(outcome, language)


@pytest.mark.parametrize(
    ("at", "acted_at", "standing"),
    [
        (DUE - 2 * DAY, None, "2 days left"),
        (DUE - DAY, None, "1 day left"),
        (DUE, None, "today is the last day"),
        (DUE + 1, None, "OVERDUE: the period has run out"),
        (DUE + 1, DUE, "acted on 30 September 2026 23:59, in time"),
        (DUE + 2, DUE + 1, "acted on 1 October 2026 00:00, LATE"),
    ],
)
def test_the_time_left_is_counted_in_the_installations_days(
    at: int, acted_at: int | None, standing: str
) -> None:
    """The last moment of the last day is still in time; the next is not."""
    text = dpo.render(_escalated(occurred_at=at, acted_at=acted_at), _settings())

    assert f"by the end of 30 September 2026; {standing}\n" in text


def test_a_later_contradiction_stands_beside_the_system_that_it_is_about() -> None:
    """What was reported as erased, and then found, is not left to look erased."""
    contradicted = SystemOutcome(
        system="hubspot", status="erased", grade="seen_absent", reason="still_present", places=CONTACTS
    )
    text = dpo.render(_outcome("corrected", code="still_present", systems=(contradicted,)), _settings())

    assert "CONTRADICTED by a later report (still_present)" in text
    assert "Records are still there." in text


@pytest.mark.parametrize(
    "reason", ["she wrote from anna@example.org", "call 070-174 06 05", "born 19850709-9805", "a%40b.example"]
)
def test_a_reason_that_looks_personal_stays_out_of_every_mail(reason: str) -> None:
    """The officer typed it; the mailbox and its archive are not where it belongs."""
    waived = SystemOutcome(system="hubspot", status="waived", reason=reason)
    told = " ".join(dpo.render(_outcome("completed", systems=(waived,)), _settings()).split())
    notified = notice.render(_outcome("notice", code="acted", systems=(waived,)), _settings())

    assert "(withheld: it looks like personal data)" in told
    assert reason not in told + notified


def test_a_reason_cannot_break_out_of_its_line() -> None:
    """Line breaks and control characters in it become spaces."""
    waived = SystemOutcome(system="hubspot", status="waived", reason="ok\r\n\r\nWaiting\x1b[2J\u2028x")
    text = dpo.render(_outcome("completed", systems=(waived,)), _settings())

    assert "reason: ok Waiting [2J x\n" in text


def test_where_no_notice_is_mailed_the_officer_is_told_to_inform() -> None:
    """Somebody must tell the person (Art. 12)."""
    outcome = _outcome("acted", systems=UNDER_WAY, grade=None)

    assert "telling the person is yours" in dpo.render(outcome, _settings(notices=Notices(subject="none")))
    assert "telling the person is yours" not in dpo.render(outcome, _settings())


# --- the subject ---

ACTED_SV = """\
Example AB tog emot din begäran om radering av dina personuppgifter den 31
augusti 2026. Begäran har id 7d9f4c1e-0000-4000-8000-000000000001.

Detta har vi gjort.

Dina uppgifter är raderade, och vi har kontrollerat att de är borta:
  - HubSpot

Leverantören har godtagit raderingen och lovat att utföra den. Vi har ingen
möjlighet att kontrollera det själva:
  - Analytics; men inte allt: se nedan

Vissa uppgifter är inte raderade, eftersom lagen kräver eller tillåter att de
bevaras:
  - SuperOffice; bokföringslagen 7 kap. 2 §; bevaras till och med 31 december
    2033

Vi har inte kunnat ta reda på om det finns uppgifter om dig, med det vi vet om
dig:
  - The agency; vi skulle behöva: e-postadress
Om du ger oss det som saknas letar vi igen (art. 11 i dataskyddsförordningen).

Vi har även prövat dessa. De innehåller inget som kan härledas till en person:
  - Surveys

Dessa poster, som är kopplade till dig, har vi behållit och inte raderat:
  - SuperOffice; 3 möten, 1 dokument
Dataskyddsombudet, vars adress finns nedan, ger dig skälen.

Några id som du gav oss hör inte till någon webbplats eller app som vi mäter,
så vi har inte kunnat begära radering med dem. Antal: 2.
Om du berättar på vilken av våra webbplatser, eller i vilken av våra appar, du
har dem begär vi radering där (art. 11 i dataskyddsförordningen).

Här har vi letat, och på vad:
  - SuperOffice; contacts; på e-postadress
  - HubSpot; contacts; på e-postadress; inte på telefonnummer

Här har vi inte letat:
  - SuperOffice; chats; det är inte inställt här

Du har rätt att få veta vilka uppgifter vi har om dig, att få dem rättade
eller raderade, att få behandlingen av dem begränsad, att invända mot den och
att när som helst återkalla ett samtycke.
Om du anser att vi behandlar dina uppgifter felaktigt kan du klaga hos
Integritetsskyddsmyndigheten (IMY), https://www.imy.se. Du kan också vända dig
till domstol.

Frågor besvaras av vårt dataskyddsombud: dpo@example.com

Example AB
"""


def test_a_notice_says_what_was_done_and_which_rights_there_are() -> None:
    """By kind of result, in the person's language, with the authority and whom to ask."""
    outcome = _outcome("notice", code="acted", language="sv")

    assert ACTED_SV == notice.render(outcome, _settings())
    assert f"Din begäran om radering {REQUEST}" == notice.subject(outcome)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("purpose", ["acted", "rejected", "extended"])
def test_every_notice_names_the_rights_the_authority_and_the_officer(
    language: Language, purpose: str
) -> None:
    """Art. 12(4): the complaint and the court, in each language and for each purpose."""
    text = notice.render(_outcome("notice", code=purpose, language=language), _settings())

    assert {"en": "judicial remedy", "sv": "domstol", "nb": "domstolene"}[language] in text
    assert "https://www.imy.se" in text
    assert "dpo@example.com" in text
    assert not looks_personal(text.replace("dpo@example.com", ""))
    assert max(map(len, text.splitlines())) <= 78


def test_what_is_only_accepted_is_told_as_under_way() -> None:
    """A notice is written before the proofs; it doesn't say erased of what nobody has seen."""
    text = notice.render(_outcome("notice", code="acted", systems=UNDER_WAY), _settings())

    assert "has been erased" not in text
    assert (
        "The erasure is under way, and we follow it until it is done:\n  - SuperOffice\n  - HubSpot" in text
    )


def test_the_authority_is_the_countrys_or_the_one_that_was_set() -> None:
    """Sweden's IMY is not Norway's Datatilsynet; an unknown country gets words that are true anywhere."""
    outcome = _outcome("notice", code="rejected")
    place = _settings().installation
    norway = place.model_copy(update={"country": "NO"})
    spain = place.model_copy(update={"country": "ES"})
    named = Notices(authority="AEPD", authority_url="https://www.aepd.es")

    def told(**changed: Any) -> str:
        return " ".join(notice.render(outcome, _settings(**changed)).split())

    assert "Datatilsynet, https://www.datatilsynet.no" in told(installation=norway)
    assert "authority where you live or work" in told(installation=spain)
    assert "AEPD, https://www.aepd.es" in told(installation=spain, notices=named)


def test_the_notices_of_all_languages_have_the_same_parts() -> None:
    """Nothing is told in one language and left out in another."""
    parts = [set(table) for table in notice._TEXT.values()]

    assert parts[0] == parts[1] == parts[2]
