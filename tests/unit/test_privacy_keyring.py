"""Master keys come and go in generations, survive a death anywhere, and are gone when they are forgotten."""

import base64
import json
import os
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from orchestrator.privacy import (
    GenerationForgotten,
    GenerationInUse,
    GenerationUnknown,
    KeyFileBroken,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMissing,
    KeyFileUnreadable,
    Keyring,
    KeysElsewhere,
    KeysGivenBroken,
    KeysTwice,
    SealBroken,
    Wrapped,
    new_key,
)
from orchestrator.privacy.keyfile import Generation
from orchestrator.secret import SecretRef, SecretUnavailable

REQUEST = "3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90"
OTHER = "00000000-9d8e-4b60-8a11-2f5e6d7c8b90"
KEY = bytes(range(32))
NOW = 1_788_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "radera.keys"


def base64_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def environment(*numbers: int) -> dict[str, str]:
    parts = [f"{number}:{base64_of(bytes([number]) * 32)}" for number in numbers]
    return {"RADERA_MASTER_KEYS": ",".join(parts), "RADERA_DIGEST_KEY": base64_of(KEY)}


def from_environment(environ: dict[str, str]) -> Keyring:
    keyring = Keyring.from_environment(environ)
    assert keyring is not None
    return keyring


# --- wrapping -----------------------------------------------------------------------------------------------


def test_a_wrapped_key_is_unwrapped(path: Path) -> None:
    """By the same keyring, and by one that reads the file later."""
    wrapped = Keyring.create(path, NOW).wrap(KEY, REQUEST)
    assert Keyring.from_file(path).current.number == wrapped.generation
    assert KEY not in wrapped.blob
    assert KEY == Keyring.from_file(path).unwrap(wrapped, REQUEST)


def test_a_wrapped_key_is_for_its_request_and_generation() -> None:
    """A row that was swapped with another's opens nothing, nor does one with another generation's number."""
    keyring = from_environment(environment(1, 2))
    wrapped = keyring.wrap(KEY, REQUEST)
    assert 2 == wrapped.generation
    for broken, request in (
        (wrapped, OTHER),
        (Wrapped(1, wrapped.blob), REQUEST),
        (Wrapped(2, wrapped.blob[:-1]), REQUEST),
        (Wrapped(2, b""), REQUEST),
    ):
        with pytest.raises(SealBroken) as caught:
            keyring.unwrap(broken, request)
        assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_a_generations_number_counts_though_its_key_came_twice() -> None:
    """Somebody has pasted the same key for two generations: what one of them wrapped is not the other's."""
    twice = f"1:{base64_of(KEY)},2:{base64_of(KEY)}"
    keyring = from_environment({**environment(1), "RADERA_MASTER_KEYS": twice})
    with pytest.raises(SealBroken):
        keyring.unwrap(Wrapped(1, keyring.wrap(KEY, REQUEST).blob), REQUEST)


def test_callbacks_are_sealed_to_the_installation() -> None:
    """They open for their purpose only, under whatever generation is named in their header."""
    sealed = from_environment(environment(1)).seal_installation("callback-body", b"anna@example.com")
    later = from_environment(environment(1, 2))
    assert b"\x02\x00\x00\x00\x01" == sealed[:5]
    assert b"anna@example.com" == later.unseal_installation("callback-body", sealed)
    for purpose, broken in (
        ("callback-headers", sealed),
        ("callback-body", sealed[:4] + b"\x02" + sealed[5:]),
        ("callback-body", sealed[:-1]),
        ("callback-body", sealed[5:]),
        ("callback-body", b""),
        ("callback-body", b"\x02\x00\x00\x00\x01"),
    ):
        with pytest.raises(SealBroken):
            later.unseal_installation(purpose, broken)
    with pytest.raises(GenerationUnknown):
        from_environment(environment(2)).unseal_installation("callback-body", sealed)


def test_the_uses_of_one_master_key_are_kept_apart() -> None:
    """What wraps does not seal: a wrapped key given as a callback doesn't open."""
    keyring = from_environment(environment(1))
    wrapped = keyring.wrap(KEY, REQUEST)
    with pytest.raises(SealBroken):
        keyring.unseal_installation("callback-body", b"\x02\x00\x00\x00\x01" + wrapped.blob)
    assert 4 == len({keyring.derived(1, use) for use in ("wrap", "installation", "exchange", "clear")})


