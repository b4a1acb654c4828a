"""The master keys of an installation, in generations, and what is done under them.

* A request's key rests wrapped by a master key. Master keys come in generations (a month each, by default): a
  new one is added, the keys of open requests are wrapped again under it, the old one is destroyed. A backup
  of the database plus today's key file then opens nothing of a request that ended.
* The order survives a death anywhere: `rotate` (the new generation is on the disk when it returns), then the
  caller wraps every open request's key again and commits, then `forget`. Repeating any of them is safe.
* A generation is forgotten only when no process can still be about to file a key under it. Each looks at the
  file before it wraps, so a call's length after `rotate` is enough; the next scheduled rotation is a good
  moment.
* Raw callbacks come before we know whose they are, and are sealed to the installation: under a key derived
  from the current generation, whose number is in the header. They die with it.
* Our own numbers are random, and the order is that of the file. Numbers that come from elsewhere rise.
* The digest key is separate and stays: digests must compare over years. It opens
  nothing of a person's.
* Keys come from a file of ours (the embedded default), or from where another system keeps and rotates them:
  secrets that the settings name, or the variables RADERA_MASTER_KEYS and RADERA_DIGEST_KEY. There the master
  keys are "1:base64,2:base64", the last one current. Each is 32 bytes. Given in both ways they are refused:
  nobody can tell which were meant.
"""

import base64
import binascii
import secrets
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.keyfile import Forgotten, Generation, KeyFile, Material
from orchestrator.privacy.sealing import KEY_BYTES, SealBroken, new_key, open_with, seal_with
from orchestrator.secret import SecretRef

MASTER_KEYS: Final = "RADERA_MASTER_KEYS"
DIGEST_KEY: Final = "RADERA_DIGEST_KEY"

_UNREAD: Final = (0, 0)  # the stamp of no file
_INSTALLATION: Final = b"\x02"
_INSTALLATION_HEADER: Final = 5


class KeysGivenBroken(PrivacyError):
    """{place} {problem}. Write the master keys as "1:base64,2:base64" with rising numbers, the current
    generation last, and the digest key as base64; each key is 32 random bytes."""


class KeysTwice(PrivacyError):
    """The master keys come both from the environment variable RADERA_MASTER_KEYS and from the secret that the
    settings name in keys.master. Take one of them away."""


class KeysElsewhere(PrivacyError):
    """The master keys come from the environment or from a secret that the settings name, so they can't be
    changed from here. Add a generation there, restart the processes, run `radera keys rewrap`, and take away
    the old one."""


class GenerationUnknown(PrivacyError):
    """Master key generation {number} is not in the keyring. The database and the keys don't belong together,
    or the keys were put back from a copy made before a rotation: put back the latest."""


class GenerationForgotten(PrivacyError):
    """Master key generation {number} was destroyed. What was sealed under it can't be read by anybody, which
    was the purpose; a request that is still open was not wrapped again in time, and must be asked for
    anew."""


class GenerationLost(GenerationForgotten):
    """Master key generation {number} was declared lost. What was sealed under it can't be read by anybody,
    unless the keyring that has it is found and put back."""


class GenerationInUse(PrivacyError):
    """Master key generation {number} is the current one. Rotate, wrap the open requests' keys again, then
    forget it."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A request's key under a master key of the named generation."""

    generation: int
    blob: bytes = field(repr=False)


