"""The file that holds the master keys, and how it changes without ever being half of anything.

* It is readable by its owner alone. One that others can read is refused, not mended silently: the keys may
  have been taken, and somebody should know.
* It changes as a whole: the new text goes to a name of its own, is forced to the disk and renamed over the
  old. Before that the old text gets a second name, so that its bytes can be overwritten afterwards, also when
  the process dies between the two.
* One change at a time: it holds a lock on the directory.
* Each text carries a chain: a random revision of its own, and those of all texts that it succeeds. A text in
  format 1 has none; its revision is a digest of it, and it becomes format 2 with its next change.
* What a dead process left is destroyed when the file is next opened, and nothing else ever is. It has a name
  that nobody would choose (`<file>.radera-<revision>.new` or `.replaced`), and by the chains the present text
  is a later one, or this one was never in force. Every other file in the directory is the operator's,
  `<file>.old` and `<file>.new` too, and is left as it is; `beside` names those that begin with its name.

Overwriting reaches the old blocks on a file system that writes in place. On one that doesn't (copy on write,
snapshots, flash), destruction is as good as the encryption of the disk below; `README.md` beside this file
says so too.
"""

import base64
import binascii
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.sealing import KEY_BYTES

_logger = logging.getLogger(__name__)

_FORMAT: Final = 2
_REVISION_BYTES: Final = 16
_REVISION: Final = re.compile(r"[0-9a-f]{32}")
_OURS: Final = re.compile(r"\.radera-[0-9a-f]{32}\.(new|replaced)")


class KeyFileMissing(PrivacyError):
    """There is no key file {file}. If this installation has run before, put back the one it had: without it
    nothing that is sealed can be read. If it is new, let it be created."""


class KeyFileExists(PrivacyError):
    """There is a key file {file} already. It is not replaced: keys that may still be needed are in it. Put
    it where the settings name the key file, or move it into another directory."""


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
    """All keys of an installation. The last generation is the current one. `installation` is the id of the
    installation that they belong to, once it has one.
    """

    digest_key: bytes = field(repr=False)
    generations: tuple[Generation, ...]
    forgotten: tuple[Forgotten, ...] = ()
    installation: str | None = None

    def is_sound(self) -> bool:
        """Whether nothing is twice, and every number and key has its size."""
        numbers = [generation.number for generation in self.generations]
        past = {generation.number for generation in self.forgotten}
        return (
            len(self.digest_key) == KEY_BYTES
            and bool(numbers)
            and len(numbers) == len(set(numbers))
            and all(0 < number < 2**31 for number in numbers)
            and past.isdisjoint(numbers)
            and all(len(generation.key) == KEY_BYTES for generation in self.generations)
        )


@dataclass(frozen=True, slots=True)
class _Text:
    """What a key file holds, and its place in the chain; the last of `succeeds` came right before."""

    material: Material
    revision: str
    succeeds: tuple[str, ...] = ()

    def following(self, material: Material) -> "_Text":
        """The text that comes after this one."""
        return _Text(material, secrets.token_hex(_REVISION_BYTES), (*self.succeeds, self.revision))


