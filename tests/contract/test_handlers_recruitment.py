"""The recruitment handler: agencies that read mail, and agencies whose candidates Teamtailor shows."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from handlers.agency_answer import token
from handlers.port import Expired, Permanent, Reference, Refused, Retryable
from handlers.recruitment import RecruitmentSettings
from handlers.results import (
    Absent,
    AwaitingParty,
    CannotLook,
    Located,
    NotIdentifiable,
    PartyAbsent,
    PartyErased,
    PartyRefused,
    Proved,
    Reappeared,
    Result,
    Retained,
    StillPresent,
)
from orchestrator.privacy import Identifier, Kind
from orchestrator.smtp import MailDeferred, MailRefused
from tests.contract.handlers_bench import ANNA, DAY, PUBLIC, REQUEST, Bench

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


async def test_an_agency_is_asked_by_mail_and_its_answer_is_the_evidence(bench: Bench) -> None:
    """The agency erases what it holds and answers through the link; we can't look, so no proof is due."""
    agency = {"name": "agency", "address": "gdpr@agency.example", "candidates": [{"email": ANNA}]}
    bench.sandbox.seed({"agencies": [agency]})
    handler = bench.agency()
    assert isinstance(await handler.locate(bench.task("locate")), CannotLook)
    asked = await handler.erase(bench.task("erase", system="agency"))
    assert isinstance(asked, AwaitingParty)
    assert bench.clock() + 7 * DAY == asked.remind_at
    bench.clock.pass_days(2)
    await bench.sandbox.tick()
    (url, body, headers) = bench.said[0]
    assert url.startswith(f"{PUBLIC}/answer/")
    received = await handler.receive(bench.callback(body, headers, url.rpartition("/")[2]))
    assert (REQUEST, "agency") == (received.request_id, received.system)
    assert isinstance(received.result, PartyErased)
    assert received.result.prove_at is None
    assert [] == bench.sandbox.holds(ANNA)


@pytest.mark.parametrize("language", ["en", "sv", "nb"])
async def test_the_mail_names_the_person_once_and_nobody_in_its_headers(bench: Bench, language: str) -> None:
    """The body has what the agency needs; the subject has the request's id alone."""
    await bench.agency(language=language).erase(bench.task("erase", system="agency"))
    mail = bench.mails[0]
    assert 1 == mail.get_content().count(ANNA)
    others = [value for name, value in mail.items()]
    assert [] == [value for value in others if "anna" in str(value).lower()]
    assert str(mail["Subject"]).endswith(REQUEST)
    assert "SmartDok Sverige AB" in mail.get_content()


async def test_an_agency_reads_no_more_of_the_person_than_it_needs(bench: Bench) -> None:
    """An address finds them; number, name and our own ids of them are none of the agency's business."""
    known: dict[Kind, str] = {"phone": "+46701234567", "name": "Anna Ek", "customer_id": "kund-17"}
    more = [Identifier(kind, value) for kind, value in known.items()]
    await bench.agency().erase(bench.task("erase", Identifier("email", ANNA), *more, system="agency"))
    await bench.agency().erase(bench.task("erase", *more, system="agency"))
    by_address, by_number = (mail.get_content() for mail in bench.mails)
    assert [] == [value for value in known.values() if value in by_address]
    assert [known["phone"]] == [value for value in known.values() if value in by_number]


async def test_a_repeated_command_is_the_same_mail_and_a_reminder_another_in_its_thread(bench: Bench) -> None:
    """Byte for byte the same for one command; a reminder says that it is one, and is another mail."""
    handler = bench.agency()
    task = bench.task("erase", system="agency")
    await handler.erase(task)
    bench.clock.pass_seconds(60)
    await handler.erase(task)
    await handler.erase(bench.task("erase", system="agency", reminder=True))
    first, repeat, reminder = bench.mails
    assert first.as_bytes() == repeat.as_bytes()
    assert first["References"] == reminder["References"]
    assert str(reminder["Subject"]).startswith("Påminnelse")


