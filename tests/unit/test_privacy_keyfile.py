"""Of the files beside the key file Radera destroys what it left itself, and nothing else."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.privacy import KeyFileExists, Keyring
from orchestrator.privacy.keyfile import KeyFile

NOW = 1_788_000_000_000_000
REQUEST = "3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90"
KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "radera.keys"


def said(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def format_1(path: Path) -> None:
    """Bring the file into the format of earlier versions."""
    document = said(path) | {"format": 1}
    del document["revision"], document["succeeds"]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["old", "new", "bak", "2026-11-30", "radera-replaced"])
def test_a_file_that_was_moved_aside_stays(path: Path, name: str) -> None:
    """The operator moved the keyring aside and put an older copy back: what was moved has the newest
    generation, and nothing that opens, rotates or forgets takes it away. It is named.
    """
    Keyring.create(path, NOW)
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    newest = Keyring.from_file(path)
    newest.rotate(NOW)
    wrapped = newest.wrap(KEY, REQUEST)
    aside = path.with_name(f"radera.keys.{name}")
    path.rename(aside)
    copy.rename(path)

    keyring = Keyring.from_file(path)
    first = keyring.current.number
    keyring.rotate(NOW)
    keyring.forget([first], NOW)

    assert KEY == Keyring.from_file(aside).unwrap(wrapped, REQUEST)
    assert [aside] == Keyring.from_file(path).beside


def test_each_text_names_those_that_it_succeeds(path: Path) -> None:
    """In their order, the last one right before it."""
    Keyring.create(path, NOW)
    chain = [said(path)["revision"]]
    for _ in range(3):
        Keyring.from_file(path).rotate(NOW)
        assert chain == said(path)["succeeds"]
        chain.append(said(path)["revision"])
    assert 4 == len(set(chain))


def test_the_id_of_the_installation_stays_through_every_change(path: Path) -> None:
    """A file has none at first."""
    first = Keyring.create(path, NOW).current.number
    assert said(path)["installation"] is None
    KeyFile(path).change(lambda material: replace(material, installation="3f1c7a52"))
    keyring = Keyring.from_file(path)
    keyring.rotate(NOW)
    keyring.forget([first], NOW)
    assert "3f1c7a52" == said(path)["installation"] == KeyFile(path).read().installation


def leftover(path: Path, text: bytes, kind: str) -> Path:
    """What a process left that died, under a name of ours."""
    left = path.with_name(f"{path.name}.radera-{'0' * 32}.{kind}")
    left.write_bytes(text)
    return left


@pytest.mark.parametrize("kind", ["new", "replaced"])
def test_what_the_present_text_succeeds_is_destroyed(path: Path, kind: str) -> None:
    """It is overwritten, not only removed."""
    Keyring.create(path, NOW)
    text = path.read_bytes()
    Keyring.from_file(path).rotate(NOW)
    left = leftover(path, text, kind)
    with left.open("rb") as bytes_of:
        Keyring.from_file(path)
        assert set(bytes_of.read()) == {0}
    assert not left.exists()


def test_a_text_that_was_never_in_force_is_destroyed(path: Path) -> None:
    """It was to succeed the present one, and its process died before."""
    Keyring.create(path, NOW)
    present = path.read_bytes()
    Keyring.from_file(path).rotate(NOW)
    left = leftover(path, path.read_bytes(), "new")
    path.write_bytes(present)
    path.chmod(0o600)
    Keyring.from_file(path)
    assert not left.exists()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["new", "replaced"])
def test_a_text_that_was_in_force_outlives_an_older_keyring(path: Path, kind: str, steps: int) -> None:
    """A process died over a change, and an older copy was put back: what it left may be the last that has
    the newest generation, and the present text does not succeed it.
    """
    Keyring.create(path, NOW)
    older = path.read_bytes()
    for _ in range(steps):
        Keyring.from_file(path).rotate(NOW)
    newest = path.read_bytes()
    left = leftover(path, newest, kind)
    path.write_bytes(older)
    path.chmod(0o600)
    Keyring.from_file(path).rotate(NOW)
    if kind == "new" and steps == 1:
        # This one never had the file's own name: it would have lost its own.
        assert not left.exists()
    else:
        assert newest == left.read_bytes()
        assert [left] == Keyring.from_file(path).beside


@pytest.mark.parametrize("text", [b"{", b"not ours at all", b'{"format": 2}'])
def test_what_nobody_can_read_is_left(path: Path, text: bytes) -> None:
    """Nothing proves that it is not needed."""
    Keyring.create(path, NOW)
    left = leftover(path, text, "replaced")
    Keyring.from_file(path).rotate(NOW)
    assert text == left.read_bytes()


@pytest.mark.parametrize("text", [b"", bytes(300), b"\0" + b'"key": "AAAA"'])
def test_what_holds_nothing_or_was_being_destroyed_goes(path: Path, text: bytes) -> None:
    """A process died before it wrote, or while it overwrote."""
    Keyring.create(path, NOW)
    left = leftover(path, text, "replaced")
    Keyring.from_file(path)
    assert not left.exists()


def test_a_file_with_another_name_keeps_its_bytes(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The operator's second link to the file is the operator's copy of it; the log says that it is there."""
    keyring = Keyring.create(path, NOW)
    first = keyring.current
    copy = path.with_name("copy")
    copy.hardlink_to(path)
    keyring.rotate(NOW)
    assert first == Keyring.from_file(copy).current
    assert ["keys_kept_under_another_name"] == [one.message for one in caplog.records]


@pytest.mark.parametrize("name", ["old", "new", "bak"])
def test_no_keyring_is_made_beside_one_that_was_moved_aside(path: Path, name: str) -> None:
    """New keys would open nothing that the old ones sealed."""
    Keyring.create(path, NOW)
    path.rename(path.with_name(f"radera.keys.{name}"))
    with pytest.raises(KeyFileExists, match=f"radera.keys.{name}"):
        Keyring.create(path, NOW)


def test_a_file_of_the_first_format_is_read_and_becomes_one_of_the_second(path: Path) -> None:
    """Its keys stay, and what it was is destroyed with the change."""
    keyring = Keyring.create(path, NOW)
    wrapped = keyring.wrap(KEY, REQUEST)
    format_1(path)
    assert KEY == Keyring.from_file(path).unwrap(wrapped, REQUEST)
    assert 1 == said(path)["format"]
    before = path.read_bytes()

    with path.open("rb") as replaced:
        Keyring.from_file(path).rotate(NOW)
        assert set(replaced.read()) == {0}
    assert (2, 1) == (said(path)["format"], len(said(path)["succeeds"]))
    assert KEY == Keyring.from_file(path).unwrap(wrapped, REQUEST)

    left = leftover(path, before, "replaced")
    Keyring.from_file(path)
    assert not left.exists()


def test_a_key_of_the_first_format_keeps_its_number(path: Path) -> None:
    """Numbers are on the wire, and in every wrapped key."""
    key = base64.b64encode(KEY).decode()
    generations = [{"number": number, "created_at": NOW, "key": key} for number in (1, 2)]
    document = {"format": 1, "digest_key": key, "generations": generations, "forgotten": []}
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    keyring = Keyring.from_file(path)
    added = keyring.rotate(NOW).number
    assert [1, 2, added] == [one.number for one in keyring.generations]
