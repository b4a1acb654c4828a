"""What a controller may post, and how a request stands in OpenDSR's words."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.opendsr_request import Malformed, Posted, read
from orchestrator.intake.opendsr_status import Standing, is_cancelling, next_to_tell, standing
from orchestrator.saga.model import (
    AwaitingVerification,
    Closing,
    Ended,
    Escalation,
    Finished,
    InProgress,
    Saga,
    Step,
    StepState,
    Waiting,
)
from schemas.messages import Grade

NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z
ID = "a7551968-d5d6-44b2-9831-815ac9017798"
PERSON = "canary.person@people.example"
HOSTS = {"controller.example"}
MEASURED = "2026-08-31T22:00:00Z"


def identity(value: Any = PERSON, type_: Any = "email", format_: Any = "raw") -> dict[str, Any]:
    return {"identity_type": type_, "identity_value": value, "identity_format": format_}


def request(*identities: Any, **changed: Any) -> dict[str, Any]:
    return {
        "regulation": "gdpr",
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "submitted_time": MEASURED,
        "subject_identities": list(identities) or [identity()],
        "api_version": "2.0",
        "status_callback_urls": ["https://controller.example/callbacks"],
        "extensions": {"other.example": {}},
        **changed,
    }


def posted(content: Any, version: str = "2", *, hashed: bool = False) -> Posted:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read(body, version, NOW, HOSTS, hashed=hashed)


def test_a_request_is_read() -> None:
    """Who, since when, and whom to call back; our own names for what OpenDSR calls otherwise."""
    read_ = posted(
        request(identity(" Canary.Person@People.example "), identity("K-7", "controller_customer_id"))
    )
    assert ID == read_.subject_request_id
    assert NOW - 7_200_000_000 == read_.submitted_at
    assert [("customer_id", "K-7"), ("email", PERSON)] == [(i.kind, i.value) for i in read_.identifiers]
    assert ("https://controller.example/callbacks",) == read_.addresses
    assert () == read_.passed_over


def test_the_first_version_knew_no_regulation() -> None:
    """OpenGDPR 1.0 has no such field; 2.0 wants it."""
    content = {name: value for name, value in request().items() if name != "regulation"}
    assert ID == posted(content, "1").subject_request_id
    with pytest.raises(Malformed, match=r"^regulation: missing$"):
        posted(content)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"regulation": "lgpd"}, "regulation: gdpr_or_ccpa"),
        ({"subject_request_id": ID.upper()}, "subject_request_id: lower_case_uuid_v4"),
        ({"subject_request_id": ID.replace("-44b2", "-14b2")}, "subject_request_id: lower_case_uuid_v4"),
        ({"subject_request_id": 7}, "subject_request_id: lower_case_uuid_v4"),
        ({"subject_request_type": "access"}, "subject_request_type: not_supported"),
        ({"subject_request_type": "rectify"}, "subject_request_type: erasure"),
        ({"submitted_time": "2026-09-01"}, "submitted_time: rfc_3339"),
        ({"submitted_time": "2026-02-30T00:00:00Z"}, "submitted_time: rfc_3339"),
        ({"submitted_time": 1788220800}, "submitted_time: rfc_3339"),
        ({"submitted_time": "2026-09-03T00:00:00Z"}, "submitted_time: out_of_range"),
        ({"submitted_time": "2017-09-03T00:00:00Z"}, "submitted_time: out_of_range"),
        ({"submitted_time": "0001-01-01T00:00:00+23:00"}, "submitted_time: rfc_3339"),
        ({"subject_identities": []}, "subject_identities: list"),
        ({"subject_identities": {}}, "subject_identities: list"),
        ({"subject_identities": [identity()] * 51}, "subject_identities: list"),
        ({"subject_identities": [PERSON]}, "subject_identities: object"),
        ({"subject_identities": [identity(type_="fax")]}, "identity_type: unknown"),
        ({"subject_identities": [identity(type_=None)]}, "identity_type: unknown"),
        ({"subject_identities": [identity(value=" ")]}, "identity_value: text"),
        ({"subject_identities": [identity(format_="rot13")]}, "identity_format: unknown"),
        ({"subject_identities": [{"identity_type": "email"}]}, "identity_value: missing"),
        ({"subject_identities": [identity("no address")]}, "subject_identities: unusable_value"),
        ({"subject_identities": [identity("x", "ios_vendor_id")]}, "subject_identities: not_supported"),
        ({"api_version": 2.0}, "api_version: text"),
        ({"extensions": []}, "extensions: object"),
        ({"status_callback_urls": "https://controller.example"}, "status_callback_urls: list"),
        ({"status_callback_urls": ["https://controller.example/"] * 6}, "status_callback_urls: list"),
        ({"status_callback_urls": [7]}, "status_callback_urls: address"),
        ({"status_callback_urls": ["https://controller.example:no/"]}, "status_callback_urls: address"),
        ({"status_callback_urls": ["https://a:b@controller.example/"]}, "status_callback_urls: address"),
        ({"status_callback_urls": ["http://controller.example/"]}, "status_callback_urls: https"),
        ({"status_callback_urls": ["https://169.254.169.254/"]}, "status_callback_urls: host_not_allowed"),
        ({"status_callback_urls": ["https://evil.example/"]}, "status_callback_urls: host_not_allowed"),
        (
            {"status_callback_urls": [f"https://controller.example/?who={PERSON.replace('@', '%40')}"]},
            "status_callback_urls: names_the_person",
        ),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(changed: dict[str, Any], wrong: str) -> None:
    """The field and why; nothing of what stood there."""
    with pytest.raises(Malformed) as caught:
        posted(request(**changed))
    assert wrong == str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Also what only looks like JSON, or nests too deep."""
    with pytest.raises(Malformed, match=r"^body: "):
        posted(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(sorted(request())),
)
def test_whatever_stands_in_a_field_it_is_taken_or_refused(value: Any, name: str) -> None:
    """Nothing that JSON can say makes reading fail otherwise."""
    with suppress(Malformed):
        assert ID == posted(request(**{name: value})).subject_request_id


