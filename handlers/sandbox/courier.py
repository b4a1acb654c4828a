"""Carries what the stand-ins say to the world: webhooks, callbacks, agencies' answers.

Each is handed to `deliver(method, url, body, headers) -> status`. A status of 5xx, 429 or an exception
is tried again, `RETRY` later, then twice that and so on, `ATTEMPTS` times in all. Any other status is
the end of it and stands in the ledger. A delivery can repeat if the process dies between it and its
note, which the receiver has to bear from real vendors, too. What is signed with its time (HubSpot) is signed
anew for each try.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping

import httpx

from handlers.sandbox.signing import hubspot_headers
from handlers.sandbox.store import Row, Store

Deliver = Callable[[str, str, bytes, Mapping[str, str]], Awaitable[int]]
RETRY = 60_000_000
ATTEMPTS = 7


class Courier:
    def __init__(self, store: Store, lock: threading.RLock, clock: Callable[[], int]) -> None:
        self._store = store
        self._lock = lock
        self._clock = clock

    async def send(self, deliver: Deliver, job: Row) -> bool:
        """Makes one delivery; False when it has to be tried again, or was given up."""
        status = 0
        finished = False
        try:
            body, headers = job["body"].encode(), dict(job["headers"])
            if "hubspot_secret" in job:
                headers |= hubspot_headers(job["hubspot_secret"], job["url"], body, self._clock())
            status = await deliver(job.get("method", "POST"), job["url"], body, headers)
            finished = True
        except (httpx.HTTPError, OSError, TimeoutError):
            finished = True
        finally:
            if not finished:  # cancelled, or a fault of the receiver's own: the job keeps its place
                with self._lock:
                    self._store.put("jobs", str(job["id"]), job)
        with self._lock:
            return self._note(job, status)

    def _note(self, job: Row, status: int) -> bool:
        now = self._clock()
        self._store.done(job)
        again = status == 0 or status == 429 or status >= 500
        attempts = job["attempts"] + 1
        if again and attempts < ATTEMPTS:
            due_at = now + RETRY * 2 ** (attempts - 1)
            self._store.put("jobs", str(job["id"]), {**job, "attempts": attempts, "due_at": due_at})
        effect = f"{'failed_to_say' if again else 'said'}_{job['said']}"
        said = {"record": job["record"], "status": status, "repeated": job["attempts"] > 0}
        self._store.note(now, job["vendor"], job["account"], effect, **said)
        self._store.commit()
        return not again
