"""Addresses as vendors have them written.

We know an address in one form (`orchestrator.privacy.identifiers`): lower case, the domain in ASCII. A vendor
keeps what somebody typed, so "åsa@exämple.se" may stand there with its domain in letters or in ASCII
("xn--exmple-cua"). Both are asked for, and what comes back is compared in our form.
"""

from collections.abc import Iterable, Iterator

import idna

from orchestrator.privacy import Identifier, clean


def writings(email: str) -> Iterator[str]:
    """The address as it may be written; itself first, each once."""
    yield email
    local, at, domain = email.rpartition("@")
    try:
        readable = idna.decode(domain)
    except UnicodeError:  # idna's own errors are of this family
        return
    if at and readable != domain:
        yield f"{local}@{readable}"


def all_writings(emails: Iterable[str]) -> Iterator[str]:
    """Those of all of them."""
    for email in emails:
        yield from writings(email)


def normal(text: str) -> str:
    """What somebody typed, in our form; what is no address is only lowered, so that it compares at all."""
    cleaned = clean([Identifier("email", text)]).identifiers.items
    return cleaned[0].value if cleaned else text.strip().lower()