@pytest.mark.parametrize("format_", ["md5", "sha1", "sha256"])
def test_a_hash_counts_beside_what_it_is_the_hash_of(format_: str) -> None:
    """Hashes are of the trimmed value in lower case. A person of whom there is only a hash can't be found,
    and one whose hash is another's is two people.
    """
    hashed = hashlib.new(format_, PERSON.encode(), usedforsecurity=False).hexdigest()
    both = posted(
        request(identity(" Canary.Person@people.example"), identity(hashed.upper(), format_=format_))
    )
    assert [PERSON] == [one.value for one in both.identifiers]
    for others in ([], [identity("somebody.else@people.example")]):
        with pytest.raises(Malformed, match=r"^subject_identities: not_identifiable$"):
            posted(request(identity(hashed, format_=format_), *others))


def sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def test_a_hash_alone_will_do_where_the_product_compares_hashes() -> None:
    """It stays a hash, of its own kind; several are several ways to know one person."""
    read_ = posted(
        request(
            identity(f" {sha256(PERSON).upper()} ", format_="sha256"),
            identity(sha256("k-7"), "controller_customer_id", "sha256"),
            identity("0000", "ios_vendor_id", "sha1"),
        ),
        hashed=True,
    )
    known = [("customer_id_sha256", sha256("k-7")), ("email_sha256", sha256(PERSON))]
    assert known == [(one.kind, one.value) for one in read_.identifiers]
    assert ("ios_vendor_id",) == read_.passed_over


