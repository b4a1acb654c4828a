"""Which server the tests use, and the servers in containers, by testcontainers.

The first that there is: one that is named in the environment; a container, if there is a Docker engine; the
server's own programs on this machine. An engine that does not give us one is no reason to give up: the
programs are used then, and a warning says why.

* A container is kept by a process of its own (see `keepers`). So testcontainers' reaper is not needed, which
  is an image more and has to be given the engine.
* Nothing of testcontainers is loaded where there can't be an engine: it takes a third of a second.
* A container is published on loopback alone, since nothing there asks for a password. An engine on another
  machine is therefore of no use.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.integration.keepers import Ended

PATIENCE = 60.0
#: Where an engine listens, or where the client keeps the addresses of others.
PLACES = (Path("/var/run/docker.sock"), Path.home() / ".docker" / "contexts")
HERE = ("localhost", "127.0.0.1", "::1")

T = TypeVar("T")


class NoContainer(Exception):
    """There is an engine, but no container of it that answers; the message says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A container to run: what `docker run` would be told."""

    image: str
    listens: int  # within
    environ: Mapping[str, str]
    words: tuple[str, ...] = ()


def first(contained: Callable[[], T], here: Callable[[], T]) -> T:
    """A container, or what is `here`, which may raise what it likes if it is not."""
    if may_have_an_engine():
        try:
            return contained()
        except Ended as why:
            # By its first words pyproject.toml knows that this warning is no failure.
            warnings.warn(f"no container, so the programs on this machine: {why}", stacklevel=2)
    return here()


def may_have_an_engine() -> bool:
    """Whether it is worth asking: a client without an engine is not."""
    return bool(os.environ.get("DOCKER_HOST")) or any(place.exists() for place in PLACES)


@contextmanager
def running(recipe: Recipe, port: int, answers: Callable[[], bool]) -> Iterator[None]:
    """The container, once it answers; `port` is where it is published. Raises NoContainer."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.ryuk_disabled = True
    told = list(recipe.words) or None
    try:
        container = DockerContainer(recipe.image, command=told, env=dict(recipe.environ))  # type: ignore[arg-type] # a list is what it hands on, and what its with_command takes
        engine = container.get_docker_client().host()
        if engine not in HERE:
            raise NoContainer(f"the Docker engine is not on this machine but at {engine}")
        container.ports[f"{recipe.listens}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment] # what the engine's client takes, to which it is handed on
        try:
            container.start()
            _await(answers, recipe.image)
            yield
        finally:
            container.stop()
    except (DockerException, RequestException) as error:
        raise NoContainer(f"Docker: {' '.join(str(error).split())}") from error


def _await(answers: Callable[[], bool], image: str) -> None:
    until = time.monotonic() + PATIENCE
    while not answers():
        if time.monotonic() > until:
            raise NoContainer(f"a container of {image} does not answer")
        time.sleep(0.2)