async def test_a_mail_whose_taking_was_lost_is_sent_again_under_its_message_id(bench: Bench) -> None:
    """The agency has both, and knows them for one: the first, and likewise each reminder. The links of both
    can be answered, whichever its mail program shows.
    """
    handler = bench.agency()
    notes: tuple[Reference, ...] = ()
    for reminder in (False, True, True):
        bench.mail_lost.append(True)
        told: dict[str, Any] = {"system": "agency", "reminder": reminder, "references": notes}
        with pytest.raises(Retryable, match=r"^mail_lost$"):
            await handler.erase(bench.task("erase", **told))
        bench.clock.pass_seconds(60)
        notes = (*notes, *(await handler.erase(bench.task("erase", **told))).references)
    ids = [str(mail["Message-ID"]) for mail in bench.mails]
    assert [ids[0], ids[0], ids[2], ids[2], ids[4], ids[4]] == ids
    assert 3 == len(set(ids))
    for mail in bench.mails:
        received = await handler.receive(bench.callback(form(answer="erased"), {}, bench.link_in(mail)))
        assert isinstance(received.result, PartyErased)


async def test_a_mail_about_more_than_a_lost_one_is_another(bench: Bench) -> None:
    """An identifier was added before the next attempt: as the same mail it might never be shown. Nothing of
    who is named shows in the id.
    """
    handler = bench.agency()
    phone = Identifier("email", "anna.ek@example.com")
    for who in ([Identifier("email", ANNA)], [Identifier("email", ANNA), phone]):
        bench.mail_lost.append(True)
        with pytest.raises(Retryable):
            await handler.erase(bench.task("erase", *who, system="agency"))
    first, second = (str(mail["Message-ID"]) for mail in bench.mails)
    assert first != second


async def test_two_requests_of_one_person_have_nothing_in_common_in_their_ids(bench: Bench) -> None:
    """A Message-ID passes through many servers' logs: nobody who reads them can tell that it was the same."""
    handler = bench.agency()
    for id_ in (REQUEST, "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a78"):
        await handler.erase(bench.task("erase", system="agency", request_id=id_))
    first, second = (str(mail["Message-ID"]).partition(".")[0] for mail in bench.mails)
    assert first != second


async def test_an_agency_that_is_asked_anew_gets_another_mail(bench: Bench) -> None:
    """After a proof that found the person still there, or by the DPO's decision: it was taken before, so
    that it has to be seen once more.
    """
    handler = bench.agency()
    asked = await handler.erase(bench.task("erase", system="agency"))
    await handler.erase(bench.task("erase", system="agency", references=asked.references))
    assert 2 == len({str(mail["Message-ID"]) for mail in bench.mails})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"answer": "erased"}, PartyErased),
        ({"answer": "nothing_held"}, PartyAbsent),
        ({"answer": "retained", "legal_basis": "Diskrimineringslagen"}, Retained),
        ({"answer": "refused", "reason": "no such person"}, PartyRefused),
    ],
)
async def test_each_answer_is_what_it_says(
    bench: Bench, fields: dict[str, str], expected: type[Result]
) -> None:
    """Each of the four answers gives its own result, by the token alone."""
    handler = bench.agency()
    await handler.erase(bench.task("erase", system="agency"))
    received = await handler.receive(bench.callback(form(**fields), {}, bench.mail_link()))
    assert expected is type(received.result)


async def test_a_retention_ends_with_its_last_day(bench: Bench) -> None:
    """The date counts to its end, in UTC."""
    handler = bench.agency()
    await handler.erase(bench.task("erase", system="agency"))
    answer = form(answer="retained", legal_basis="bokföring", retained_until="2026-09-30")
    result = (await handler.receive(bench.callback(answer, {}, bench.mail_link()))).result
    assert isinstance(result, Retained)
    assert ("bokf_ring", bench.clock() + 30 * DAY - 1) == (result.legal_basis, result.retained_until)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "answer_unknown"),
        (b"answer=perhaps", "answer_unknown"),
        (b"answer=erased&answer=refused", "malformed"),
        (b"answer=retained", "legal_basis_missing"),
        (b"answer=retained&legal_basis=law&retained_until=soon", "retained_until_malformed"),
        (b"\xff\xfe=1", "malformed"),
        (b"answer=" + b"x" * 30_000, "malformed"),
    ],
)
async def test_an_answer_that_means_nothing_is_refused(bench: Bench, body: bytes, code: str) -> None:
    """What the form can't have said changes nothing."""
    handler = bench.agency()
    await handler.erase(bench.task("erase", system="agency"))
    with pytest.raises(Refused, match=f"^{code}$"):
        await handler.receive(bench.callback(body, {}, bench.mail_link()))


