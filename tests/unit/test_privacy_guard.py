"""The guard finds a person in the disguises that texts wear, and lets the rest through."""

import base64
import hashlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.privacy import Identifier, Identifiers, find_personal, looks_personal
from orchestrator.privacy.guard import _readings

ADDRESS = "anna.svensson@example.com"
PERSON = Identifiers(
    (
        Identifier("email", ADDRESS),
        Identifier("email", "åsa@xn--exmple-cua.se"),
        Identifier("phone", "+46701740605"),
        Identifier("name", "Anna Åkesson Svensson"),
        Identifier("ga_client_id", "1234567890.1699999999"),
        Identifier("customer_id", "K-1042"),
        Identifier("tenant_user_id", "12"),
    )
)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS,
        f"contact {ADDRESS.upper()} not found",
        f"joe{ADDRESS}",
        quote(ADDRESS, safe=""),
        quote(quote(ADDRESS, safe=""), safe=""),
        "anna&#46;svensson&#64;example.com",
        "anna.svensson\\u0040example.com",
        "\uff41\uff4e\uff4e\uff41.svensson@example.com",
        in_base64(ADDRESS),
        in_base64(ADDRESS).rstrip("="),
        "id_" + in_base64(ADDRESS),
        in_base64(f'{{"to": "{ADDRESS}"}}'),
        quote(in_base64(f"?{ADDRESS}?"), safe=""),
        base64.urlsafe_b64encode(b"\xff\xfe\xfd" + ADDRESS.encode()).decode(),
        ADDRESS.encode().hex(),
        hashlib.sha256(ADDRESS.encode()).hexdigest(),
        hashlib.md5(ADDRESS.encode(), usedforsecurity=False).hexdigest().upper(),
        "åsa@exämple.se",
        "ÅSA@EXÄMPLE.SE",
        "a\u030asa@xn--exmple-cua.se",
        "+46701740605",
        "call 070-174 06 05 after six",
        "0046 (0)70/174.06.05",
        "tel%3A%2B46701740605",
        "SVENSSON, Anna Åkesson",
        "anna_åkesson_svensson.pdf",
        "Anna+%C3%85kesson+Svensson",
        "cid=1234567890.1699999999",
        "customer k-1042.",
    ],
)
def test_a_person_is_found(text: str) -> None:
    """However an identifier is written, the text is not fit to be kept in clear."""
    assert find_personal(text, PERSON)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "found 12 records",
        "portal 12345678 answered 204",
        "3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90",
        "2026-11-22T22:39:01.123456Z",
        "Anna Svensson",
        "Annas Åkessons Svenssons",
        "customer K-10421",
        "1234567890.16999999990",
        "bo@example.com",
        hashlib.sha256(b"something else").hexdigest(),
    ],
)
def test_others_are_let_through(text: str) -> None:
    """Counts, ids, times and other people's near likenesses are no reason to refuse evidence."""
    assert not find_personal(text, PERSON)


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["plain", "quoted", "base64", "hex"]))
def test_a_person_is_found_within_anything(before: str, after: str, how: str) -> None:
    """Whatever stands around it, and whatever of it was encoded along."""
    text = f"{before} {ADDRESS} {after}"
    disguised = {
        "plain": text,
        "quoted": quote(text, safe="", errors="replace"),
        "base64": base64.b64encode(text.encode(errors="replace")).decode(),
        "hex": text.encode(errors="replace").hex(),
    }[how]
    assert find_personal(disguised, PERSON)
    assert looks_personal(disguised)


@pytest.mark.parametrize(
    "text",
    [
        "she wrote from bo@example.com",
        "bo (at) example.com",
        quote("bo@example.com", safe=""),
        in_base64("bo@example.com"),
        "070-174 06 05",
        "+47 412 34 567",
        "412 34 567",
        "19850101-1234",
        "850101-1234",
        "1985-01-01-1234",
        "\uff18\uff15\uff10\uff11\uff10\uff11-\uff11\uff12\uff13\uff14",
    ],
)
def test_what_has_the_form_of_a_person_is_refused(text: str) -> None:
    """Addresses, telephone numbers and national identity numbers show by their form."""
    assert looks_personal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The agency has not answered since 2026-11-22; extended until 2027-02-01.",
        "Decided on 2026-11-22 with case 4711.",
        "See request 12345678-1234-1234-1234-123456789012.",
        "12 records, 3 systems, 14 days",
        "Bokföringslagen 7:2 till 2033-12-31",
        "Många system – och en byrå som inte svarar.",  # noqa: RUF001 - Swedish writes its dash so
        "Internationalization considerations notwithstanding",
    ],
)
def test_plain_reasons_are_let_through(text: str) -> None:
    """A reason with dates, counts, paragraphs or a request's id is what an officer writes."""
    assert not looks_personal(text)


def test_a_long_text_has_a_bounded_number_of_readings() -> None:
    """A text made to have many readings doesn't hold up a worker: layers don't multiply."""
    nested = "x" * 200
    for _ in range(5):
        nested = in_base64(nested)
    text = " ".join(nested[start:] for start in range(10))
    assert not find_personal(text, PERSON)
    assert len(list(_readings(text))) < 200
