"""Identifiers come into one form, and show themselves nowhere."""

import copy
import logging
import pickle
import traceback
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.privacy import KINDS, Identifier, Identifiers, IdentifiersBroken, Kind, clean

CANARY = "anna.svensson@example.com"


def cleaned(kind: Kind, value: str, site: str | None = None, region: str | None = None) -> str | None:
    result = clean([Identifier(kind, value, site)], region=region)
    assert (kind,) == result.refused or len(result.identifiers) == 1
    return result.identifiers.items[0].value if result.identifiers else None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("anna@example.com", "anna@example.com"),
        ("  Anna.Svensson@EXAMPLE.com\n", "anna.svensson@example.com"),
        ("Anna+Nyheter@Example.COM.", "anna+nyheter@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("a\u030asa@exa\u0308mple.se", "åsa@xn--exmple-cua.se"),
        ("ÅSA@EXÄMPLE.SE", "åsa@xn--exmple-cua.se"),
        ("anna@xn--exmple-cua.se", "anna@xn--exmple-cua.se"),
    ],
)
def test_an_address_has_one_form(typed: str, expected: str) -> None:
    """Case, spaces, composition and the form of the domain don't make another address."""
    assert expected == cleaned("email", typed)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "@",
        "anna",
        "anna@",
        "@example.com",
        "anna@localhost",
        "anna@127.0.0.1",
        "anna@[127.0.0.1]",
        "anna@example..com",
        "anna@-example.com",
        "anna@exa mple.com",
        "an na@example.com",
        "anna..s@example.com",
        ".anna@example.com",
        "anna@b@example.com",
        "anna@example.com\r\nBcc: all@example.com",
        "anna\u200b@example.com",
        "Anna <anna@example.com>",
        "a" * 65 + "@example.com",
        "anna@" + "a" * 64 + ".com",
        "anna@" + "a." * 200 + "com",
        "a" * 100_000,
    ],
)
def test_nonsense_is_no_address(typed: str) -> None:
    """What no mailbox can have is refused, header injection and invisible characters included."""
    assert cleaned("email", typed) is None


@pytest.mark.parametrize(
    ("typed", "region", "expected"),
    [
        ("070-174 06 05", "SE", "+46701740605"),
        ("+46 (0)70-174 06 05", None, "+46701740605"),
        ("0046701740605", "SE", "+46701740605"),
        ("tel:+46701740605", None, "+46701740605"),
        ("412 34 567", "NO", "+4741234567"),
        ("+47 412 34 567", "SE", "+4741234567"),
    ],
)
def test_a_phone_number_has_one_form(typed: str, region: str | None, expected: str) -> None:
    """National and international writing come to the same E.164 number."""
    assert expected == cleaned("phone", typed, region=region)


@pytest.mark.parametrize(
    ("typed", "region"),
    [
        ("070-174 06 05", None),
        ("", "SE"),
        ("12", "SE"),
        ("+46", "SE"),
        ("call me", "SE"),
        ("0800 FLOWERS", "SE"),
        ("+99912345678", "SE"),
        ("0" * 40, "SE"),
        ("070-1740605", "XX"),
    ],
)
def test_nonsense_is_no_phone_number(typed: str, region: str | None) -> None:
    """Without a country, too short, too long, or words: refused."""
    assert cleaned("phone", typed, region=region) is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("GA1.1.1234567890.1699999999", "1234567890.1699999999"),
        ("GA1.2.1234567890.1699999999", "1234567890.1699999999"),
        ("GA1.3.1234567890.1699999999", "1234567890.1699999999"),
        ("GA1.2-2.1234567890.1699999999", "1234567890.1699999999"),
        (" _ga=GA1.1.1234567890.1699999999 ", "1234567890.1699999999"),
        ("1234567890.1699999999", "1234567890.1699999999"),
        ("GS1.1.1699999999.1.1.1699999999.0.0.0", None),
        ("GA1.1.1234567890", None),
        ("1234567890", None),
        ("1234567890.1699999999.1", None),
        ("١٢٣.٤٥٦", None),
        ("", None),
    ],
)
def test_the_client_id_is_found_in_its_cookie(typed: str, expected: str | None) -> None:
    """The cookie's prefix goes, whatever its depth; other cookies are not client ids."""
    assert expected == cleaned("ga_client_id", typed)


