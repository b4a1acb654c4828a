"""What every handler has in common: being found, its settings, its answers, and the dates of the law."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from handlers import registry
from handlers.port import Reference, pack_references, unpack_references
from handlers.registry import HandlerSettings
from handlers.results import Asking, Result
from handlers.retention import end_of_bookkeeping_duty
from handlers.times import from_iso, to_iso
from orchestrator.settings.meaning import meanings

KINDS = {"superoffice", "hubspot", "google_analytics", "recruitment", "tenant"}


def at(year: int, month: int, day: int, *rest: int) -> int:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    hour, minute, second, micros = (*rest, 0, 0, 0, 0)[:4]
    moment = datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)
    return (moment - epoch) // timedelta(microseconds=1)


def test_every_kind_is_found_with_its_settings_and_verbs() -> None:
    """The five kinds have a class that says so itself, a model of settings, and the four verbs."""
    found = registry.find()
    assert set(found) >= KINDS
    for kind in KINDS:
        handler = found[kind]
        assert kind == handler.kind
        assert issubclass(registry.settings_models()[kind], HandlerSettings)
        assert all(callable(getattr(handler, verb)) for verb in ("locate", "erase", "prove", "receive"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_setting_is_described_and_no_secret_is_taken_in_clear(kind: str) -> None:
    """The reference is made from the descriptions; a token written into the file is refused unquoted."""
    model = registry.settings_models()[kind]
    assert [] == [name for name in model.model_fields if not meanings(model).get(name)]
    secrets = [name for name, field in model.model_fields.items() if "SecretRef" in str(field.annotation)]
    assert secrets
    with pytest.raises(ValidationError) as caught:
        model.model_validate(dict.fromkeys(secrets, "pat-eu1-secret"))
    assert "pat-eu1-secret" not in str(caught.value)


def test_every_result_answers_some_verb() -> None:
    """A kind of result that answers nothing could never be said."""
    every = (*Result.__subclasses__(), *Asking.__subclasses__())
    # What the two questions share is no result by itself.
    results = [one for one in every if one.__name__ != Asking.__name__]
    assert results
    assert [] == [one.__name__ for one in results if not one.answers]


def test_references_survive_the_way_there_and_back() -> None:
    """Kinds, ids, times and marks; later mentions of one record add their marks."""
    first = Reference(kind="person", id="17", created_at=5, marks=("a",))
    second = Reference(kind="ticket", id="17")
    packed = pack_references((first, second))
    assert (first, second) == unpack_references(packed)
    again = pack_references((Reference(kind="person", id="17", created_at=5, marks=("b",)),))
    merged = unpack_references(packed, again)
    assert {"a", "b"} == set(merged[0].marks)
    assert 2 == len(merged)


@pytest.mark.parametrize(
    ("sold_at", "year_end", "kept_until"),
    [
        (at(2026, 9, 1), (12, 31), at(2034, 1, 1) - 1),
        (at(2026, 12, 31, 23, 59), (12, 31), at(2034, 1, 1) - 1),
        (at(2026, 4, 30), (4, 30), at(2034, 1, 1) - 1),
        (at(2026, 5, 1), (4, 30), at(2035, 1, 1) - 1),
        (at(2025, 2, 28), (2, 29), at(2033, 1, 1) - 1),
        (at(2028, 2, 29), (2, 29), at(2036, 1, 1) - 1),
    ],
)
def test_bookkeeping_material_is_kept_to_the_end_of_the_seventh_year(
    sold_at: int, year_end: tuple[int, int], kept_until: int
) -> None:
    """Counted from the calendar year in which the fiscal year ended (Bokföringslagen 7:2)."""
    assert kept_until == end_of_bookkeeping_duty(sold_at, *year_end)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-09-01T00:00:00Z", at(2026, 9, 1)),
        ("2026-09-01T02:00:00+02:00", at(2026, 9, 1)),
        ("2026-09-01T00:00:00", at(2026, 9, 1)),
        ("2018-04-24T08:01:15.8506935Z", at(2018, 4, 24, 8, 1, 15, 850693)),
        ("2026-09-01T00:00:00.5Z", at(2026, 9, 1, 0, 0, 0, 500000)),
        ("", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00", None),
        (None, None),
        (5, None),
    ],
)
def test_vendors_times_are_read_and_anything_else_is_no_time(given: object, expected: int | None) -> None:
    """With or without a zone, with seven digits of a second; before 1970 means "none" at some vendors."""
    assert expected == from_iso(given)


def test_times_are_written_in_utc_to_the_second() -> None:
    """As RFC 3339 has them."""
    assert "2026-09-01T00:00:00Z" == to_iso(at(2026, 9, 1))