# --- generations --------------------------------------------------------------------------------------------


def test_rotating_keeps_the_old_generation_until_it_is_forgotten(path: Path) -> None:
    """The order of a rotation: add, wrap again, forget. At each point every open request's key is there."""
    keyring = Keyring.create(path, NOW)
    old = keyring.wrap(KEY, REQUEST)
    added = keyring.rotate(NOW + 5)
    assert (added.number, NOW + 5) == (keyring.current.number, keyring.current.created_at)
    assert KEY == keyring.unwrap(old, REQUEST)
    new = keyring.wrap(keyring.unwrap(old, REQUEST), REQUEST)
    keyring.forget([old.generation], NOW + 6)
    assert KEY == Keyring.from_file(path).unwrap(new, REQUEST)
    for reader in (keyring, Keyring.from_file(path)):
        with pytest.raises(GenerationForgotten):
            reader.unwrap(old, REQUEST)
        assert [(old.generation, NOW + 6)] == [(one.number, one.forgotten_at) for one in reader.forgotten]


def test_a_forgotten_key_is_in_no_file(path: Path) -> None:
    """Neither under its old name nor in the blocks of the file that was replaced."""
    keyring = Keyring.create(path, NOW)
    first, digest_key = keyring.current, keyring.digest_key
    key = base64_of(first.key)
    keyring.rotate(NOW)
    with path.open("rb") as replaced:
        keyring.forget([first.number], NOW)
        assert set(replaced.read()) == {0}
    assert [path] == list(path.parent.iterdir())
    assert key not in path.read_text()
    assert digest_key == Keyring.from_file(path).digest_key


def test_forgetting_twice_is_forgetting_once(path: Path) -> None:
    """A repeat after a death is safe, and the first date stays."""
    keyring = Keyring.create(path, NOW)
    first = keyring.current.number
    keyring.rotate(NOW)
    keyring.forget([first], NOW)
    keyring.forget([first], NOW + 9)
    assert [(first, NOW)] == [(one.number, one.forgotten_at) for one in keyring.forgotten]


def test_the_current_generation_is_not_forgotten(path: Path) -> None:
    """Nor is anything else, when one of several can't be."""
    keyring = Keyring.create(path, NOW)
    first, second = keyring.current.number, keyring.rotate(NOW).number
    with pytest.raises(GenerationInUse, match=f"generation {second}"):
        keyring.forget([first, second], NOW)
    with pytest.raises(GenerationUnknown, match="generation 7 "):
        keyring.forget([first, 7], NOW)
    assert [first, second] == [one.number for one in keyring.generations]


def test_numbers_are_not_used_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped key names its generation; the number must mean one key for ever, also of those that are
    gone.
    """
    drawn = iter([4, 4, 6, 4, 6, 0])
    monkeypatch.setattr("orchestrator.privacy.keyring.secrets.randbelow", lambda below: next(drawn))
    keyring = Keyring.create(path, NOW)
    assert [5, 7] == [keyring.current.number, keyring.rotate(NOW).number]
    keyring.forget([5], NOW)
    assert 1 == keyring.rotate(NOW).number


def test_an_older_keyring_gives_no_number_to_another_key(path: Path) -> None:
    """Put back and rotated, it makes a generation with a number of its own: both stay what they were."""
    Keyring.create(path, NOW)
    older = path.read_bytes()
    lost = Keyring.from_file(path).rotate(NOW)
    path.write_bytes(older)
    made = Keyring.from_file(path).rotate(NOW)
    assert made.number != lost.number
    assert all(0 < one.number < 2**31 for one in (made, lost))


def test_the_order_is_that_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest generation is current, whatever its number."""
    drawn = iter([900, 500, 700])
    monkeypatch.setattr("orchestrator.privacy.keyring.secrets.randbelow", lambda below: next(drawn))
    Keyring.create(path, NOW)
    for _ in range(2):
        Keyring.from_file(path).rotate(NOW)
    assert [901, 501, 701] == [one.number for one in Keyring.from_file(path).generations]
    assert 701 == Keyring.from_file(path).wrap(KEY, REQUEST).generation


