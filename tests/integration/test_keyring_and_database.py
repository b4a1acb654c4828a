"""The keyring and the database know each other: nothing works with a keyring that is not the database's."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from orchestrator.cli import up
from orchestrator.cli.roles import Role, Roles
from orchestrator.privacy import Keyring
from orchestrator.store import GenerationDiffers, GenerationGone, GenerationMissing, KeyringForeign
from orchestrator.store.tables import installation as installation_table
from orchestrator.store.tables import key_generations, subject_keys
from tests.integration.installation import PERSON, START, Installation, installed

#: What opens the keyring and takes requests in, or hands out what they are sealed to.
OPENING = (["submit", "--email", PERSON], ["keys", "public"], ["keys", "rotate"], ["keys", "rewrap"])


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def keyring_of(installation: Installation) -> Path:
    return installation.file.parent / "radera.keys"


def waiting(installation: Installation) -> str:
    """A request that is open."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    return request_id


def started(installation: Installation) -> None:
    """What `radera up` does before it begins."""
    installation.restart()
    installation.ground.generations.take()


def known(installation: Installation) -> set[int]:
    with installation.ground.engine.connect() as connection:
        return set(connection.execute(sa.select(key_generations.c.number)).scalars())


def foreign(path: Path) -> None:
    """Another installation's keyring, in the place of this one's."""
    path.unlink()
    Keyring.create(path, START)


def test_an_older_keyring_starts_nothing(installation: Installation) -> None:
    """A keyring from before the last rotation was put back: whatever opens it says which generation is
    missing, since when, and what to put back. Nothing is made or taken in, and the right one goes on.
    """
    keys = keyring_of(installation)
    older = keys.read_bytes()
    started(installation)
    assert 0 == installation.cli("keys", "rotate").exit_code
    started(installation)
    request_id = waiting(installation)
    newest = installation.ground.keyring.current.number
    latest = keys.read_bytes()
    keys.write_bytes(older)

    with pytest.raises(GenerationMissing, match=f"generation {newest}, first used on 2026-08-31"):
        installation.restart()
    for arguments in OPENING:
        result = installation.cli(*arguments)
        assert (1, True) == (result.exit_code, "put back the latest keyring" in result.stderr), arguments
    assert older == keys.read_bytes()

    keys.write_bytes(latest)
    started(installation)
    assert installation.ground.keys.key_of(request_id)
    assert 1 == len(installation.sagas())


def test_a_foreign_keyring_starts_nothing(installation: Installation) -> None:
    """Also while no request is open."""
    started(installation)
    numbers = sorted(known(installation))
    foreign(keyring_of(installation))
    with pytest.raises(KeyringForeign, match=f"{numbers[0]}"):
        installation.restart()
    for arguments in OPENING:
        assert 1 == installation.cli(*arguments).exit_code


def test_another_key_under_the_same_number_starts_nothing(installation: Installation) -> None:
    """Numbers from elsewhere say nothing: an installation that begins anew counts from 1 again."""
    waiting(installation)
    started(installation)
    document = json.loads(keyring_of(installation).read_bytes())
    document["generations"][0]["key"] = document["digest_key"]
    keyring_of(installation).write_text(json.dumps(document))
    with pytest.raises(GenerationDiffers, match="another key"):
        installation.restart()


def test_a_key_that_the_database_has_no_digest_of_is_tried(installation: Installation) -> None:
    """A database of an earlier version knows no digests; a keyring that opens none of its keys isn't its."""
    waiting(installation)
    document = json.loads(keyring_of(installation).read_bytes())
    right = keyring_of(installation).read_bytes()
    document["generations"][0]["key"] = document["digest_key"]
    keyring_of(installation).write_text(json.dumps(document))
    with pytest.raises(GenerationDiffers, match="since an unknown day"):
        installation.restart()
    keyring_of(installation).write_bytes(right)
    started(installation)
    assert 1 == len(known(installation))


