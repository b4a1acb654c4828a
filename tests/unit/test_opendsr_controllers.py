"""Who asks over OpenDSR: by token, by certificate, by both if they agree, and by nothing less."""

import hashlib
from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidTag

from handlers.sandbox.certificates import Authority, new_key
from handlers.sandbox.testing import START
from handlers.sandbox.web import moment
from orchestrator.intake.opendsr_controllers import Addresses, Controller, Controllers
from orchestrator.intake.tls import client_names, shows_certificate

DAY = 86_400_000_000


def controller(name: str, *tokens: str, names: tuple[str, ...] = ()) -> Controller:
    return Controller(
        system=name,
        tenant=name,
        hosts=frozenset(),
        allow_private=False,
        tokens=tuple(hashlib.sha256(one.encode()).hexdigest() for one in tokens),
        names=frozenset(names),
    )


ACME = controller("acme", "acme-token", "acme-next", names=("opendsr.acme.example",))
OTHER = controller("other", "other-token", names=("opendsr.other.example",))
BOTH = Controllers((ACME, OTHER))


@pytest.mark.parametrize(
    ("authorization", "names", "who"),
    [
        ("Bearer acme-token", (), "acme"),
        ("bearer acme-next", (), "acme"),
        ("Bearer other-token", (), "other"),
        ("", ("opendsr.acme.example",), "acme"),
        ("Bearer acme-token", ("opendsr.acme.example",), "acme"),
        ("Bearer acme-token", ("opendsr.nobody.example",), "acme"),
        ("", (), None),
        ("", ("opendsr.nobody.example",), None),
        ("", ("opendsr.acme.example", "opendsr.other.example"), None),
        ("Bearer wrong", (), None),
        ("Bearer wrong", ("opendsr.acme.example",), None),
        ("Bearer acme-token", ("opendsr.other.example",), None),
        ("Bearer acme-token", ("opendsr.acme.example", "opendsr.other.example"), None),
        ("Basic acme-token", (), None),
        ("acme-token", (), None),
        ("Bearer ", (), None),
        ("Bearer " + "x" * 1001, (), None),
    ],
)
def test_who_asks(authorization: str, names: tuple[str, ...], who: str | None) -> None:
    """A wrong token is not mended by a good certificate, and two controllers at once are neither."""
    found = BOTH.of(authorization, names)
    assert who == (None if found is None else found.system)


def test_a_token_of_two_controllers_is_neithers() -> None:
    """The operator has pasted one hash twice: nobody may act for a tenant by a mistake of ours."""
    twice = Controllers((ACME, controller("copy", "acme-token")))
    assert None is twice.of("Bearer acme-token")


def test_an_address_to_call_back_opens_for_its_request_alone() -> None:
    """One row put into another's place would have a controller told of somebody else's request."""
    addresses = Addresses(b"d" * 32)
    sealed = addresses.seal("one", "https://acme.example/told?secret=1")
    assert b"secret" not in sealed
    assert "https://acme.example/told?secret=1" == addresses.open("one", sealed)
    with pytest.raises(InvalidTag):
        addresses.open("another", sealed)


# --- client certificates ---


def scope(*chain: str) -> dict[str, object]:
    return {"extensions": {"tls": {"client_cert_chain": list(chain)}}}


def test_a_client_certificate_counts_by_its_own_names() -> None:
    """Its first certificate is the client's; who issued it is not who asks."""
    authority = Authority(START)
    mine = authority.issue("Opendsr.Acme.example", new_key("theirs"), client=True)
    above = authority.issue("opendsr.other.example", new_key("ours"), client=True)
    assert frozenset({"opendsr.acme.example"}) == client_names(scope(mine, above), START)
    assert frozenset({"opendsr.acme.example"}) == client_names(scope(mine + above), START)
    assert [True, False] == [shows_certificate(one) for one in (scope(mine), scope())]
    assert frozenset() == client_names(scope(), START)


def test_a_client_certificate_counts_while_it_is_in_force() -> None:
    """A connection may be older than the certificate's last day."""
    ends = moment(START) + timedelta(days=1)
    mine = Authority(START).issue("opendsr.acme.example", new_key("theirs"), client=True, ends=ends)
    assert frozenset({"opendsr.acme.example"}) == client_names(scope(mine), START + DAY)
    assert frozenset() == client_names(scope(mine), START + 2 * DAY)