def test_another_process_is_followed(path: Path) -> None:
    """One that rotated or forgot is seen at the next use: nothing is wrapped under what is about to go."""
    first = Keyring.create(path, NOW)
    second = Keyring.from_file(path)
    old = second.wrap(KEY, REQUEST)
    added = first.rotate(NOW)
    assert added.number == second.wrap(KEY, REQUEST).generation
    first.forget([old.generation], NOW)
    with pytest.raises(GenerationForgotten):
        second.unwrap(old, REQUEST)
    assert second.rotate(NOW).number == first.current.number


# --- a death anywhere ---------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for a killed process: nothing after it happens."""


POINTS = (
    (os, "fsync"),
    (os, "write"),
    (os, "fchmod"),
    (Path, "replace"),
    (Path, "hardlink_to"),
    (Path, "unlink"),
)


def dying_at(point: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process die before the given step on the file system; tells how many steps there were."""
    steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps >= point:
                raise Died
            return real(*args, **kwargs)

        return step

    for owner, name in POINTS:
        patch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: steps


def deaths(act: Callable[[Path], object], prepare: Callable[[Path], object], path: Path) -> Iterator[int]:
    """Do it again and again, dying one step later each time, until it gets through."""
    for point in range(1, 100):
        for leftover in path.parent.iterdir():
            leftover.unlink()
        prepare(path)
        with pytest.MonkeyPatch.context() as patch:
            dying_at(point, patch)
            try:
                act(path)
            except Died:
                died = True
            else:
                died = False
        yield point
        if not died:
            assert point > 5
            return
    pytest.fail("it never got through")


def test_a_death_while_creating_leaves_a_whole_file_or_none(path: Path) -> None:
    """And creating can be tried again, unless it had been done."""
    for _ in deaths(lambda path: Keyring.create(path, NOW), lambda path: None, path):
        if path.exists():
            assert 1 == len(Keyring.from_file(path).generations)
        else:
            assert 1 == len(Keyring.create(path, NOW).generations)
        assert [path] == list(path.parent.iterdir())


def test_a_death_while_rotating_loses_no_key(path: Path) -> None:
    """What was wrapped before opens after, whichever generation is then current."""
    wrapped: list[Wrapped] = []

    def prepare(path: Path) -> None:
        wrapped[:] = [Keyring.create(path, NOW).wrap(KEY, REQUEST)]

    for _ in deaths(lambda path: Keyring.from_file(path).rotate(NOW), prepare, path):
        keyring = Keyring.from_file(path)
        assert KEY == keyring.unwrap(wrapped[0], REQUEST)
        assert wrapped[0].generation == keyring.generations[0].number
        assert len(keyring.generations) in (1, 2)
        assert [path] == list(path.parent.iterdir())
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_death_while_forgetting_leaves_no_bytes_behind(path: Path) -> None:
    """Either nothing happened, or the next opening destroys what was left of the key, in the blocks too."""
    gone: list[Generation] = []

    def prepare(path: Path) -> None:
        keyring = Keyring.create(path, NOW)
        gone[:] = [keyring.current]
        keyring.rotate(NOW)

    for _ in deaths(lambda path: Keyring.from_file(path).forget([gone[0].number], NOW), prepare, path):
        with_bytes = [name.open("rb") for name in path.parent.iterdir()]
        keyring = Keyring.from_file(path)
        assert [path] == list(path.parent.iterdir())
        assert gone[0].number != keyring.current.number
        forgotten = [gone[0].number] == [one.number for one in keyring.forgotten]
        for file in with_bytes:
            with file:
                assert not forgotten or base64_of(gone[0].key).encode() not in file.read()


def test_a_file_system_without_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old bytes are then overwritten through the open file."""

    def no_links(self: Path, target: Path) -> NoReturn:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    keyring = Keyring.create(path, NOW)
    first = keyring.current.number
    keyring.rotate(NOW)
    with path.open("rb") as replaced:
        keyring.forget([first], NOW)
        assert set(replaced.read()) == {0}


# --- the file -----------------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    """Whatever the umask says."""
    before = os.umask(0o777)
    try:
        Keyring.create(path, NOW)
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_never_replaced_by_a_new_one(path: Path) -> None:
    """Creating over a keyring would lose every open request."""
    keyring = Keyring.create(path, NOW)
    with pytest.raises(KeyFileExists):
        Keyring.create(path, NOW)
    assert keyring.digest_key == Keyring.from_file(path).digest_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    """The error names the file and the mend."""
    Keyring.create(path, NOW)
    path.chmod(mode)
    with pytest.raises(KeyFileExposed, match=f"chmod 600 {path}"):
        Keyring.from_file(path)


def test_a_missing_file_is_named(path: Path) -> None:
    """And is not created by itself: the one that is needed may be elsewhere."""
    with pytest.raises(KeyFileMissing, match=str(path)):
        Keyring.from_file(path)
    assert not path.exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """Creating there says what can't be read and why."""
    with pytest.raises(KeyFileUnreadable, match="No such file or directory"):
        Keyring.create(tmp_path / "nowhere" / "radera.keys", NOW)


def test_the_last_copy_of_a_file_is_left_alone(path: Path) -> None:
    """An old text without a present one is not debris: somebody took the present one away."""
    Keyring.create(path, NOW)
    old = path.with_name("radera.keys.old")
    path.rename(old)
    text = old.read_bytes()
    with pytest.raises(KeyFileMissing):
        Keyring.from_file(path)
    with pytest.raises(KeyFileExists):
        Keyring.create(path, NOW)
    assert text == old.read_bytes()


def test_a_linked_file_is_changed_where_it_is(path: Path) -> None:
    """A symbolic link stays one, and no keys are left behind it."""
    Keyring.create(path, NOW)
    link = path.with_name("link.keys")
    link.symlink_to(path)
    added = Keyring.from_file(link).rotate(NOW)
    assert link.is_symlink()
    assert added == Keyring.from_file(path).current


def damaged(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damage(text: bytes) -> bytes:
        document = json.loads(text)
        change(document)
        return json.dumps(document).encode()

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-20],
        lambda text: b"\xff" + text,
        lambda text: b"[]",
        lambda text: b"[" * 100_000,
        damaged(lambda document: document.update(format=3)),
        damaged(lambda document: document.pop("digest_key")),
        damaged(lambda document: document.update(digest_key="AAAA")),
        damaged(lambda document: document.update(generations=[])),
        damaged(lambda document: document.update(generations=document["generations"] * 2)),
        damaged(lambda document: document["generations"][0].update(key="?")),
        damaged(lambda document: document["generations"][0].update(number=0)),
        damaged(lambda document: document["generations"][0].update(number=2**31)),
        damaged(lambda document: document.update(revision="../radera")),
        damaged(
            lambda document: document.update(
                forgotten=[{"number": document["generations"][0]["number"], "forgotten_at": 1}]
            )
        ),
    ],
)
def test_a_damaged_file_is_refused_in_silence(path: Path, damage: Callable[[bytes], bytes]) -> None:
    """The error names the file and tells nothing of the keys, and the file is left for a person to see."""
    keyring = Keyring.create(path, NOW)
    keys = (keyring.digest_key, keyring.current.key)
    text = damage(path.read_bytes())
    path.write_bytes(text)
    with pytest.raises(KeyFileBroken, match=str(path)) as caught:
        Keyring.from_file(path)
    assert_silent(caught.value, keys)
    assert text == path.read_bytes()