@pytest.mark.parametrize(
    ("kind", "typed", "expected"),
    [
        ("name", "  Anna \t Svensson ", "Anna Svensson"),
        ("name", "A\u030asa", "Åsa"),
        ("name", "123", None),
        ("name", "Anna\x00", None),
        ("ga_app_instance_id", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcdef"),
        ("ga_app_instance_id", "0123", None),
        ("ga_user_id", " User-7 ", "User-7"),
        ("customer_id", "", None),
        ("tenant_user_id", "a\nb", None),
        ("tenant_user_id", "x" * 257, None),
    ],
)
def test_the_other_kinds_are_cleaned(kind: Kind, typed: str, expected: str | None) -> None:
    """Names lose needless spaces; another system's ids keep their case."""
    assert expected == cleaned(kind, typed)


@pytest.mark.parametrize(
    ("kind", "site", "expected"),
    [
        ("ga_client_id", "WWW.SmartDok.se", "www.smartdok.se"),
        ("ga_client_id", None, None),
        ("ga_client_id", "https://smartdok.se/", "refused"),
        ("ga_client_id", "", "refused"),
        ("ga_client_id", "a" * 100_000, "refused"),
        ("email", "smartdok.se", "refused"),
    ],
)
def test_a_site_is_a_host_name(kind: Kind, site: str | None, expected: str | None) -> None:
    """A site says which property a client id belongs to; elsewhere, or unreadable, it is a mistake."""
    value = {"ga_client_id": "1.2", "email": "anna@example.com"}[kind]
    result = clean([Identifier(kind, value, site)])
    if expected == "refused":
        assert (kind,) == result.refused
    else:
        assert [expected] == [item.site for item in result.identifiers]


@given(st.sampled_from(KINDS), st.text(max_size=60))
def test_cleaning_is_settled_after_once(kind: Kind, typed: str) -> None:
    """Anything may be typed; what comes out is not changed by cleaning it again."""
    once = clean([Identifier(kind, typed)], region="SE")
    assert (once.identifiers, ()) == clean(once.identifiers, region="SE")


@given(st.from_regex(r"[A-Za-zÅÄÖéßİ.+-]{1,20}@[A-Za-zåäö-]{1,20}\.[a-z]{2,4}", fullmatch=True))
def test_cleaning_addresses_is_settled_after_once(typed: str) -> None:
    """The same for what looks like an address, with letters whose case or composition is peculiar."""
    once = clean([Identifier("email", typed)])
    assert (once.identifiers, ()) == clean(once.identifiers)


def test_refused_kinds_are_told_without_values() -> None:
    """The person can be asked again for the kind, and what was typed is not repeated."""
    result = clean(
        [
            Identifier("email", f"<{CANARY}>"),
            Identifier("phone", "no"),
            Identifier("phone", "never"),
            Identifier("name", "Anna Svensson"),
        ]
    )
    assert ("email", "phone", "phone") == result.refused
    assert ("name",) == result.identifiers.kinds
    assert CANARY not in repr(result)


def test_no_more_than_a_hundred_identifiers() -> None:
    """A request can't be made to cost without bound; what goes beyond is refused, not dropped silently."""
    result = clean(Identifier("customer_id", f"customer-{number}") for number in range(103))
    assert (100, ("customer_id",) * 3) == (len(result.identifiers), result.refused)


# --- bytes --------------------------------------------------------------------------------------------------

identifiers = st.lists(
    st.builds(
        Identifier,
        st.sampled_from(KINDS),
        st.text(st.characters(codec="utf-8"), max_size=30),
        st.none() | st.text(st.characters(codec="utf-8"), max_size=10),
    ),
    max_size=8,
)


@given(identifiers, st.randoms())
def test_canonical_bytes_do_not_depend_on_the_order(items: list[Identifier], random: Random) -> None:
    """The same set gives the same bytes, and the bytes give the same set."""
    shuffled = [*items, *items]
    random.shuffle(shuffled)
    assert Identifiers(tuple(items)).to_bytes() == Identifiers(tuple(shuffled)).to_bytes()
    assert Identifiers(tuple(items)) == Identifiers.from_bytes(Identifiers(tuple(shuffled)).to_bytes())


def test_the_canonical_bytes_are_as_published() -> None:
    """Digests of requests are made of these bytes and must compare over years."""
    made = Identifiers((Identifier("name", "Åsa"), Identifier("ga_client_id", "1.2", "smartdok.se")))
    expected = '{"format":1,"items":[["ga_client_id","1.2","smartdok.se"],["name","Åsa",null]]}'
    assert expected.encode() == made.to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"format":2,"items":[]}',
        b'{"format":1,"items":{}}',
        b'{"format":1,"items":[["email"]]}',
        b'{"format":1,"items":[["email",1,null]]}',
        b'{"format":1,"items":[["shoe_size","44",null]]}',
        b'{"format":1, "items":[]}',
        b'{"format":1,"items":[["name","B",null],["name","A",null]]}',
        f'{{"format":1,"items":[["{CANARY}","x",null]]}}'.encode(),
        f'{{"format":1,"items":["{CANARY}'.encode(),
    ],
)
def test_other_bytes_are_refused_in_silence(data: bytes) -> None:
    """Only our own canonical form is read, and the error holds nothing of the bytes."""
    with pytest.raises(IdentifiersBroken) as caught:
        Identifiers.from_bytes(data)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# --- showing ------------------------------------------------------------------------------------------------

SHY = (Identifier("email", CANARY, CANARY), Identifiers((Identifier("email", CANARY),)))


@pytest.mark.parametrize("shy", SHY, ids=["one", "all"])
def test_values_do_not_show(shy: Identifier | Identifiers, caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr, str, a format, a container's repr, nor a log line says the value."""
    logging.getLogger("test").warning("%s %r", shy, {"found": [shy]})
    for text in (repr(shy), str(shy), f"{shy}", f"{shy!r:>50}", f"{[shy]}", caplog.text):
        assert CANARY not in text
        assert "email" in text


@pytest.mark.parametrize("shy", SHY, ids=["one", "all"])
def test_values_are_not_pickled(shy: Identifier | Identifiers) -> None:
    """A pickle in a queue or a cache would be a copy in clear; a copy in memory is the thing itself."""
    with pytest.raises(TypeError, match=r"to_bytes\(\)"):
        pickle.dumps(shy)
    assert shy is copy.copy(shy)
    assert shy is copy.deepcopy(shy)


def test_an_unknown_kind_is_refused() -> None:
    """A misspelt kind would be an identifier that nobody looks for."""
    with pytest.raises(ValueError, match="no such kind"):
        Identifier("shoe_size", "44")  # type: ignore[arg-type]  # what a caller without mypy might do


def test_identifiers_of_a_kind_are_found() -> None:
    """Each kind on its own, sorted, each once."""
    anna, bo = Identifier("email", "anna@example.com"), Identifier("email", "bo@example.com")
    made = Identifiers((bo, Identifier("name", "Anna"), anna, bo))
    assert (anna, bo) == made.of_kind("email")
    assert () == made.of_kind("phone")
    assert (3, ("email", "name")) == (len(made), made.kinds)