class Keyring:
    """The master keys and the digest key. Its methods may be called from any thread."""

    def __init__(self, material: Material, file: KeyFile | None = None) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = _UNREAD
        self._lock = Lock()
        self._lost: Callable[[], Collection[int]] = tuple
        self._hold(material)

    @classmethod
    def create(cls, path: Path, now: int) -> "Keyring":
        """A new keyring in a new file. For a new installation only: see KeyFileMissing."""
        file = KeyFile(path)
        material = Material(new_key(), (_new_generation((), now),))
        file.create(material)
        return cls(material, file)

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """The keyring in a file."""
        file = KeyFile(path)
        return cls(file.read(), file)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Keyring | None":
        """The keyring in the environment, or None if there is none."""
        if MASTER_KEYS not in environ:
            return None
        master, digest = environ[MASTER_KEYS], environ.get(DIGEST_KEY, "")
        variable = "The environment variable"
        return cls(_given(master, digest, f"{variable} {MASTER_KEYS}", f"{variable} {DIGEST_KEY}"))

    @classmethod
    def from_secrets(cls, master: SecretRef, digest: SecretRef, environ: Mapping[str, str]) -> "Keyring":
        """The keyring in the secrets that the settings name. Raises SecretUnavailable, too."""
        if MASTER_KEYS in environ and master.env != MASTER_KEYS:
            raise KeysTwice
        keys, key = master.read(private=True), digest.read(private=True)
        return cls(_given(keys, key, "The secret in keys.master", "The secret in keys.digest"))

    def __repr__(self) -> str:
        return f"<keyring: generations {', '.join(str(one.number) for one in self.generations)}>"

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The generations that are there, oldest first; the last is the current one."""
        return self._fresh().generations

    @property
    def forgotten(self) -> tuple[Forgotten, ...]:
        """The generations that were destroyed from here, for the certificates."""
        return self._fresh().forgotten

    @property
    def beside(self) -> list[Path]:
        """Files beside the key file that may be key files, too: the operator's, and left as they are."""
        return [] if self._file is None else self._file.beside()

    @property
    def current(self) -> Generation:
        """The generation that wraps and seals."""
        return self._fresh().generations[-1]

    @property
    def name(self) -> str:
        """What errors call it: the file, or where the keys come from."""
        return "(the keys that were given)" if self._file is None else str(self._file.path)

    @property
    def installation(self) -> str | None:
        """The id of the installation that the key file belongs to, if it knows."""
        return self._fresh().installation

    def belong_to(self, installation: str) -> None:
        """Remember the installation in the key file. Keys that come from elsewhere remember nothing."""
        if self._file is not None and self.installation != installation:
            self._change(lambda material: replace(material, installation=installation))

    @property
    def digest_key(self) -> bytes:
        """The key from which digests and links are made."""
        return self._material.digest_key

    def is_settled(self, number: int) -> bool:
        """Whether a generation's key is there, or is known never to come."""
        try:
            self.derived(number, "digest")
        except GenerationUnknown:
            return False
        except GenerationForgotten:
            return True
        return True

    def learn_of_losses(self, lost: Callable[[], Collection[int]]) -> None:
        """Ask `lost`, each time that a generation is not there, which ones were declared lost."""
        self._lost = lost

    def digest_of(self, number: int) -> str:
        """A digest by which a generation's key is known again. Raises as `derived` does."""
        return self.derived(number, "digest").hex()

    def wrap(self, key: bytes, request_id: str) -> Wrapped:
        """The request's key, wrapped under the current generation."""
        number = self.current.number
        return Wrapped(number, seal_with(self.derived(number, "wrap"), _wrapped_for(number, request_id), key))

    def unwrap(self, wrapped: Wrapped, request_id: str) -> bytes:
        """The request's key. Raises SealBroken, GenerationForgotten or GenerationUnknown."""
        derived = self.derived(wrapped.generation, "wrap")
        key = open_with(derived, _wrapped_for(wrapped.generation, request_id), wrapped.blob)
        if key is None or len(key) != KEY_BYTES:
            raise SealBroken(purpose="key")
        return key

    def seal_installation(self, purpose: str, data: bytes) -> bytes:
        """The data, sealed to this installation for the purpose, under the current generation."""
        number = self.current.number
        header = _INSTALLATION + struct.pack(">I", number)
        return header + seal_with(self.derived(number, "installation"), _installed(header, purpose), data)

    def unseal_installation(self, purpose: str, sealed: bytes) -> bytes:
        """What `seal_installation` was given. Raises SealBroken, GenerationForgotten or GenerationUnknown."""
        number = generation_of(sealed)
        if number is None:
            raise SealBroken(purpose=purpose)
        header = sealed[:_INSTALLATION_HEADER]
        derived = self.derived(number, "installation")
        data = open_with(derived, _installed(header, purpose), sealed[_INSTALLATION_HEADER:])
        if data is None:
            raise SealBroken(purpose=purpose)
        return data

    def check_ours(self) -> None:
        """Raise KeysElsewhere unless the keys are in a file of ours, and can be changed from here."""
        if self._file is None:
            raise KeysElsewhere

    def rotate(self, now: int) -> Generation:
        """Add a generation and make it the current one. It is on the disk when this returns."""

        def add(material: Material) -> Material:
            taken = {one.number for one in material.generations} | {one.number for one in material.forgotten}
            fresh = _new_generation(taken, now)
            return replace(material, generations=(*material.generations, fresh))

        return self._change(add).generations[-1]

    def forget(self, generations: Collection[int], now: int) -> None:
        """Destroy the keys of the generations. Those that are destroyed already are passed over."""

        def drop(material: Material) -> Material:
            present = {one.number for one in material.generations}
            past = {one.number for one in material.forgotten}
            for number in generations:
                if number == material.generations[-1].number:
                    raise GenerationInUse(number=number)
                if number not in present | past:
                    raise GenerationUnknown(number=number)
            kept = tuple(one for one in material.generations if one.number not in generations)
            gone = tuple(Forgotten(number, now) for number in sorted(present.intersection(generations)))
            return replace(material, generations=kept, forgotten=(*material.forgotten, *gone))

        self._change(drop)

    def _change(self, change: Callable[[Material], Material]) -> Material:
        if self._file is None:
            raise KeysElsewhere
        material = self._file.change(change)
        with self._lock:
            self._hold(material)
            self._stamp = _UNREAD  # another process may have changed it again since
        return material

    def _fresh(self) -> Material:
        """The keys as they are now: another process may have rotated or forgotten."""
        if self._file is None:
            return self._material
        with self._lock:
            stamp = self._file.stamp()  # before the text: a change in between is then seen next time
            if stamp != self._stamp:
                self._hold(self._file.read())
                self._stamp = stamp
            return self._material

    def _hold(self, material: Material) -> None:
        self._material = material
        self._derivations: dict[tuple[int, str], bytes] = {}

    def derived(self, number: int, use: str) -> bytes:
        """The key of a generation for one use. Raises GenerationForgotten, GenerationLost or
        GenerationUnknown: the first two say that nobody will ever have it, the last that it may come yet.
        """
        material = self._fresh()
        derivations = self._derivations
        if (number, use) not in derivations:
            for generation in material.generations:
                if generation.number == number:
                    derivations[number, use] = derive(generation.key, f"radera/{use}/1")
                    break
            else:
                if number in {one.number for one in material.forgotten}:
                    raise GenerationForgotten(number=number)
                raise (GenerationLost if number in self._lost() else GenerationUnknown)(number=number)
        return derivations[number, use]


