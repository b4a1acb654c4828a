"""Everything that touches a person's identifiers: their form, how they are sealed, and the keys."""

from orchestrator.privacy.digest import Digests
from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.exchange import Exchange, PublicKey, PublicKeyUnreadable
from orchestrator.privacy.guard import find_personal, finder, looks_personal
from orchestrator.privacy.identifiers import (
    KINDS,
    Cleaned,
    Identifier,
    Identifiers,
    IdentifiersBroken,
    Kind,
    clean,
)
from orchestrator.privacy.keyfile import (
    Generation,
    KeyFileBroken,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMissing,
    KeyFileUnreadable,
)
from orchestrator.privacy.keyring import (
    GenerationForgotten,
    GenerationInUse,
    GenerationLost,
    GenerationUnknown,
    Keyring,
    KeysElsewhere,
    KeysGivenBroken,
    KeysTwice,
    Wrapped,
)
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown, RequestKeys
from orchestrator.privacy.links import InvalidLink, Link, PartyLinks
from orchestrator.privacy.sealing import (
    CALLBACK_BODY,
    IDENTIFIERS,
    REFERENCES,
    SealBroken,
    new_key,
    seal,
    unseal,
)

__all__ = [
    "CALLBACK_BODY",
    "IDENTIFIERS",
    "KINDS",
    "REFERENCES",
    "Cleaned",
    "Digests",
    "Exchange",
    "Generation",
    "GenerationForgotten",
    "GenerationInUse",
    "GenerationLost",
    "GenerationUnknown",
    "Identifier",
    "Identifiers",
    "IdentifiersBroken",
    "InvalidLink",
    "KeyDestroyed",
    "KeyFileBroken",
    "KeyFileExists",
    "KeyFileExposed",
    "KeyFileMissing",
    "KeyFileUnreadable",
    "KeyUnknown",
    "Keyring",
    "KeysElsewhere",
    "KeysGivenBroken",
    "KeysTwice",
    "Kind",
    "Link",
    "PartyLinks",
    "PrivacyError",
    "PublicKey",
    "PublicKeyUnreadable",
    "RequestKeys",
    "SealBroken",
    "Wrapped",
    "clean",
    "find_personal",
    "finder",
    "looks_personal",
    "new_key",
    "seal",
    "unseal",
]
