"""How a broken invariant is said."""


class Violated(AssertionError):
    """An invariant does not hold; `name` is which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def expect(holds: bool, name: str, text: str) -> None:
    if not holds:
        raise Violated(name, text)