def _new_generation(taken: Collection[int], now: int) -> Generation:
    """A generation with a random number: two keyrings that were one before a restore give no number to two
    keys.
    """
    while (number := 1 + secrets.randbelow(2**31 - 1)) in taken:
        pass
    return Generation(number, now, new_key())


def _wrapped_for(number: int, request_id: str) -> bytes:
    return b"radera/wrap/1\0" + struct.pack(">I", number) + request_id.encode()


def _installed(header: bytes, purpose: str) -> bytes:
    return b"radera/installation/1\0" + header + purpose.encode()


def _given(master: str, digest: str, place: str, digest_place: str) -> Material:
    """The keys as another system hands them over; `place` says where they were."""
    generations = []
    for part in master.split(","):
        number, _, key = part.strip().partition(":")
        if not (number.isascii() and number.isdecimal() and len(number) <= 10):
            raise KeysGivenBroken(place=place, problem="has a part without a number")
        generations.append(Generation(int(number), None, _key_from(key, place)))
    material = Material(_key_from(digest, digest_place), tuple(generations))
    numbers = [one.number for one in generations]
    if not material.is_sound() or numbers != sorted(numbers):
        raise KeysGivenBroken(place=place, problem="has numbers that don't rise")
    return material


def _key_from(text: str, place: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeysGivenBroken(place=place, problem="has a key that is not base64 of 32 bytes")
    return key


def generation_of(sealed: bytes) -> int | None:
    """The generation that `seal_installation` used; None for what it did not seal."""
    header = sealed[:_INSTALLATION_HEADER]
    if len(header) < _INSTALLATION_HEADER or not header.startswith(_INSTALLATION):
        return None
    return int(struct.unpack(">I", header[len(_INSTALLATION) :])[0])


def derive(key: bytes, use: str, length: int = KEY_BYTES) -> bytes:
    """A key for one use only, from one that has several (HKDF with SHA-256, RFC 5869)."""
    return HKDF(SHA256(), length, salt=None, info=use.encode()).derive(key)