class KeyFile:
    """The key file at a path."""

    def __init__(self, path: Path) -> None:
        # A rename would replace a symbolic link, and leave the keys behind it as they were.
        self.path = Path(os.path.realpath(path))

    def create(self, material: Material) -> None:
        """Write the first text of the file. Raises KeyFileExists, also for one that was moved aside."""
        with self._changing():
            moved = [file for file in self.beside() if _read_text(file) is not None]
            for file in [self.path] if self.path.exists() else moved:
                raise KeyFileExists(file=file)
            self._replace(_Text(material, secrets.token_hex(_REVISION_BYTES)))

    def read(self) -> Material:
        """What the file holds."""
        if self._leftovers():
            with self._changing():
                pass  # removes what a dead process left; a living one is waited for
        return self._load().material

    def change(self, change: Callable[[Material], Material]) -> Material:
        """Replace what the file holds by what `change` makes of it, and destroy the old text."""
        with self._changing():
            before = self._load()
            after = before.following(change(before.material))
            self._replace(after)
            return after.material

    def stamp(self) -> tuple[int, int] | None:
        """Differs when the file was replaced."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def beside(self) -> list[Path]:
        """The files beside it whose names begin with its name. They are the operator's, and left alone; one
        of them may be a key file that was moved aside.
        """
        with suppress(OSError):
            return sorted(
                found
                for found in self.path.parent.iterdir()
                if found.name.startswith(self.path.name) and found != self.path and found.is_file()
            )
        return []

    def _load(self) -> _Text:
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
        parsed = None if problem else _parse(text)
        del text
        if parsed is None:
            raise problem or KeyFileBroken(file=self.path)
        return parsed

    def _named(self, revision: str, kind: str) -> Path:
        return self.path.with_name(f"{self.path.name}.radera-{revision}.{kind}")

    def _replace(self, text: _Text) -> None:
        new = self._named(text.revision, "new")
        _write(new, _written(text))
        if not self.path.exists():
            new.replace(self.path)
            self._settle()
            return
        replaced = self._named(text.succeeds[-1], "replaced")
        # Kept open as well as linked: some file systems have no links, and then only a death right here
        # leaves bytes.
        with self.path.open("r+b", buffering=0) as old:
            names = os.fstat(old.fileno()).st_nlink
            with suppress(OSError):
                replaced.hardlink_to(self.path)
            self._settle()
            new.replace(self.path)
            self._settle()
            self._overwrite(old.fileno(), names)
        replaced.unlink(missing_ok=True)
        self._settle()

    def _overwrite(self, descriptor: int, names: int) -> None:
        """Overwrite a text, unless it has another name: then it is the operator's, too."""
        if names > 1:
            _logger.warning("keys_kept_under_another_name")
            return
        _overwrite(descriptor)

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

    def _leftovers(self) -> list[Path]:
        """The files that have names of ours."""
        return [found for found in self.beside() if _OURS.fullmatch(found.name.removeprefix(self.path.name))]

    def _remove_leftovers(self) -> None:
        """Destroy what a dead process left, where it is certain that nobody needs it."""
        present = _read_text(self.path)
        for leftover in self._leftovers():
            if self.path.exists() and leftover.samefile(self.path):
                leftover.unlink()  # it died before the rename: this is the present text's second name
            elif self._is_past(leftover, present):
                with leftover.open("r+b", buffering=0) as file:
                    self._overwrite(file.fileno(), os.fstat(file.fileno()).st_nlink)
                leftover.unlink()
        self._settle()

    def _is_past(self, leftover: Path, present: _Text | None) -> bool:
        """Whether the present text succeeds this one, or it never was in force.

        A new text loses its name when it comes into force. So one that still has it, and that was to succeed
        the present one or to be the first, never was.
        """
        if leftover.read_bytes()[:1] in (b"", b"\0"):
            return True  # nothing was written yet, or it was being overwritten, which was decided as below
        text = _read_text(leftover)
        if text is None:
            return False
        if present is not None and text.revision in present.succeeds:
            return True
        before = text.succeeds[-1] if text.succeeds else None
        return leftover.suffix == ".new" and before == (present.revision if present else None)

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


def _written(text: _Text) -> bytes:
    material = text.material
    document = {
        "format": _FORMAT,
        "revision": text.revision,
        "succeeds": text.succeeds,
        "installation": material.installation,
        "digest_key": base64.b64encode(material.digest_key).decode(),
        "generations": [
            {"number": one.number, "created_at": one.created_at, "key": base64.b64encode(one.key).decode()}
            for one in material.generations
        ],
        "forgotten": [{"number": one.number, "forgotten_at": one.forgotten_at} for one in material.forgotten],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _read_text(path: Path) -> _Text | None:
    """The key file at a path, or None where there is none."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> _Text | None:
    """What the text says, or None. The errors of the parsers below carry the text with them, and end here."""
    try:
        document: Any = json.loads(text)
        revision, succeeds = _place(document, text)
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
            installation=_text_or_none(document.get("installation")),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, binascii.Error):
        return None
    return _Text(material, revision, succeeds) if material.is_sound() else None


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _place(document: Any, text: bytes) -> tuple[str, tuple[str, ...]]:
    """The revision of a text, and those that it succeeds. Raises ValueError for an unknown format."""
    match document["format"]:
        case 1:
            return hashlib.sha256(text).hexdigest()[: 2 * _REVISION_BYTES], ()
        case 2:
            chain = [str(one) for one in (*document["succeeds"], document["revision"])]
            if all(_REVISION.fullmatch(one) for one in chain):
                return chain[-1], tuple(chain[:-1])
    raise ValueError("format")
