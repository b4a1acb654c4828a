"""However an address or a number is written, it is one person's: properties, over many writings.

Two mistakes cost something: taking one person's two writings for two (somebody is left), and taking two
people's for one (somebody else is erased).
"""

import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.addresses import normal, writings
from handlers.google_analytics import normalised_email, normalised_phone
from handlers.results import Located
from orchestrator.privacy import Identifier, Kind, clean
from tests.contract.handlers_bench import Bench

REGIONS = ("SE", "NO", "DK", "FI", "DE", "GB", "US", "JP", "IN", "BR")
_LETTERS = "abcdefghijklmnopqrstuvwxyzåäöøæéüñçßžł"

atoms = st.text(_LETTERS + "0123456789-_'", min_size=1, max_size=8)
locals_ = st.lists(atoms, min_size=1, max_size=3).map(".".join)
labels = st.text("abcdefghijklmnopqrstuvwxyzåäöøæéüñ", min_size=1, max_size=10)
domains = st.tuples(labels, st.sampled_from(["se", "no", "com", "example.com", "рф"])).map(".".join)
addresses = st.builds("{}@{}".format, locals_, domains)


def cleaned(kind: Kind, typed: str, region: str | None = None) -> str | None:
    items = clean([Identifier(kind, typed)], region=region).identifiers.items
    return items[0].value if items else None


def ascii_domain(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


@settings(max_examples=40, deadline=None)
@given(addresses, st.sampled_from(["NFC", "NFD"]), st.booleans(), st.sampled_from(["", " ", "\t", "\n"]))
def test_an_address_is_the_same_in_every_writing(address: str, form: str, upper: bool, blank: str) -> None:
    """Composed or not, spaces around, the domain in either case: one form, as the plain writing has it."""
    local, _, domain = address.rpartition("@")
    written = f"{blank}{local}@{domain.upper() if upper else domain}{blank}"
    typed = unicodedata.normalize(form, written)  # type: ignore[arg-type] # one of two literals
    assert cleaned("email", address) == cleaned("email", typed)


@settings(max_examples=40, deadline=None)
@given(addresses)
def test_case_makes_no_other_address(address: str) -> None:
    """Where upper case is its own letter again; "ß" has none, and becomes two."""
    if address.upper().lower() == address:
        assert cleaned("email", address) == cleaned("email", address.upper())


@settings(max_examples=40, deadline=None)
@given(locals_, st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8), domains)
def test_a_plus_address_is_an_address_of_its_own(local: str, tag: str, domain: str) -> None:
    """Most hosts deliver it to the same person, but not all do: dropping the tag could name somebody else."""
    plain, tagged = cleaned("email", f"{local}@{domain}"), cleaned("email", f"{local}+{tag}@{domain}")
    assert (plain is None) == (tagged is None)
    assert plain is None or (plain != tagged and f"+{tag}@" in str(tagged))


@settings(max_examples=40, deadline=None)
@given(addresses, addresses)
def test_two_addresses_stay_two(one: str, other: str) -> None:
    """Only what is equal without regard to case and composition comes to the same form."""
    first, second = cleaned("email", one), cleaned("email", other)
    if first is not None and first == second:
        assert unicodedata.normalize("NFC", one.lower()) == unicodedata.normalize("NFC", other.lower())


@settings(max_examples=40, deadline=None)
@given(addresses)
def test_every_writing_comes_back_to_the_address(address: str) -> None:
    """What a vendor is asked for is this address and no other, in letters and in ASCII, each once."""
    form = cleaned("email", address)
    if form is None:
        return
    asked = list(writings(form))
    assert form == asked[0]
    assert len(asked) == len(set(asked))
    assert {form} == {normal(one) for one in asked}
    assert address.rpartition("@")[2] in {one.rpartition("@")[2] for one in asked}


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_whatever_a_vendor_holds_as_an_address_can_be_compared(text: str) -> None:
    """Vendors hold nonsense, too; comparing must neither raise nor make an address of it."""
    form = normal(text)
    assert form == normal(form) or cleaned("email", text) is None


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(REGIONS), st.data())
def test_a_number_is_the_same_in_every_writing(region: str, data: st.DataObject) -> None:
    """National, international, as the web writes it, with the trunk zero in brackets: one E.164 number."""
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    digits = str(example.national_number)
    changed = int(digits[:-3] + f"{data.draw(st.integers(0, 999)):03d}")
    number = phonenumbers.PhoneNumber(country_code=example.country_code, national_number=changed)
    if not phonenumbers.is_valid_number_for_region(number, region):
        return
    form = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    how = data.draw(
        st.sampled_from(
            [
                phonenumbers.PhoneNumberFormat.NATIONAL,
                phonenumbers.PhoneNumberFormat.INTERNATIONAL,
                phonenumbers.PhoneNumberFormat.RFC3966,
                phonenumbers.PhoneNumberFormat.E164,
            ]
        )
    )
    written = phonenumbers.format_number(number, how)
    assert form == cleaned("phone", written, region)
    assert form == cleaned("phone", written.replace("-", " ").replace("  ", " "), region)
    assert form == normalised_phone(form)


@settings(max_examples=40, deadline=None)
@given(addresses)
def test_googles_form_is_settled_and_keeps_the_dots_of_others(address: str) -> None:
    """Gmail's dots go, nobody else's; done twice it is the same."""
    form = normalised_email(address)
    assert form == normalised_email(form)
    local, _, domain = address.rpartition("@")
    assert "".join(local.lower().split()) == form.rpartition("@")[0]
    gmail = normalised_email(f"{local}@gmail.com")
    assert f"{local.replace('.', '').lower()}@gmail.com" == gmail
    assert domain == form.rpartition("@")[2]


@pytest.mark.parametrize("vendor", ["superoffice", "hubspot", "teamtailor"])
@settings(max_examples=8, deadline=None)
@given(address=addresses, upper=st.booleans(), in_ascii=st.booleans())
def test_whatever_way_a_vendor_has_it_written_the_person_is_found(
    vendor: str, address: str, upper: bool, in_ascii: bool
) -> None:
    """By what the person typed, brought into our form; "nothing found" would be a false absence."""
    form = cleaned("email", address)
    if form is None or address.upper().lower() != address:
        return
    held = ascii_domain(address) if in_ascii else address
    held = held.upper() if upper else held
    kind = {"superoffice": "persons", "hubspot": "contacts", "teamtailor": "candidates"}[vendor]

    async def look() -> object:
        with TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            bench.sandbox.seed({vendor: {kind: [{"email": held}]}})
            bench.clock.pass_seconds(60)
            return await getattr(bench, vendor)().locate(bench.task("locate", Identifier("email", form)))

    assert isinstance(anyio.run(look), Located)