def test_digests_are_taken_only_when_every_open_key_opens(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says either."""
    broken, _ = waiting(installation), waiting(installation)
    with installation.ground.engine.begin() as connection:
        row = sa.select(subject_keys.c.wrapped).where(subject_keys.c.request_id == broken)
        whole = connection.execute(row).scalar_one()
        damage = sa.update(subject_keys).where(subject_keys.c.request_id == broken)
        connection.execute(damage.values(wrapped=b"\0" * 60))
    caplog.set_level("INFO")
    started(installation)
    assert set() == known(installation)
    assert "generations_not_recorded" in [one.message for one in caplog.records]

    with installation.ground.engine.begin() as connection:
        connection.execute(damage.values(wrapped=whole))
    started(installation)
    assert {installation.ground.keyring.current.number} == known(installation)
    assert "generation_recorded" in [one.message for one in caplog.records]


def test_a_restored_database_learns_of_later_generations(installation: Installation, tmp_path: Path) -> None:
    """The keyring is the latest, the database is older: what it needs is there, and the rest is recorded."""
    request_id = waiting(installation)
    started(installation)
    installation.close()
    shutil.copy(tmp_path / "radera.db", tmp_path / "backup.db")
    added = Keyring.from_file(keyring_of(installation)).rotate(START).number
    shutil.copy(tmp_path / "backup.db", tmp_path / "radera.db")
    started(installation)
    assert installation.ground.keys.key_of(request_id)
    assert added in known(installation)


def test_a_database_from_before_a_generations_end_says_which_rotation_it_misses(
    installation: Installation, tmp_path: Path
) -> None:
    """Its open keys are under a generation that was destroyed since."""
    waiting(installation)
    started(installation)
    keyring = installation.ground.keyring
    first = keyring.current.number
    keyring.rotate(START)
    keyring.forget([first], START)
    with pytest.raises(GenerationGone, match=f"generation {first} was destroyed on 2026-08-31"):
        installation.restart()


def test_a_keyring_that_is_exchanged_under_a_process_makes_it_unready(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness looks again."""
    monkeypatch.setattr("orchestrator.cli.roles._LOOK_AT_KEYS", 0.0)
    monkeypatch.setattr("orchestrator.cli.roles.Server", Mock())  # nobody asks over HTTP here
    waiting(installation)
    started(installation)
    roles = Roles(installation.ground, ["serve"], on_fatal=lambda error: None)
    assert roles.readiness()["keys"]
    foreign(keyring_of(installation))
    assert not roles.readiness()["keys"]


def test_an_installation_of_an_earlier_version_goes_on(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its key file has the first format, and its database knows no digests and no id. `radera up` takes them
    after it has opened every open key, the log says so, and the request can still be read.
    """
    request_id = waiting(installation)
    ids = [one.number for one in installation.ground.keyring.generations]
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.delete(key_generations))
        connection.execute(sa.delete(installation_table))
    document = json.loads(keyring_of(installation).read_bytes())
    kept = {name: document[name] for name in ("digest_key", "generations", "forgotten")}
    keyring_of(installation).write_text(json.dumps({"format": 1, **kept}))
    installation.close()

    def ends(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("orchestrator.cli.up.Roles", ends)
    monkeypatch.setattr("orchestrator.cli.up.log.configure", lambda *_: None)
    caplog.set_level("INFO")
    with pytest.raises(ZeroDivisionError):
        up.run(installation.file)
    [told] = [one for one in caplog.records if one.getMessage() == "generation_recorded"]
    assert (ids, 1) == ([told.__dict__["generation"]], told.__dict__["count"])
    installation._open()
    assert ids == list(known(installation))
    assert installation.ground.keys.key_of(request_id)
    assert installation.ground.installations.id() == installation.ground.keyring.installation


@pytest.mark.parametrize(("names", "takes"), [(("orchestrator",), True), (("worker", "mailbox"), False)])
def test_the_orchestrator_takes_the_digests(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, names: tuple[Role, ...], takes: bool
) -> None:
    """Whoever else starts only looks: it has no right to write them."""

    def ends(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("orchestrator.cli.up.Roles", ends)
    monkeypatch.setattr("orchestrator.cli.up.log.configure", lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        up.run(installation.file, names)
    assert takes == bool(known(installation))
