"""Open requests whose systems the settings do not have: renamed, removed, or left out of this file."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from orchestrator.saga.escalations import SYSTEM_MISSING
from orchestrator.saga.events import SystemsMissing
from orchestrator.saga.model import Saga
from orchestrator.saga.steps import is_unknown
from orchestrator.store import Store

_logger = logging.getLogger(__name__)

_OPEN: Final = ("awaiting_verification", "in_progress", "closing")
_PAGE: Final = 500


def with_missing_systems(store: Store, configured: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return, by request, the systems that it still waits for and that are not `configured`; none of them
    where only a question about one that is back is still open.
    """
    found: dict[str, tuple[str, ...]] = {}
    for saga in open_requests(store):
        missing = tuple(
            step.system
            for step in saga.steps
            if not step.is_ended and not is_unknown(step) and step.system not in configured
        )
        asked = {one.system for one in saga.escalations if one.reason == SYSTEM_MISSING}
        if missing or asked:
            found[saga.request_id] = missing
    return found


def ask_about_missing(
    store: Store,
    configured: Collection[str],
    ask: Callable[[Collection[str], Callable[[Saga], SystemsMissing]], object],
) -> int:
    """Name the systems that are missing and have each open request that waits for some asked about; return
    how many.
    """
    concerned = with_missing_systems(store, configured)
    names = sorted({name for missing in concerned.values() for name in missing})
    if names:
        _logger.warning("systems_missing", extra={"systems": names, "count": len(concerned)})
    ask(
        concerned,
        lambda saga: SystemsMissing(
            event_id=f"systems/{saga.version}",
            request_id=saga.request_id,
            missing=concerned[saga.request_id],
        ),
    )
    return len(concerned)


def open_requests(store: Store) -> Iterator[Saga]:
    """Yield every request that is open and can be read, a page at a time."""
    offset = 0
    while True:
        broken: list[str] = []
        page = store.sagas(_OPEN, limit=_PAGE, offset=offset, broken=broken)
        yield from page
        if len(page) + len(broken) < _PAGE:
            return
        offset += _PAGE


def batched(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the ids in parts of up to `size`."""
    rest = iter(ids)
    while part := list(islice(rest, size)):
        yield part