async def test_a_link_is_good_for_its_system_and_its_time_only(bench: Bench) -> None:
    """Expired, altered or another agency's: refused. An answer in time counts when it is read late."""
    handler = bench.agency()
    await handler.erase(bench.task("erase", system="agency"))
    link = bench.mail_link()
    in_time = bench.callback(form(answer="erased"), {}, link)
    bench.clock.pass_days(60)
    assert isinstance((await handler.receive(in_time)).result, PartyErased)
    with pytest.raises(Refused, match=r"^link_expired$"):
        await handler.receive(bench.callback(form(answer="erased"), {}, link))
    with pytest.raises(Refused, match=r"^link_invalid$"):
        await handler.receive(bench.callback(form(answer="erased"), {}, link[:-2] + "AA"))
    other = bench.links.make(REQUEST, "other-agency", 1, bench.clock() + DAY)
    with pytest.raises(Refused, match=r"^link_for_another_system$"):
        await handler.receive(bench.callback(form(answer="erased"), {}, other))


async def test_an_answer_names_the_attempt_whose_link_it_came_by(bench: Bench) -> None:
    """A reminder's link names the reminder; the confirmation says so, and answers no command."""
    handler = bench.agency()
    for attempt, reminder in ((2, False), (3, True)):
        await handler.erase(bench.task("erase", system="agency", attempt=attempt, reminder=reminder))
        answer = bench.callback(form(answer="erased"), {}, bench.mail_link())
        confirmed = bench.confirmed("recruitment", await handler.receive(answer))
        assert (attempt, None, "party_erased") == (confirmed.attempt, confirmed.command_id, confirmed.kind)


async def test_mail_that_is_put_off_is_tried_again_and_mail_that_is_refused_is_not(bench: Bench) -> None:
    """The mail server's two kinds of no."""
    handler = bench.agency()
    bench.mail_fails = [MailDeferred("unreachable"), MailRefused("recipient")]
    with pytest.raises(Retryable, match=r"^mail_unreachable$"):
        await handler.erase(bench.task("erase", system="agency"))
    with pytest.raises(Permanent, match=r"^mail_refused_recipient$"):
        await handler.erase(bench.task("erase", system="agency"))


async def test_nobody_is_asked_past_the_commands_time(bench: Bench) -> None:
    """A mail leads to an erasure: it needs the permit."""
    task = bench.task("erase", system="agency", life=0)
    bench.clock.pass_seconds(1)
    with pytest.raises(Expired):
        await bench.agency().erase(task)
    assert [] == bench.mails


async def test_a_mail_whose_server_is_slow_is_not_handed_over_late(bench: Bench) -> None:
    """The mailer asks the permit too, once it has connected: the agency is not asked after its end."""
    task = bench.task("erase", system="agency", life=2)
    bench.before_mail = lambda: bench.clock.pass_seconds(38)
    with pytest.raises(Expired):
        await bench.agency().erase(task)
    assert [] == bench.mails


async def test_an_agency_that_only_reads_mail_cannot_be_looked_at(bench: Bench) -> None:
    """A proof is refused rather than invented; without any name nobody is asked."""
    with pytest.raises(Permanent, match=r"^cannot_look$"):
        await bench.agency().prove(bench.task("prove"))
    result = await bench.agency().locate(bench.task("locate", Identifier("customer_id", "4711")))
    assert isinstance(result, NotIdentifiable)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GDPR Art. 17(3)(b)", "gdpr_art._17_3_b"),
        ("anna@example.com", None),
        ("070-123 45 67", None),
        ("see 8501011234", None),
        ("a long sentence that could be about anybody at all", None),
        ("", None),
    ],
)
def test_only_a_token_gets_through_of_what_people_type(text: str, expected: str | None) -> None:
    """A law's name passes; an address, a number or a sentence doesn't."""
    assert expected == token(text)


# --- Teamtailor


async def test_teamtailor_shows_who_is_there_and_that_they_are_gone(bench: Bench) -> None:
    """Found through the API, erased by the agency, proved through the API."""
    agency = {"name": "a", "address": "gdpr@agency.example", "teamtailor_company": "company-1"}
    bench.sandbox.seed({"agencies": [agency], "teamtailor": {"candidates": [{"email": ANNA}]}})
    handler = bench.teamtailor()
    located = await handler.locate(bench.task("locate"))
    assert isinstance(located, Located)
    await handler.erase(bench.task("erase", system="agency", references=located.references))
    still = await handler.prove(bench.task("prove", references=located.references))
    assert isinstance(still, StillPresent)
    bench.clock.pass_days(2)
    await bench.sandbox.tick()
    url, body, headers = bench.said[0]
    received = await handler.receive(bench.callback(body, headers, url.rpartition("/")[2]))
    assert isinstance(received.result, PartyErased)
    assert bench.clock() == received.result.prove_at
    proved = await handler.prove(bench.task("prove", references=located.references))
    assert isinstance(proved, Proved)
    assert "seen_absent" == proved.grade


