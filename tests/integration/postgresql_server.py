"""A PostgreSQL to test on, and an empty database on it for each test that asks.

Where it comes from, the first that there is:

1. `RADERA_TEST_POSTGRESQL`, the URL of one whose user may create databases and roles;
2. a container, if a Docker engine answers;
3. the server's programs on this machine (Debian: `postgresql`), run in a folder of their own on a free port.

Without any of them the tests are skipped, and say so; under CI they fail. Processes that test side by side
share one server. It is started by the first that needs it, in a keeper process that stops it when the test
run is over, however that came to its end. It sorts text as Swedes do and not by bytes, as many a server does.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

ROOT = Path(__file__).parents[2]
IMAGE = "postgres:17"
PATIENCE = 60.0
# Keepers outlive us, and are not to be missed when they do.
_keepers: list[subprocess.Popen[bytes]] = []


class NoServer(Exception):
    """There is no PostgreSQL to be had here."""


class Server(Protocol):
    """Something that can be started, reached at `url` and stopped."""

    @property
    def url(self) -> URL: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


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
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    @property
    def url(self) -> URL:
        return URL.create(
            "postgresql+psycopg",
            username="postgres",
            host="127.0.0.1",
            port=self._port,
            database="postgres",
        )

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


class Container:
    """A container of the official image."""

    def __init__(self) -> None:
        self._id = ""
        self._port = 0

    @property
    def url(self) -> URL:
        return URL.create(
            "postgresql+psycopg",
            username="postgres",
            host="127.0.0.1",
            port=self._port,
            database="postgres",
        )

    def start(self) -> None:
        trusting = ("--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--publish", "127.0.0.1::5432")
        self._id = _docker("run", "--rm", "--detach", *trusting, IMAGE, "-c", "max_connections=200")
        self._port = int(_docker("port", self._id, "5432/tcp").rpartition(":")[2])
        until = time.monotonic() + PATIENCE
        while not answers(self.url):
            if time.monotonic() > until:
                raise NoServer(f"the container {self._id} does not answer")
            time.sleep(0.2)

    def stop(self) -> None:
        _docker("rm", "--force", self._id)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)  # noqa: S607 - Docker is wherever its user put it
    return done.stdout.strip()


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return 0 == subprocess.run(["docker", "info"], capture_output=True, check=False).returncode  # noqa: S607 - as above


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
    raise NoServer("set RADERA_TEST_POSTGRESQL, start Docker, or install PostgreSQL's server")


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
    given = os.environ.get("RADERA_TEST_POSTGRESQL")
    if given:
        return make_url(given)
    # The process that all of this run's have in common.
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    home = Path(tempfile.gettempdir()) / f"radera-postgresql-{owner}"
    home.mkdir(mode=0o755, exist_ok=True)
    place = home / "url"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists() and answers(make_url(place.read_text())):
            return make_url(place.read_text())
        log = home / "keeper.log"
        with log.open("wb") as output:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.postgresql_server", str(home), str(owner)],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,
            )
        _keepers.append(keeper)
        while not place.exists():
            if keeper.poll() is not None:
                lines = log.read_text().splitlines()
                shutil.rmtree(home)
                raise NoServer(lines[-1] if lines else "the server's keeper ended")
            time.sleep(0.05)
        return make_url(place.read_text())


def keep(home: Path, owner: int) -> None:
    """Runs a server for as long as the process `owner` lives."""
    server: Server = Container() if _engine_answers() else LocalServer(home)
    server.start()
    try:
        written = home / "url.new"
        written.write_text(server.url.render_as_string(hide_password=False))
        written.rename(home / "url")
        while _lives(owner):
            time.sleep(0.5)
    finally:
        server.stop()
        shutil.rmtree(home)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- fixtures ---


def not_here(why: NoServer) -> NoReturn:
    """Skips the test, or fails it where it must not be skipped."""
    if os.environ.get("CI"):
        pytest.fail(str(why))
    pytest.skip(f"no PostgreSQL: {why}")


@pytest.fixture(scope="session")
def postgresql_server() -> URL:
    """The server, as a user who may create databases and roles."""
    try:
        return shared_server()
    except NoServer as why:
        not_here(why)


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
        not_here(why)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]), int(sys.argv[2]))
    except NoServer as error:
        sys.exit(str(error))
