"""A PostgreSQL to test on, and an empty database on it for each test that asks.

Where it comes from, the first that there is:

1. `RADERA_TEST_POSTGRESQL`, the URL of one whose user may create databases and roles;
2. a container, if a Docker engine answers;
3. the server's programs on this machine (Debian: `postgresql`), run in a folder of their own on a free port.

Without any of them the tests are skipped, and say so; under CI they fail. Processes that test side by side
share one server. It is started by the first that needs it, in a keeper process that stops it when the test
run is over, however that came to its end. That of this machine sorts text as Swedes do and not by bytes, as
many a server does.

A test that stops its server has one of this machine to itself (`LocalServer`) and can do with nothing else.
"""

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from tests.ci import cannot_run
from tests.integration import containers, keepers

NAMED = "RADERA_TEST_POSTGRESQL"
PATIENCE = 60.0
#: The official image. It listens beyond itself only when it is ready to be used.
RECIPE = containers.Recipe(
    "postgres:17", 5432, {"POSTGRES_HOST_AUTH_METHOD": "trust"}, ("-c", "max_connections=200")
)


class NoServer(Exception):
    """There is no PostgreSQL to be had here."""


class LocalServer:
    """The programs on this machine. The port stays the same when it is started again.

    It does not wait for the disk, unless told so by `fsync`: what a test loses with the machine is no loss.
    """

    def __init__(self, home: Path, *, fsync: str = "off") -> None:
        self._fsync = fsync
        self.programs = _programs()
        # The server refuses to run as root.
        self._user = _servant() if os.geteuid() == 0 else None
        self._data = home / "data"
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        #: Variables of its environment, besides ours.
        self.more: Mapping[str, str] = {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    @property
    def url(self) -> URL:
        return _url(self._port)

    def start(self) -> None:
        """Returns when it answers."""
        if not self._data.exists():
            self._make()
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": self._fsync,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    "-D",
                    self._data,
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **self.more},
                user=self._user,
                group=None if self._user is None else pwd.getpwuid(self._user).pw_gid,
                extra_groups=None if self._user is None else (),
            )
        until = time.monotonic() + PATIENCE
        while not answers(self.url):
            if self._process.poll() is not None or time.monotonic() > until:
                raise NoServer(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: whoever is connected is cut off, and what was committed is recovered at the next start."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: an immediate shutdown
            self._process.wait(PATIENCE)
            self._process = None

    def _make(self) -> None:
        self._data.mkdir(mode=0o700, parents=True)
        version = subprocess.run(
            [self.programs / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        major = int(version.stdout.split()[2].split(".")[0])
        swedish = ["--locale-provider=icu", "--icu-locale=sv-SE"] if major >= 15 else []
        if self._user is not None:
            os.chown(self._data, self._user, -1)
        subprocess.run(
            [
                self.programs / "initdb",
                f"--pgdata={self._data}",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                *swedish,
            ],
            check=True,
            capture_output=True,
            cwd="/",
            user=self._user,
            group=None if self._user is None else pwd.getpwuid(self._user).pw_gid,
            extra_groups=None if self._user is None else (),
        )


def _url(port: int) -> URL:
    return URL.create(
        "postgresql+psycopg", username="postgres", host="127.0.0.1", port=port, database="postgres"
    )


def _programs() -> Path:
    """The folder of the newest server's programs."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name), reverse=True
    )
    for folder in found:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NoServer("there are no programs of its server here: install them (Debian: postgresql)")


def _servant() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise NoServer("PostgreSQL does not run as root, and there is no other user here")


def answers(url: URL) -> bool:
    """Whether a server takes connections there."""
    try:
        connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def connect(url: URL) -> psycopg.Connection:
    """A connection past SQLAlchemy and past our own engine; every statement commits by itself."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=10)


# --- one for all processes of a test run ---


def shared_server() -> URL:
    """The run's server, started if it was not. Raises NoServer."""
    given = os.environ.get(NAMED)
    if given:
        return make_url(given)
    home = Path(tempfile.gettempdir()) / f"radera-postgresql-{keepers.owner()}"
    home.mkdir(mode=0o755, exist_ok=True)
    place = home / "url"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists() and answers(make_url(place.read_text())):
            return make_url(place.read_text())
        try:
            return make_url(containers.first(lambda: _kept(place, "container"), lambda: _kept(place, "here")))
        except keepers.Ended as why:
            shutil.rmtree(home)
            raise NoServer(str(why)) from None


def _kept(place: Path, where: str) -> str:
    return keepers.begin(place, "tests.integration.postgresql_server", where)


def keep_container(place: Path, process: int) -> None:
    """Runs a server in a container for as long as `process` lives. Raises NoContainer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    url = _url(port)
    with containers.running(RECIPE, port, lambda: answers(url)):
        keepers.keep(place, process, url.render_as_string(hide_password=False))
    shutil.rmtree(place.parent)


def keep_here(place: Path, process: int) -> None:
    """Runs a server of this machine for as long as `process` lives. Raises NoServer."""
    server = LocalServer(place.parent)
    try:
        server.start()
        keepers.keep(place, process, server.url.render_as_string(hide_password=False))
    finally:
        server.stop()
    shutil.rmtree(place.parent)


# --- fixtures ---


@pytest.fixture(scope="session")
def postgresql_server() -> URL:
    """The server, as a user who may create databases and roles."""
    try:
        return shared_server()
    except NoServer as why:
        cannot_run(f"no PostgreSQL: name one in {NAMED} (a URL), start Docker, or have it here: {why}")


@contextmanager
def new_database(server: URL) -> Iterator[str]:
    """The URL of an empty database, which is gone afterwards with whoever is still in it."""
    name = f"radera_{uuid4().hex}"
    with connect(server) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with connect(server) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def postgresql_url(postgresql_server: URL) -> Iterator[str]:
    """An empty database."""
    with new_database(postgresql_server) as url:
        yield url


@pytest.fixture
def own_postgresql() -> Iterator[LocalServer]:
    """A server of the test's own, to be stopped and started as it likes."""
    # Not pytest's own folder: the server's user may not pass through it.
    home = Path(tempfile.mkdtemp(prefix="radera-postgresql-"))
    home.chmod(0o755)
    server: LocalServer | None = None
    try:
        server = LocalServer(home)
        server.start()
        yield server
    except NoServer as why:
        cannot_run(f"no PostgreSQL to stop and start: no named one will do, nor a container; {why}")
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    try:
        {"container": keep_container, "here": keep_here}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    except (NoServer, containers.NoContainer) as error:
        sys.exit(str(error))