async def test_teamtailors_webhook_is_believed_when_signed_and_finds_its_request(bench: Bench) -> None:
    """`candidate.destroy` has the correlation that asking the agency announced."""
    agency = {"name": "a", "address": "gdpr@agency.example", "teamtailor_company": "company-1"}
    hook = {"url": f"{PUBLIC}/hook", "secret": "tt-secret"}
    seed = {"candidates": [{"email": ANNA}], "webhook": hook}
    bench.sandbox.seed({"agencies": [agency], "teamtailor": seed})
    handler = bench.teamtailor()
    located = await handler.locate(bench.task("locate"))
    asked = await handler.erase(bench.task("erase", system="agency", references=located.references))
    bench.clock.pass_days(2)
    await bench.sandbox.tick()
    _, body, headers = next(one for one in bench.said if one[0].endswith("/hook"))
    received = await handler.receive(bench.callback(body, headers))
    assert asked.correlations == (received.correlation,)
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await handler.receive(bench.callback(body.replace(b"candidate", b"candydate"), headers))
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await handler.receive(bench.callback(body, {}))


async def test_every_page_of_candidates_is_read(bench: Bench) -> None:
    """Thirty a page, and 65 applications by the same person."""
    bench.sandbox.seed({"teamtailor": {"candidates": [{"email": ANNA} for _ in range(65)]}})
    located = await bench.teamtailor(ambiguous="all").locate(bench.task("locate"))
    assert 65 == len(located.references)


async def test_teamtailors_absence_needs_the_pinned_company_and_the_control_candidate(bench: Bench) -> None:
    """Another company's key, or one that sees nobody, is an error."""
    bench.sandbox.seed({"teamtailor": {"candidates": [{"email": CONTROL}]}})
    handler = bench.teamtailor(control_email=CONTROL)
    assert isinstance(await handler.locate(bench.task("locate")), Absent)
    bench.sandbox.fault("no_rights", vendor="teamtailor", path="candidates")
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        await handler.locate(bench.task("locate"))
    bench.sandbox.fault("wrong_account", vendor="teamtailor", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await handler.locate(bench.task("locate"))


async def test_a_candidate_who_comes_back_after_the_erasure_is_reported(bench: Bench) -> None:
    """A later application may be new consent."""
    bench.sandbox.seed({"teamtailor": {"candidates": [{"email": ANNA}]}})
    handler = bench.teamtailor()
    erased_at = bench.clock() - DAY
    again = await handler.prove(bench.task("prove", erased_at=erased_at))
    assert isinstance(again, Reappeared)


async def test_a_wrong_key_or_version_of_teamtailor_is_for_a_person_to_mend(bench: Bench) -> None:
    """401 and 406 don't pass by themselves."""
    for wrong, code in (
        ({"token": bench.secret("wrong", "wrong")}, "credentials_refused"),
        ({"api_version": "19990101"}, "http_406"),
    ):
        with pytest.raises(Permanent, match=f"^{code}$"):
            await bench.teamtailor(**wrong).locate(bench.task("locate"))


def test_teamtailor_needs_its_settings() -> None:
    """The channel without a key and a company is refused when the settings are read, and says what to add."""
    with pytest.raises(ValidationError, match="needs token and company"):
        RecruitmentSettings.model_validate({"channel": "teamtailor", "address": "gdpr@agency.example"})


@pytest.mark.parametrize("language", ["en", "sv", "nb"])
async def test_the_mail_reads_well(bench: Bench, language: str) -> None:
    """Nothing is indented but the person, and the link has a line to itself."""
    await bench.agency(language=language).erase(bench.task("erase"))
    lines = bench.mails[-1].get_content().splitlines()

    assert [f"  {ANNA}"] == [line for line in lines if line.startswith(" ")]
    assert 1 == sum(line.startswith(PUBLIC) for line in lines)
    assert [] == [line for line in lines if len(line) > 110 and not line.startswith(PUBLIC)]
