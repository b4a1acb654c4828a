"""Digests tell the same from another, and links only what we wrote."""

import base64
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.privacy import Digests, Identifier, Identifiers, InvalidLink, Link, PartyLinks

DIGEST_KEY = bytes(range(32))
DIGESTS = Digests(DIGEST_KEY)
LINKS = PartyLinks(DIGEST_KEY)
REQUEST = "3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90"
ANNA = Identifier("email", "anna@example.com")
BO = Identifier("email", "bo@example.com")
NAMED = Identifier("name", "Anna Svensson")


def content(**changes: object) -> str:
    given: dict[str, object] = {"scope": ("hubspot", "superoffice"), "capacity": "controller", "tenant": None}
    given |= changes
    who = given.pop("identifiers", Identifiers((ANNA,)))
    return DIGESTS.content(who, **given)  # type: ignore[arg-type]  # each test changes one of them


def test_the_same_request_has_the_same_content() -> None:
    """The order of identifiers and systems is nobody's meaning."""
    assert content() == content(scope=("superoffice", "hubspot", "hubspot"))
    assert content(identifiers=Identifiers((ANNA, BO))) == content(identifiers=Identifiers((BO, ANNA)))


def test_another_request_has_another_content() -> None:
    """Each part counts, and no part can be taken for its neighbour."""
    different = [
        content(),
        content(identifiers=Identifiers((BO,))),
        content(scope=None),
        content(scope=()),
        content(scope=("all",)),
        content(scope=("hubspotsuperoffice",)),
        content(capacity="processor"),
        content(tenant="byggfirman"),
        content(tenant="none"),
    ]
    assert len(different) == len(set(different))


def test_a_subject_is_told_by_more_than_a_name() -> None:
    """The name counts only when there is nothing else: two people may share one."""
    assert DIGESTS.subject(Identifiers((ANNA,))) == DIGESTS.subject(Identifiers((ANNA, NAMED)))
    assert DIGESTS.subject(Identifiers((ANNA,))) != DIGESTS.subject(Identifiers((BO, NAMED)))
    assert DIGESTS.subject(Identifiers((NAMED,))) != DIGESTS.subject(Identifiers(()))


def test_digests_of_different_uses_and_keys_differ() -> None:
    """A leaked list of one use can't be matched with another, and none without the key."""
    one = Identifiers((ANNA,))
    digests = [
        DIGESTS.subject(one),
        DIGESTS.correlation("hubspot", ANNA.value),
        DIGESTS.correlation("superoffice", ANNA.value),
        Digests(bytes(32)).subject(one),
    ]
    assert len(digests) == len(set(digests))
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)


def test_digests_stay_the_same_over_releases() -> None:
    """They rest in databases for years; these values, made with HMAC and RFC 5869 alone, may never change."""
    assert (
        "4e726edb53ed7acd63d01bb0c2aadd7f24850c0dce9a50cab65c6a25c713d336",
        "0709f9a93ea14cc5f97946ec92b7200e549e2310624f64583816c225d3b0068c",
        "11e307fb03530468204f69b7a6729eead88cbae0a5a1bf2964276b3caf90746a",
    ) == (content(), DIGESTS.subject(Identifiers((ANNA,))), DIGESTS.correlation("hubspot", "123"))


# --- links --------------------------------------------------------------------------------------------------


@given(
    st.uuids(),
    st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,79}", fullmatch=True),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**62),
)
def test_a_link_says_what_it_was_made_for(request: object, system: str, attempt: int, until: int) -> None:
    """And a repeat of the command makes the same link."""
    token = LINKS.make(str(request), system, attempt, until)
    assert Link(str(request), system, attempt, until) == LINKS.read(token)
    assert token == LINKS.make(str(request), system, attempt, until)
    assert re.fullmatch(r"[A-Za-z0-9_-]{60,200}", token)


def test_a_link_stays_readable_over_releases() -> None:
    """A mail may be answered after an upgrade."""
    assert "OcJm7bwyCbw3aZ-2-C70tuj01JZhrLl-_yzm_XK6DVzvQJK4mGiAbg_9oqdyLd-jn0s" == LINKS.make(
        REQUEST, "agency", 1, 1_788_000_000_000_000
    )


def test_a_link_tells_nothing() -> None:
    """Neither the request nor the system can be read from it."""
    token = LINKS.make(REQUEST, "agency", 1, 1_788_000_000_000_000)
    raw = base64.urlsafe_b64decode(token + "==")
    assert b"agency" not in raw
    assert bytes.fromhex(REQUEST.replace("-", "")) not in raw


def test_links_expire() -> None:
    """At the time said, not a moment later; the reader decides what to answer then."""
    link = LINKS.read(LINKS.make(REQUEST, "agency", 1, 1000))
    assert (False, True) == (link.is_expired(999), link.is_expired(1000))


@given(st.data())
def test_any_changed_character_makes_a_link_invalid(data: st.DataObject) -> None:
    """The last one too, where base64 has bits to spare."""
    token = LINKS.make(REQUEST, "agency", 1, 1000)
    at = data.draw(st.integers(0, len(token) - 1) | st.just(len(token) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_=+/. å").filter(lambda character: character != token[at]))
    with pytest.raises(InvalidLink):
        LINKS.read(token[:at] + other + token[at + 1 :])


@pytest.mark.parametrize("system", ["a", "ab", "abc"])
def test_a_link_has_one_spelling(system: str) -> None:
    """Base64 has bits to spare at its end: else one link could be spelled, and answered, in several ways."""
    token = LINKS.make(REQUEST, system, 1, 1000)
    alphabet = string.ascii_letters + string.digits + "-_"
    for last in alphabet.replace(token[-1], ""):
        with pytest.raises(InvalidLink):
            LINKS.read(token[:-1] + last)


@given(st.text(max_size=500))
def test_any_other_text_is_no_link(token: str) -> None:
    """Whatever comes in a URL, it is a link of ours or an InvalidLink."""
    with pytest.raises(InvalidLink) as caught:
        LINKS.read(token)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_a_link_of_another_installation_is_invalid() -> None:
    """Only the holder of the digest key makes links."""
    token = PartyLinks(bytes(32)).make(REQUEST, "agency", 1, 1000)
    with pytest.raises(InvalidLink):
        LINKS.read(token)
