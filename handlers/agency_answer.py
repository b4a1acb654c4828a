"""What an agency says on the page that its mail links to.

The form has `answer` (erased, nothing_held, retained, refused) and, for the last two, `legal_basis`,
`retained_until` (a date) and `reason`. What people type can name a person, so of `legal_basis` and `reason`
only a token gets through.
"""

import re
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs

from handlers.port import Refused
from handlers.results import PartyAbsent, PartyErased, PartyRefused, Result, Retained
from handlers.times import from_datetime

_TOKEN = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_MANY_DIGITS = re.compile(r"(?:\d[_.-]*){6}")
_LONGEST = 20_000


def read_answer(form: bytes, *, prove_at: int | None) -> Result:
    """The result that the form states; `prove_at` is when we look ourselves, None if we can't. Raises
    Refused.
    """
    if len(form) > _LONGEST:
        raise Refused("malformed")
    try:
        fields = parse_qs(form.decode("utf-8"), max_num_fields=50)
    except ValueError:
        raise Refused("malformed") from None
    match _only(fields, "answer"):
        case "erased":
            return PartyErased(prove_at=prove_at)
        case "nothing_held":
            return PartyAbsent()
        case "retained":
            basis = token(_only(fields, "legal_basis"))
            if basis is None:
                raise Refused("legal_basis_missing")
            return Retained(legal_basis=basis, retained_until=_end_of_day(_only(fields, "retained_until")))
        case "refused":
            return PartyRefused(code=token(_only(fields, "reason")) or "party_refused")
        case _:
            raise Refused("answer_unknown")


def token(text: str) -> str | None:
    """The text as a token, "GDPR Art. 17(3)(b)" as gdpr_art._17_3_b; None for what is longer or could be
    personal.
    """
    made = re.sub(r"[^a-z0-9_.-]+", "_", text.strip().lower()).strip("_.-")
    # Neither an address nor a number may get through: no "at" sign survives, and six digits in a row don't,
    # either.
    if "@" in text or _MANY_DIGITS.search(made) or _TOKEN.fullmatch(made) is None:
        return None
    return made


def _only(fields: dict[str, list[str]], name: str) -> str:
    values = fields.get(name, [""])
    if len(values) != 1:
        raise Refused("malformed")
    return values[0].strip()


def _end_of_day(text: str) -> int | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        following = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Refused("retained_until_malformed") from None
    return max(0, from_datetime(following) - 1)
