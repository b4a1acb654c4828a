"""Which Kafka and which PostgreSQL the tests use, where several could be had, and what becomes of the tests
where there is none.

The engine is a stand-in: testcontainers and the Docker client are real, the containers are not.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci import cannot_run, under_ci
from tests.integration import containers, kafka_server, keepers, postgresql_server
from tests.integration.docker_stand_in import Engine, answering, engine
from tests.integration.kafka_server import CannotStart
from tests.integration.postgresql_server import NoServer

KINDS = ("kafka", "postgresql")


class Machine:
    """One on which nothing can be had, unless a test says so."""

    def __init__(self, kind: str, folder: Path, patch: pytest.MonkeyPatch, process: int) -> None:
        self._kind, self._folder, self._patch = kind, folder, patch
        for name in (kafka_server.NAMED, postgresql_server.NAMED, "DOCKER_HOST"):
            patch.delenv(name, raising=False)
        patch.setenv("PATH", str(folder))
        patch.setattr(containers, "PLACES", (folder / "docker.sock",))
        patch.setattr(keepers, "owner", lambda: process)
        patch.setattr(tempfile, "tempdir", str(folder))

    def names(self, port: int) -> None:
        """A server is named in the environment."""
        if self._kind == "kafka":
            self._patch.setenv(kafka_server.NAMED, f"127.0.0.1:{port}")
        else:
            self._patch.setenv(postgresql_server.NAMED, f"postgresql+psycopg://postgres@127.0.0.1:{port}/it")

    def has_engine(self, made: Engine) -> None:
        self._patch.setenv("DOCKER_HOST", made.address)

    def has_programs(self, port: int) -> None:
        """The server can be started on the machine itself, and listens there."""
        if self._kind == "kafka":
            found = kafka_server.Server(f"127.0.0.1:{port}", 3.0)
            self._patch.setattr(kafka_server, "_of_this_machine", lambda *_: found)
            return
        kept, url = postgresql_server._kept, postgresql_server._url(port).render_as_string()
        self._patch.setattr(
            postgresql_server, "_kept", lambda place, where: url if where == "here" else kept(place, where)
        )

    def has_no_programs(self) -> None:
        if self._kind == "postgresql":
            # The keeper looks for them by itself, and would find those that are here.
            kept = postgresql_server._kept

            def none(place: Path, where: str) -> str:
                if where == "here":
                    raise keepers.Ended("there are no programs of its server here")
                return kept(place, where)

            self._patch.setattr(postgresql_server, "_kept", none)

    def chosen(self) -> int:
        """The port of what the tests would use."""
        if self._kind == "kafka":
            return int(kafka_server.shared_server(self._folder).address.rpartition(":")[2])
        return int(postgresql_server.shared_server().port or 0)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """The test run, as far as keepers know."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as run:
        yield run
        run.kill()


@pytest.fixture(params=KINDS)
def machine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    process: subprocess.Popen[bytes],
) -> Machine:
    return Machine(request.param, tmp_path, monkeypatch, process.pid)


def test_one_that_is_named_is_used_before_all_others(machine: Machine) -> None:
    """Whoever names a server means it: no engine is asked, nothing is started."""
    with engine() as docker, answering() as named, answering() as here:
        machine.names(named)
        machine.has_engine(docker)
        machine.has_programs(here)

        assert named == machine.chosen()
        assert [] == docker.asked


def test_a_container_is_used_before_the_programs_of_the_machine(
    machine: Machine, process: subprocess.Popen[bytes]
) -> None:
    """It runs our image alone, on loopback alone, is used by the next that asks, too, and is removed with the
    run that it was started for, though nobody is left to do it.
    """
    with engine() as docker, answering() as here:
        machine.has_engine(docker)
        machine.has_programs(here)
        port = machine.chosen()

        assert port == machine.chosen() != here
        (made,) = docker.made
        assert made["Image"] in (kafka_server.IMAGE, postgresql_server.RECIPE.image)
        assert [[{"HostIp": "127.0.0.1", "HostPort": str(port)}]] == list(
            made["HostConfig"]["PortBindings"].values()
        )
        if made["Image"] == kafka_server.IMAGE:
            assert f"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:{port}" in made["Env"]
        else:
            assert ["-c", "max_connections=200"] == made["Cmd"]
        process.kill()
        process.wait()
        assert docker.removed.wait(20)
        assert 0 == keepers._begun[-1].wait(20)


def test_an_engine_that_fails_leads_to_the_programs_and_says_so(machine: Machine) -> None:
    """No disk, no right, no image: the tests run all the same, and nobody takes it for a container's."""
    with engine() as docker, answering() as here:
        docker.refuses = "no space left on device"
        machine.has_engine(docker)
        machine.has_programs(here)

        with pytest.warns(UserWarning, match="no container, .*no space left on device"):
            assert here == machine.chosen()


def test_without_an_engine_the_programs_are_used_and_nothing_of_docker_is_loaded(machine: Machine) -> None:
    """As on a machine that never had it: no warning, and no time for what isn't used."""
    with answering() as here:
        machine.has_programs(here)

        assert here == machine.chosen()
    assert set() == {"docker", "testcontainers"} & set(sys.modules)


def test_without_any_it_is_said_what_would_do(machine: Machine) -> None:
    """Which of them are missing is what the skipped test shows."""
    machine.has_no_programs()

    with pytest.raises((CannotStart, NoServer)) as raised:
        machine.chosen()
    assert "install" in str(raised.value) or "no programs" in str(raised.value)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, False),
        ("", False),
        ("0", False),
        ("false", False),
        ("False", False),
        ("true", True),
        ("1", True),
        ("woodpecker", True),
    ],
)
def test_what_cannot_run_is_skipped_at_home_and_fails_under_ci(
    said: str | None, meant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However CI is said: a test that silently skips there would pass for one that was run."""
    monkeypatch.delenv("CI", raising=False)
    if said is not None:
        monkeypatch.setenv("CI", said)

    assert meant == under_ci()
    with pytest.raises(pytest.fail.Exception if meant else pytest.skip.Exception, match="no server"):
        cannot_run("no server")
