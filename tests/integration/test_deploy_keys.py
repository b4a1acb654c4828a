"""What `deploy/README.md` says about master keys is what works: its commands are run here, in their order."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.privacy import Keyring
from tests.ci import cannot_run
from tests.integration.installation import PERSON, Installation, installed

PAGE = Path(__file__).parents[2] / "deploy" / "README.md"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    for folder in ("etc", "safe", "backups"):
        (tmp_path / folder).mkdir()
    with installed(tmp_path / "etc", monkeypatch) as made:
        made.ground.generations.take()
        yield made


def commands(heading: str) -> list[str]:
    """The lines of the first block of commands below a heading of the page."""
    found = re.search(rf"^### {heading}$.*?^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].splitlines()


def carry_out(installation: Installation, heading: str, **given: str) -> list[str]:
    """Run the commands, with this machine's places; what they print. Each must end well."""
    root = installation.file.parents[1]
    said = []
    for line in commands(heading):
        for name, value in given.items():
            line = line.replace(name, value)
        line = re.sub(r"/(etc/radera|safe|backups)\b", lambda found: f"{root}/{found[1].split('/')[0]}", line)
        command, _, target = line.partition(" > ")
        if command.startswith("radera "):
            result = installation.cli(*shlex.split(command.split(" --config ")[0])[1:])
            assert 0 == result.exit_code, (line, result.output)
            said.append(result.stdout)
            if target:
                Path(target).write_text(result.stdout)
        else:
            if shutil.which(command.split()[0]) is None:
                cannot_run(f"there is no {command.split()[0]} on this machine")
            done = subprocess.run(  # the page's own command
                shlex.split(line), capture_output=True, text=True, check=False
            )
            assert 0 == done.returncode, (line, done.stderr)
    return said


def test_rotating(installation: Installation) -> None:
    """Month after month: there are two generations, and one copy of the keyring, the latest."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    folder = installation.file.parent
    for _ in range(3):
        carry_out(installation, "Rotating them")
        installation.clock.now += 31 * 86_400 * 1_000_000
        assert (folder / "radera.keys").read_bytes() == (folder.parent / "safe/radera.keys").read_bytes()
    assert 2 == len(Keyring.from_file(folder / "radera.keys").generations)
    assert '"generation"' in (folder / "public.json").read_text()
    assert (folder.parent / "backups/radera.db").stat().st_size > 0
    assert installation.ground.keys.key_of(request_id)


def test_putting_the_keyring_back(installation: Installation) -> None:
    """A foreign one had got into its place: it is moved aside, and stays; the copy goes on."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    carry_out(installation, "Rotating them")
    keys = installation.file.parent / "radera.keys"
    keys.unlink()
    Keyring.create(keys, installation.clock())
    foreign = keys.read_bytes()
    assert 1 == installation.cli("keys", "public").exit_code
    carry_out(installation, "Putting the keyring back")
    installation.restart()
    assert installation.ground.keys.key_of(request_id)
    assert foreign == keys.with_name("radera.keys.wrong").read_bytes()


def test_a_master_key_that_is_lost(installation: Installation) -> None:
    """The page's commands lead from an installation that doesn't start to one that asks."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    number = installation.ground.keyring.current.number
    keys = installation.file.parent / "radera.keys"
    keys.unlink()
    Keyring.create(keys, installation.clock())
    carry_out(installation, "When a master key is lost", GENERATION=str(number))
    installation.restart()
    installation.orchestrator.ask_about_lost_keys()
    assert "key_lost" in installation.questions(request_id)
