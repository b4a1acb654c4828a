"""The port through which workers and the mailbox get a request's key, and nothing else of the store."""

from typing import Protocol

from orchestrator.privacy.errors import PrivacyError


class KeyUnknown(PrivacyError):
    """There is no key of request {request_id}. The message came before its request was recorded, and is tried
    again later; if it lasts, the store and the bus don't belong together."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id=request_id)


class KeyDestroyed(PrivacyError):
    """The key of request {request_id} was destroyed when the request ended. That is as it should be: what was
    sealed with it can't be read by anybody, and there is nothing left to do for the message."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id=request_id)


class RequestKeys(Protocol):
    """Gives the keys of requests that are open."""

    def key_of(self, request_id: str) -> bytes:
        """The request's key. Raises KeyUnknown or KeyDestroyed."""
        ...
