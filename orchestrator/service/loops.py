"""How a role runs: step after step, until told to stop, whatever fails around it.

What passes by itself or is put right outside (a locked database, a full disk, a broker away, a key file that
is gone or exposed) is waited out with growing pauses, and the role is not ready for as long. What does not (a
database that is not ours) ends the process with its reason. Anything else is a fault of ours: it is logged
and the role goes on, because one bad record must not stop the rest.
"""

import logging
import threading
import time
from collections.abc import Callable

from orchestrator.bus.port import BusUnavailable
from orchestrator.privacy.errors import PrivacyError
from orchestrator.store import BrokenDocument, StoreUnavailable, StoreUnusable

_logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

#: A role that has not finished a step for this many seconds is not ready.
STALE_AFTER = 30.0

#: One that runs on and began again after a failure is ready after this many seconds: longer than it would
#: take to fail on a locked database.
SETTLED_AFTER = 12.0


class Loop:
    """Runs one role's `step` in a thread of its own.

    `step` is called again and again and waits by itself when there is nothing to do; one that `runs_on`
    ends only at a stop, of which it hears by itself. `close` is called at the end, in the same thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], object],
        *,
        close: Callable[[], object] = lambda: None,
        on_fatal: Callable[[Exception], None],
        runs_on: bool = False,
    ) -> None:
        self.name = name
        self._runs_on = runs_on
        self._step = step
        self._close = close
        self._on_fatal = on_fatal
        self._stop = threading.Event()
        self._alive_at = time.monotonic()
        self._failing = False
        self._began_at = self._alive_at
        self._thread = threading.Thread(target=self._run, name=f"radera-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks the loop to end after the step it is in."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Waits for the end; whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_ready(self) -> bool:
        """Working, and not in trouble."""
        fresh = self._runs_on or time.monotonic() - self._alive_at < STALE_AFTER
        # One that runs on won't come back to say that all is well: it is when it has run for long enough.
        settled = self._runs_on and time.monotonic() - self._began_at > SETTLED_AFTER
        return self._thread.is_alive() and fresh and (settled or not self._failing)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._stop.is_set():
                try:
                    self._began_at = time.monotonic()
                    self._step()
                except BrokenDocument:
                    # One request's, and no reason to stop all of them.
                    self._failing = True
                    _logger.exception("role_failed", extra={"role": self.name})
                except StoreUnusable as error:
                    _logger.error("role_cannot_go_on", extra={"role": self.name})
                    self._failing = True
                    self._on_fatal(error)
                    return
                except (StoreUnavailable, BusUnavailable, PrivacyError) as error:
                    self._failing = True
                    told = {"role": self.name, "code": type(error).__name__, "seconds": pause}
                    reason = error.code if isinstance(error, BusUnavailable) else None
                    _logger.warning("role_waits", extra=told | {"reason": reason})
                except Exception:
                    self._failing = True
                    _logger.exception("role_failed", extra={"role": self.name})
                else:
                    self._failing = False
                    self._alive_at = time.monotonic()
                    pause = _FIRST_PAUSE
                    continue
                self._stop.wait(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
        finally:
            try:
                self._close()
            except Exception:
                _logger.exception("role_failed_at_the_end", extra={"role": self.name})
