"""Watches everything that an installation leaves behind while it runs, and looks for canaries in it."""

import contextlib
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.integration.canaries import Found, Search
from tests.integration.processes import contents

_PAGE = 4096
_OVERLAP = 256
_EVERY = 0.25
# Nothing here is TLS; but without it, each call would read all the certificates that the world trusts.
_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Watch:
    """Looks again and again, in a thread, until it is left; `found` is what got out.

    Files are read whole, and what was not there at the last look is searched. So nothing that stood on the
    disk for longer than a look takes is missed, though the log that it stood in was cut since.
    """

    def __init__(
        self, search: Search, *, folders: Iterable[Path], but: Iterable[Path], port: int, marked: str
    ) -> None:
        self.found: list[Found] = []
        self.looks = 0
        self._search = search
        self._folders = tuple(folders)
        self._but = tuple(but)
        self._port = port
        self._marked = marked.encode()
        self._known: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """One look at everything."""
        for folder in self._folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not any(path.is_relative_to(one) for one in self._but):
                    self.take(f"file {path.name}", contents(path))
        self._look_at_processes()
        self._look_at_metrics()
        self.looks += 1

    def take(self, where: str, data: bytes) -> None:
        """Searches what is new in `data`."""
        fresh = []
        for start in range(0, len(data), _PAGE):
            window = data[start : start + _PAGE + _OVERLAP]
            mark = hash(window)
            if mark not in self._known:
                self._known.add(mark)
                fresh.append(window)
        if fresh:
            self.found += self._search.look(where, b"\0\0\0\0".join(fresh))

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            self.look()

    def _look_at_processes(self) -> None:
        """What `ps` shows of our processes to every user of the machine, and to their own user."""
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                if self._marked in line:
                    self.take("a command line", line)
                    self.take("an environment", (folder / "environ").read_bytes())

    def _look_at_metrics(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(
                f"http://127.0.0.1:{self._port}/metrics", trust_env=False, timeout=5.0, verify=_NOBODY
            )
            self.take("/metrics", answer.content)
