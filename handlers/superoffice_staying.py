"""What of a person's records stays in SuperOffice, and what is told of it.

Sales are kept as material for bookkeeping (Bokföringslagen 7:2). Appointments, documents and chat sessions
are erased, kept for a reason, or left and reported, as the settings say. What stays is told as it was last
seen: its references are remembered, since nothing leads to it once the person is gone.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

from handlers.port import Reference
from handlers.retention import end_of_bookkeeping_duty
from handlers.superoffice_records import CHAT
from handlers.superoffice_settings import Keep, SuperOfficeSettings

SALE: Final = "sale"
BOOKKEEPING: Final = "bokforingslagen_7_2"


class Staying:
    """What the settings of one tenant let stay."""

    def __init__(self, settings: SuperOfficeSettings) -> None:
        self._settings = settings
        given: dict[str, Literal["report", "erase"] | Keep | None] = {
            "appointment": None if "appointments" in settings.without else settings.appointments,
            "document": None if "documents" in settings.without else settings.documents,
            CHAT: None if settings.chats_archive is None else settings.chats,
        }
        self._fates = {kind: fate for kind, fate in given.items() if fate is not None}

    def stays(self, kind: str) -> bool:
        """Return whether records of the kind are not to be erased."""
        return kind == SALE or self._fates.get(kind, "erase") != "erase"

    def told(self, references: Iterable[Reference]) -> dict[str, str]:
        """Return what stays, and why. A count of 0 is told, too: it replaces what was told before."""
        counts = Counter(reference.kind for reference in references)
        told: dict[str, str] = {}
        for kind, fate in self._fates.items():
            told[f"{kind}s_left"] = str(counts[kind] if fate == "report" else 0)
            if isinstance(fate, Keep):
                told[f"{kind}s_kept"] = str(counts[kind])
                told[f"{kind}s_kept_basis"] = fate.legal_basis
                told[f"{kind}s_kept_reason"] = fate.reason
        if counts[SALE]:
            told["sales_kept"] = str(counts[SALE])
        return told

    def basis(self, references: Iterable[Reference]) -> str | None:
        """Return the law by which any of these is kept; that of bookkeeping first, since it has an end."""
        kinds = [reference.kind for reference in references]
        if SALE in kinds:
            return BOOKKEEPING
        kept = (fate for kind in kinds if isinstance(fate := self._fates.get(kind), Keep))
        return next((fate.legal_basis for fate in kept), None)

    def kept_until(self, references: Iterable[Reference], otherwise: int) -> int | None:
        """Return when the duty to keep the last of the sales ends; None without sales.

        `otherwise` stands for the date of a sale that tells none.
        """
        month, day = (int(part) for part in self._settings.fiscal_year_end.split("-"))
        dates = [
            otherwise if sale.created_at is None else sale.created_at
            for sale in references
            if sale.kind == SALE
        ]
        return max((end_of_bookkeeping_duty(at, month, day) for at in dates), default=None)
