"""The master keys' file, in memory, and the keyrings that the processes hold of it."""

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from orchestrator.privacy import Keyring
from orchestrator.privacy.keyfile import KeyFile, Material


class HeldFile(KeyFile):
    """A key file as its processes see it. What is `around` a change may end the process that makes it."""

    def __init__(self, material: Material) -> None:
        super().__init__(Path("/simulated/radera.keys"))
        self.material = material
        self._changes = 1
        self.around: tuple[Callable[[], None], Callable[[], None]] = (_nothing, _nothing)

    @override
    def read(self) -> Material:
        return self.material

    @override
    def change(self, change: Callable[[Material], Material]) -> Material:
        before, after = self.around
        before()
        self.put(change(self.material))
        after()
        return self.material

    def put(self, material: Material) -> None:
        """Another text is in the file, whoever has put it there."""
        self.material = material
        self._changes += 1

    @override
    def stamp(self) -> tuple[int, int]:
        return 1, self._changes

    @override
    def beside(self) -> list[Path]:
        return []

    def keyring(self) -> Keyring:
        """The keyring of a process that starts now."""
        return Keyring(self.material, self)


def _nothing() -> None:
    """Nobody dies here."""