@pytest.mark.parametrize(
    ("identities", "reason"),
    [
        ([identity("0" * 32, format_="md5")], "not_identifiable"),
        ([identity("0" * 40, format_="sha1")], "not_identifiable"),
        (
            [
                identity(sha256(PERSON), format_="sha256"),
                identity("0" * 40, format_="sha1"),
            ],
            "not_identifiable",
        ),
        (
            [identity(sha256(PERSON), format_="sha256"), identity("somebody.else@people.example")],
            "not_identifiable",
        ),
        ([identity(sha256(PERSON)[1:], format_="sha256")], "unusable_value"),
        ([identity(PERSON, format_="sha256")], "unusable_value"),
    ],
)
def test_a_hash_that_nobody_can_be_found_by_is_refused(identities: list[Any], reason: str) -> None:
    """Also where the product compares hashes: others than SHA-256, one beside another person's clear value,
    and what is no hash. Taken, it would find nobody, and that would read as "nothing held".
    """
    with pytest.raises(Malformed, match=rf"^subject_identities: {reason}$"):
        posted(request(*identities), hashed=True)


def test_a_hash_beside_its_clear_value_adds_nothing() -> None:
    """The clear value finds more, and where it finds nobody there is nobody."""
    both = request(identity(), identity(sha256(PERSON), format_="sha256"))
    assert [("email", PERSON)] == [(one.kind, one.value) for one in posted(both, hashed=True).identifiers]


def test_identities_of_devices_are_passed_over_and_named() -> None:
    """We hold nothing by them; the answer says so."""
    read_ = posted(
        request(identity(), identity("0000", "ios_vendor_id"), identity("1", "android_id", "sha1"))
    )
    assert ("android_id", "ios_vendor_id") == read_.passed_over
    assert 1 == len(read_.identifiers)


def test_what_a_controller_calls_its_systems_goes_no_further_than_the_answer() -> None:
    """Those that it has go on by their names, the others by their places in the list."""
    extensions = {"radera": {"systems": ["crm", "Anna's shop", "crm"]}}
    read_ = posted(request(extensions=extensions))
    assert ("crm", "2_of_3", "crm") == read_.scope({"crm"})
    assert ("Anna's shop",) == read_.not_among({"crm"})
    assert "Anna" not in repr(read_)
    everything = posted(request())
    assert (None, ()) == (everything.scope({"crm"}), everything.not_among({"crm"}))


def test_a_clock_that_runs_ahead_is_brought_back() -> None:
    """A time of ours counts where theirs has not come yet."""
    assert NOW == posted(request(submitted_time="2026-09-01T12:00:00+00:00")).submitted_at


def test_nothing_of_a_request_shows() -> None:
    """Neither who nor where to call back stands in a repr."""
    shown = repr(posted(request()))
    assert PERSON not in shown
    assert "controller.example" not in shown


# --- how it stands ---


def saga(state: Any, *ends: StepState, **changed: Any) -> Saga:
    steps = tuple(
        Step(system=f"tenant-{number}", kind="tenant", state=one, found=2, erased=_erased(one))
        for number, one in enumerate(ends)
    )
    known: dict[str, Any] = {
        "request_id": ID,
        "version": 1,
        "received_at": NOW,
        "due_at": NOW,
        "source": "opendsr",
    }
    return Saga(state=state, steps=steps, **{**known, **changed})


def _erased(state: StepState) -> int:
    return 2 if isinstance(state, Ended) and state.end in ("erased", "anonymised") else 0


def ended(end: Any, **more: Any) -> Ended:
    return Ended(end=end, at=NOW, **more)


def question(reason: str) -> Escalation:
    return Escalation(id="e1", version=1, reason=reason, system=None, code=None, raised_at=NOW, remind_at=NOW)


DONE = Finished(status="completed", at=NOW)
GOING = InProgress(until=NOW)


