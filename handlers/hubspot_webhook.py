"""HubSpot's webhooks: whether one is genuine (signature version 3), and which contacts it says were deleted.

* The signature is over the method, the address, the body and the time of sending. The address is the one that
  HubSpot was given, not the one that a proxy of ours passed on, so it is taken from the settings.
* The time must be within five minutes of when the webhook came in; when it is read doesn't matter, since the
  worker may have been away.
* A batch holds events of all accounts that the app is installed in. Those of other accounts are passed over.

Source: HubSpot, "Validating requests", v3.
"""

import base64
import hmac
import json
from typing import Final

from handlers.port import CallbackBody, Refused

SIGNATURE: Final = "X-HubSpot-Signature-v3"
TIMESTAMP: Final = "X-HubSpot-Request-Timestamp"
DELETION: Final = "contact.privacyDeletion"
_WINDOW: Final = 5 * 60 * 1_000_000
_MOST: Final = 1000


def is_genuine(secret: str, url: str, callback: CallbackBody) -> bool:
    """Whether HubSpot sent this to `url`, just before it came in."""
    timestamp = callback.header(TIMESTAMP)
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > 15:
        return False
    if abs(callback.received_at - int(timestamp) * 1000) > _WINDOW:
        return False
    signed = f"POST{url}".encode() + callback.body + timestamp.encode()
    expected = base64.b64encode(hmac.digest(secret.encode(), signed, "sha256"))
    return hmac.compare_digest(expected, callback.header(SIGNATURE).encode("utf-8", "replace"))


def deleted_contacts(body: bytes, portal: int) -> list[str]:
    """The ids of the account's contacts that were deleted, each once. Raises Refused."""
    try:
        events = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("malformed") from None
    if not isinstance(events, list) or len(events) > _MOST or not all(isinstance(e, dict) for e in events):
        raise Refused("malformed")
    mine = [event for event in events if event.get("portalId") == portal]
    if events and not mine:
        raise Refused("wrong_account")
    ids = [event.get("objectId") for event in mine if event.get("subscriptionType") == DELETION]
    return [str(one) for one in dict.fromkeys(ids) if isinstance(one, int) and not isinstance(one, bool)]