def assert_silent(error: Exception, keys: tuple[bytes, ...]) -> None:
    assert (None, None) == (error.__cause__, error.__context__)
    for key in keys:
        for written in (base64_of(key), key.hex(), repr(key)):
            assert written not in "".join(traceback.format_exception(error))


# --- the environment ----------------------------------------------------------------------------------------


def test_keys_come_from_the_environment() -> None:
    """The last one is current, and the digest key is its own variable."""
    keyring = from_environment(environment(3, 7))
    assert [(3, None), (7, None)] == [(one.number, one.created_at) for one in keyring.generations]
    assert (7, KEY) == (keyring.current.number, keyring.digest_key)


def test_no_keys_in_the_environment_is_no_keyring() -> None:
    """Then the file is asked."""
    assert Keyring.from_environment({"PATH": "/bin"}) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RADERA_MASTER_KEYS", ""),
        ("RADERA_MASTER_KEYS", base64_of(KEY)),
        ("RADERA_MASTER_KEYS", f"1:{base64_of(KEY)[:-4]}"),
        ("RADERA_MASTER_KEYS", f"1:{base64_of(KEY)}!"),
        ("RADERA_MASTER_KEYS", f"0:{base64_of(KEY)}"),
        ("RADERA_MASTER_KEYS", f"-1:{base64_of(KEY)}"),
        ("RADERA_MASTER_KEYS", f"2:{base64_of(KEY)},1:{base64_of(KEY)}"),
        ("RADERA_MASTER_KEYS", f"1:{base64_of(KEY)},1:{base64_of(KEY)}"),
        ("RADERA_MASTER_KEYS", f"{'9' * 5000}:{base64_of(KEY)}"),
        ("RADERA_DIGEST_KEY", ""),
        ("RADERA_DIGEST_KEY", "AAAA"),
    ],
)
def test_a_broken_environment_is_named_in_silence(variable: str, value: str) -> None:
    """The variable and its form are said, the keys are not."""
    with pytest.raises(KeysGivenBroken, match=f"environment variable {variable}") as caught:
        Keyring.from_environment(environment(1) | {variable: value})
    assert_silent(caught.value, (KEY, bytes([1]) * 32))