@pytest.mark.parametrize(
    ("state", "ends", "expected"),
    [
        (None, [], "pending"),
        (AwaitingVerification(until=NOW), [], "pending"),
        (GOING, [Waiting(until=NOW)], "in_progress"),
        (Closing(final="completed", until=NOW), [ended("erased")], "in_progress"),
        (DONE, [ended("erased", grade="seen_absent")], "completed/erased"),
        (DONE, [ended("absent"), ended("erased")], "completed/erased"),
        (DONE, [ended("absent")], "completed/nothing_held"),
        (DONE, [ended("retained", legal_basis="bookkeeping")], "completed/retained"),
        (DONE, [ended("retained"), ended("erased")], "completed/partial"),
        (DONE, [ended("not_identifiable"), ended("erased")], "completed/partial"),
        (DONE, [ended("not_identifiable")], "completed/not_identifiable"),
        (DONE, [ended("waived", reason="x"), ended("erased")], "completed/failed"),
        (DONE, [ended("erased", contradicted="located")], "completed/failed"),
        (Finished(status="rejected", at=NOW), [ended("stopped")], "cancelled/rejected"),
        (Finished(status="cancelled", at=NOW), [ended("stopped")], "cancelled/cancelled"),
    ],
)
def test_a_state_has_a_name(state: Any, ends: list[StepState], expected: str) -> None:
    """OpenDSR's state, and what it has no word for in our extension."""
    assert expected == standing(None if state is None else saga(state, *ends)).name


def test_what_was_kept_in_part_is_not_told_as_kept() -> None:
    """Some of one system's records were erased before the rest was kept."""
    kept = saga(DONE, ended("retained", legal_basis="bookkeeping"))
    in_part = replace(kept, steps=tuple(replace(step, erased=1) for step in kept.steps))
    assert ("completed/retained", "completed/partial") == (standing(kept).name, standing(in_part).name)


@pytest.mark.parametrize("grades", [("party_stated", "seen_absent"), ("seen_absent", "party_stated")])
def test_of_several_systems_the_weakest_proof_is_told(grades: tuple[Grade, ...]) -> None:
    """Wherever it stands: a look into one system shows nothing of another."""
    ends = [ended("erased", grade=grade) for grade in grades]
    assert "party_stated" == standing(saga(DONE, *ends)).extension["proof"]


def test_what_waits_for_a_person_here_is_told_as_failed() -> None:
    """A deadline that is near is our affair; an attempt that failed for good, and a request set aside, are
    the controller's too.
    """
    assert "in_progress" == standing(saga(GOING, escalations=(question("deadline_near"),))).name
    assert "in_progress/failed" == standing(saga(GOING, escalations=(question("failed"),))).name
    assert "in_progress/failed" == standing(saga(GOING, quarantined=True)).name


def test_what_was_kept_is_told_with_its_reason_and_its_end() -> None:
    """A legal basis, a day, and the weakest proof."""
    kept = ended("retained", legal_basis="bookkeeping", retained_until=NOW, grade="party_stated")
    assert {
        "result": "partial",
        "found": 4,
        "erased": 2,
        "proof": "party_stated",
        "legal_basis": "bookkeeping",
        "retained_until": "2026-09-01T00:00:00.000Z",
    } == standing(saga(DONE, kept, ended("erased", grade="seen_absent"))).extension


def test_every_change_is_told_once_and_in_order() -> None:
    """One who was away hears of the work before its end; one who knows hears nothing; a correction is
    news.
    """
    erased = Standing("completed", {"result": "erased"})
    assert None is next_to_tell(None, Standing("pending"))
    assert Standing("in_progress") == next_to_tell(None, erased)
    assert erased == next_to_tell("in_progress", erased)
    assert None is next_to_tell("completed/erased", erased)
    corrected = Standing("completed", {"result": "failed"})
    assert corrected == next_to_tell("completed/erased", corrected)
    cancelled = Standing("cancelled", {"result": "cancelled"})
    assert cancelled == next_to_tell(None, cancelled)
    failing = Standing("in_progress", {"result": "failed"})
    assert failing == next_to_tell("in_progress", failing)
    assert Standing("in_progress") == next_to_tell("in_progress/failed", Standing("in_progress"))


def test_a_request_about_to_be_cancelled_is_cancelling() -> None:
    """Asking for it again while it closes is no conflict."""
    assert is_cancelling(saga(Closing(final="cancelled", until=NOW)))
    assert is_cancelling(saga(Finished(status="cancelled", at=NOW)))
    assert not is_cancelling(replace(saga(GOING), reason="x"))
    assert not is_cancelling(None)
