"""The store: one SQL database that holds the truth."""

from orchestrator.store.clock import SteadyClock
from orchestrator.store.engine import database_name, open_engine
from orchestrator.store.errors import BrokenDocument, StoreError, StoreUnavailable, StoreUnusable
from orchestrator.store.generations import (
    GenerationDiffers,
    GenerationGone,
    GenerationMissing,
    KeyringForeign,
    KnownGeneration,
    KnownGenerations,
)
from orchestrator.store.housekeeping import (
    destroy_orphans,
    forget_subjects,
    orphans,
    purge_inbox,
    purge_requests,
    restamp,
)
from orchestrator.store.installation import DatabaseGone, Installations
from orchestrator.store.keys import Rewrapped, StoredKeys
from orchestrator.store.opendsr import Asked, AskedRequests, Listener
from orchestrator.store.place import Occupation, file_of, watched
from orchestrator.store.seen import Seen, SeenTimes
from orchestrator.store.sent import SentMails, StoredSent
from orchestrator.store.store import Figures, Store, TimelineCheck
from orchestrator.store.topics import TopicNotes
from orchestrator.store.transaction import KEY_LOST, TAKEN, Correlation, Filed, Outgoing, Transaction

__all__ = [
    "KEY_LOST",
    "TAKEN",
    "Asked",
    "AskedRequests",
    "BrokenDocument",
    "Correlation",
    "DatabaseGone",
    "Figures",
    "Filed",
    "GenerationDiffers",
    "GenerationGone",
    "GenerationMissing",
    "Installations",
    "KeyringForeign",
    "KnownGeneration",
    "KnownGenerations",
    "Listener",
    "Occupation",
    "Outgoing",
    "Rewrapped",
    "Seen",
    "SeenTimes",
    "SentMails",
    "SteadyClock",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoreUnusable",
    "StoredKeys",
    "StoredSent",
    "TimelineCheck",
    "TopicNotes",
    "Transaction",
    "database_name",
    "destroy_orphans",
    "file_of",
    "forget_subjects",
    "open_engine",
    "orphans",
    "purge_inbox",
    "purge_requests",
    "restamp",
    "watched",
]