def secrets(folder: Path, given: dict[str, str], mode: int = 0o440) -> tuple[SecretRef, SecretRef]:
    """Files as Kubernetes mounts them: for the group to read."""
    for name, text in given.items():
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(mode)
    return SecretRef(file=folder / "RADERA_MASTER_KEYS"), SecretRef(file=folder / "RADERA_DIGEST_KEY")


def test_keys_come_from_secrets_that_the_settings_name(tmp_path: Path) -> None:
    """A mounted Secret may be read by its group. It opens what the same keys in variables sealed."""
    sealed = from_environment(environment(3, 7)).seal_installation("callback-body", b"anna@example.com")
    keyring = Keyring.from_secrets(*secrets(tmp_path, environment(3, 7)), environ={})

    assert [3, 7] == [one.number for one in keyring.generations]
    assert b"anna@example.com" == keyring.unseal_installation("callback-body", sealed)


@pytest.mark.parametrize("mode", [0o444, 0o441, 0o604])
def test_keys_that_everybody_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    """0444 is what Kubernetes mounts where nothing else is said."""
    with pytest.raises(SecretUnavailable, match="everybody on this machine can read") as caught:
        Keyring.from_secrets(*secrets(tmp_path, environment(1), mode), environ={})
    assert_silent(caught.value, (KEY, bytes([1]) * 32))


@pytest.mark.parametrize(
    ("name", "place"), [("RADERA_MASTER_KEYS", "keys.master"), ("RADERA_DIGEST_KEY", "keys.digest")]
)
def test_a_broken_secret_is_named_in_silence(tmp_path: Path, name: str, place: str) -> None:
    """The setting and the form are said, the keys are not."""
    with pytest.raises(KeysGivenBroken, match=f"The secret in {place} has") as caught:
        Keyring.from_secrets(*secrets(tmp_path, environment(1) | {name: base64_of(KEY)[:-4]}), environ={})
    assert_silent(caught.value, (KEY, bytes([1]) * 32))


def test_keys_that_come_in_two_ways_are_refused(tmp_path: Path) -> None:
    """Of two that differ, the wrong ones would seal what nobody else opens."""
    with pytest.raises(KeysTwice):
        Keyring.from_secrets(*secrets(tmp_path, environment(1)), environ=environment(1))


@pytest.mark.parametrize("by_file", [False, True])
def test_keys_of_somebody_else_are_rotated_there(tmp_path: Path, by_file: bool) -> None:
    """A generation that only this process knew would be lost with it."""
    given = secrets(tmp_path, environment(1, 2))
    keyring = Keyring.from_secrets(*given, environ={}) if by_file else from_environment(environment(1, 2))
    with pytest.raises(KeysElsewhere):
        keyring.rotate(NOW)
    with pytest.raises(KeysElsewhere):
        keyring.forget([1], NOW)


def test_nothing_shows_a_key(path: Path) -> None:
    """Neither the keyring nor its parts."""
    keyring = Keyring.create(path, NOW)
    shown = repr([keyring, keyring.generations, keyring.current, keyring.wrap(new_key(), REQUEST)])
    for key in (keyring.digest_key, keyring.current.key):
        assert repr(key) not in shown
        assert "key=" not in shown
        assert base64_of(key) not in shown


def test_a_directory_in_the_key_files_place_is_named(tmp_path: Path) -> None:
    """The error says which file and what is wrong with it."""
    place = tmp_path / "radera.keys"
    place.mkdir(mode=0o700)

    with pytest.raises(KeyFileUnreadable, match=r"radera\.keys.*it is not a file"):
        Keyring.from_file(place)
