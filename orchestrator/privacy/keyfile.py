"""The file that holds the master keys, and how it changes without ever being half of anything.

* It is readable by its owner alone. One that others can read is refused, not mended silently: the keys may
  have been taken, and somebody should know.
* It changes as a whole: the new text goes to `<file>.new`, is forced to the disk and renamed over the old.
  Before that the old text gets a second name, `<file>.old`, so that its bytes can be overwritten afterwards,
  also when the process dies between the two. What a dead process left under either name is overwritten and
  removed when the file is next opened.
* One change at a time: it holds a lock on the directory.

Overwriting reaches the old blocks on a file system that writes in place. On one that doesn't (copy on write,
snapshots, flash), destruction is as good as the encryption of the disk below; `README.md` beside this file
says so too.
"""

import base64
import binascii
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.sealing import KEY_BYTES

_FORMAT: Final = 1


class KeyFileMissing(PrivacyError):
    """There is no key file {file}. If this installation has run before, put back the one it had: without it
    nothing that is sealed can be read. If it is new, let it be created."""


class KeyFileExists(PrivacyError):
    """There is a key file {file} already. It is not replaced; open it, or name another."""


class KeyFileExposed(PrivacyError):
    """The key file {file} can be read by others than its owner. Run `chmod 600 {file}`, and rotate its keys:
    somebody may have copied them."""


class KeyFileUnreadable(PrivacyError):
    """The key file {file} can't be read: {reason}. Let it belong to the user that runs this process, in a
    directory that this user can write to."""


class KeyFileBroken(PrivacyError):
    """The key file {file} is damaged. Put back its latest copy; a copy from before the last rotation lacks
    the newest generation, and with it the requests that came since."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One master key. `created_at` is unknown for keys from the environment."""

    number: int
    created_at: int | None
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A generation whose key was destroyed, and when."""

    number: int
    forgotten_at: int


@dataclass(frozen=True, slots=True)
class Material:
    """All keys of an installation. The last generation is the current one."""

    digest_key: bytes = field(repr=False)
    generations: tuple[Generation, ...]
    forgotten: tuple[Forgotten, ...] = ()

    def is_sound(self) -> bool:
        """Whether numbers rise, nothing is twice, and every key has its length."""
        numbers = [generation.number for generation in self.generations]
        past = {generation.number for generation in self.forgotten}
        return (
            len(self.digest_key) == KEY_BYTES
            and bool(numbers)
            and numbers == sorted(set(numbers))
            and 0 < numbers[0]
            and numbers[-1] < 2**31
            and past.isdisjoint(numbers)
            and all(len(generation.key) == KEY_BYTES for generation in self.generations)
        )


class KeyFile:
    """The key file at a path."""

    def __init__(self, path: Path) -> None:
        # A rename would replace a symbolic link, and leave the keys behind it as they were.
        self.path = Path(os.path.realpath(path))
        self._new = self.path.with_name(self.path.name + ".new")
        self._old = self.path.with_name(self.path.name + ".old")

    def create(self, material: Material) -> None:
        """Write the first text of the file, or raise KeyFileExists."""
        with self._changing():
            if self.path.exists() or self._old.exists():
                raise KeyFileExists(file=self.path)
            self._replace(material)

    def read(self) -> Material:
        """What the file holds."""
        if self._new.exists() or self._old.exists():
            with self._changing():
                pass  # removes what a dead process left; a living one is waited for
        return self._load()

    def change(self, change: Callable[[Material], Material]) -> Material:
        """Replace what the file holds by what `change` makes of it, and destroy the old text."""
        with self._changing():
            material = change(self._load())
            self._replace(material)
            return material

    def stamp(self) -> tuple[int, int] | None:
        """Differs when the file was replaced."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _load(self) -> Material:
        problem: PrivacyError | None = None
        text = b""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            problem = KeyFileMissing(file=self.path)
        except OSError as error:
            problem = KeyFileUnreadable(file=self.path, reason=error.strerror)
        else:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                os.close(descriptor)
                problem = KeyFileUnreadable(file=self.path, reason="it is not a file")
            else:
                with os.fdopen(descriptor, "rb") as file:
                    if mode & (stat.S_IRWXG | stat.S_IRWXO):
                        problem = KeyFileExposed(file=self.path)
                    else:
                        text = file.read()
        material = None if problem else _parse(text)
        del text
        if material is None:
            raise problem or KeyFileBroken(file=self.path)
        return material

    def _replace(self, material: Material) -> None:
        _write(self._new, _text(material))
        if not self.path.exists():
            self._new.replace(self.path)
            self._settle()
            return
        # Kept open as well as linked: some file systems have no links, and then only a death right here
        # leaves bytes.
        with self.path.open("r+b", buffering=0) as old:
            with suppress(OSError):
                self._old.hardlink_to(self.path)
            self._settle()
            self._new.replace(self.path)
            self._settle()
            _overwrite(old.fileno())
        self._old.unlink(missing_ok=True)
        self._settle()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileUnreadable(file=self.path, reason=error.strerror) from None
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            self._remove_leftovers()
            yield
        finally:
            os.close(directory)

    def _remove_leftovers(self) -> None:
        for leftover in (self._new, self._old):
            if not leftover.exists() or (leftover == self._old and not self.path.exists()):
                continue  # an old text without a present one is the last copy: a person took the file away
            if not (self.path.exists() and leftover.samefile(self.path)):  # else it died before the rename
                with leftover.open("r+b", buffering=0) as file:
                    _overwrite(file.fileno())
            leftover.unlink()
        self._settle()

    def _settle(self) -> None:
        """Force the names in the directory to the disk."""
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _write(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _overwrite(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, bytes(size))
    os.fsync(descriptor)


def _text(material: Material) -> bytes:
    document = {
        "format": _FORMAT,
        "digest_key": base64.b64encode(material.digest_key).decode(),
        "generations": [
            {"number": one.number, "created_at": one.created_at, "key": base64.b64encode(one.key).decode()}
            for one in material.generations
        ],
        "forgotten": [{"number": one.number, "forgotten_at": one.forgotten_at} for one in material.forgotten],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _parse(text: bytes) -> Material | None:
    """What the text says, or None. The errors of the parsers below carry the text with them, and end here."""
    try:
        document: Any = json.loads(text)
        if document["format"] != _FORMAT:
            return None
        material = Material(
            digest_key=base64.b64decode(document["digest_key"], validate=True),
            generations=tuple(
                Generation(
                    int(one["number"]), int(one["created_at"]), base64.b64decode(one["key"], validate=True)
                )
                for one in document["generations"]
            ),
            forgotten=tuple(
                Forgotten(int(one["number"]), int(one["forgotten_at"])) for one in document["forgotten"]
            ),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, binascii.Error):
        return None
    return material if material.is_sound() else None
