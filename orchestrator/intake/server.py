"""Serves the application in a thread, and stops cleanly.

The socket is opened by the caller's thread, so that a port that is taken is an error where it can be told.
There is no access log: paths hold tokens.
"""

import socket
import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from orchestrator.intake.errors import CannotListen
from orchestrator.intake.tls import CertificateProtocol, Tls


class Server:
    """An HTTP server in a thread of its own; `port` is the one it got, also when it was asked for any (0).

    With `tls` it speaks TLS. `section` is where the settings have the address.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, tls: Tls | None = None, section: str = "http"
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise CannotListen(
                f"can't listen on {host} port {port} ({error.strerror}): free it, or set [{section}]"
            ) from None
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http="auto" if tls is None else CertificateProtocol,
            access_log=False,
            log_config=None,
            lifespan="off",
            limit_concurrency=200,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=5,
        )
        if tls is not None:
            config.load()
            config.ssl = tls.context
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="radera-http", daemon=True
        )

    def start(self, timeout: float = 10.0) -> None:
        """Returns when requests are answered."""
        self._thread.start()
        until = time.monotonic() + timeout
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise CannotListen(f"the HTTP server on port {self.port} did not start")
            time.sleep(0.01)

    @property
    def is_serving(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and self._server.started and not self._server.should_exit

    def begin_stop(self) -> None:
        """Takes no more in; returns at once."""
        self._server.should_exit = True

    def stop(self, timeout: float = 5.0) -> bool:
        """Lets requests in hand finish, for a few seconds; whether it ended."""
        self.begin_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        self._socket.close()
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
