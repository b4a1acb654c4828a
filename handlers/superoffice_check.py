"""Whether an erasure could find everything in a SuperOffice tenant: tried for nobody, before anybody asks.

Each query that a look makes is made once, for an address and a number that nobody has, so that a column or an
archive that is refused is named here and not in a person's request.
"""

from collections.abc import Iterator
from typing import Final

from handlers.checking import Misfit, Note
from handlers.places import PlaceUnreadable
from handlers.port import Permanent
from handlers.superoffice_api import Api, Query
from handlers.superoffice_records import DELETED_CONTACTS, PERSON, Records
from handlers.superoffice_settings import SuperOfficeSettings
from handlers.times import from_zoned, micros

NOBODY: Final = "nobody@radera.invalid"
#: With a quote, which has to be written as the server reads it.
NOBODY_QUOTED: Final = "nobody's@radera.invalid"
#: The largest number that SuperOffice gives.
NO_NUMBER: Final = 2**31 - 1
DAY: Final = 24 * 3600 * 1_000_000


async def ability(api: Api, records: Records) -> Note:
    """Make every query that a look makes. The right to delete shows at the first deletion: nothing tells it
    beforehand.

    Raises:
        Misfit: a query is refused, or answers with rows that it was not asked for.
    """
    for query in _queries(records):
        try:
            rows = [row async for row in api.rows(query)]
        except PlaceUnreadable as error:
            raise Misfit(error.code, f"can't be read: {query}") from None
        except Permanent as error:
            if not error.code.startswith("http_"):
                raise
            raise Misfit("query_refused", f"refused: {query}") from None
        if rows:
            raise Misfit("filter_not_honoured", f"answers with rows of others: {query}")
    persons = records.archives[PERSON]
    try:
        async for _ in api.rows(records.by_address(persons, persons.addresses[0], NOBODY_QUOTED)):
            raise Misfit("filter_not_honoured", "a quote in an address finds others", ("quote_escape",))
    except Permanent as error:
        if not error.code.startswith("http_"):
            raise
        raise Misfit("quote_refused", "a quote in an address is refused", ("quote_escape",)) from None
    return Note("all lists can be read; the right to delete shows at the first deletion")


def _queries(records: Records) -> Iterator[Query]:
    for archive in (*records.archives.values(), *records.bins.values()):
        for column in archive.addresses:
            yield records.by_address(archive, column, NOBODY)
        if archive.by_owner is not None:
            yield records.by_owner(archive, NO_NUMBER)
        yield records.by_key(archive, NO_NUMBER)


async def retention(settings: SuperOfficeSettings, api: Api, records: Records, now: int) -> Note:
    """Compare the oldest row of the recycle bin with `retain_deleted`.

    Raises:
        Misfit: a row lies there longer than the setting says, by more than a day: the purge is a nightly job.
    """
    archive = records.bins[PERSON]
    params = {"$select": "personId,personDeletedDate", "$entities": archive.entities, "$orderBy": archive.key}
    deleted = [
        from_zoned(row.get("personDeletedDate"))
        async for row in api.rows(Query(DELETED_CONTACTS, archive.path, params))
    ]
    known = [at for at in deleted if at is not None]
    oldest = (now - min(known)) if known else 0
    if oldest > micros(settings.retain_deleted) + DAY:
        text = (
            f"a deleted person lies in the recycle bin for {oldest // DAY} days, longer than the setting says"
        )
        raise Misfit("retention_longer", text, ("retain_deleted",))
    told = ""
    if known:
        told = f"; the oldest row in the recycle bin is {oldest // DAY} days old"
    elif deleted:
        told = "; the recycle bin tells no times, so that retain_deleted can't be compared"
    return Note(f"all lists can be read; the right to delete shows at the first deletion{told}")
