"""The base of the errors of this package.

The docstring of an error is its message, filled with the details given: it says whose fault it is and what
mends it. Details are file names, kinds and generations, never an identifier, a key or a plaintext. For the
same reason the errors are raised outside the `except` that found the trouble: the first exception's text and
frames would travel along.
"""

from inspect import cleandoc


class PrivacyError(Exception):
    """Something personal could not be handled safely."""

    def __init__(self, **details: object) -> None:
        self.details = details
        said = cleandoc(self.__doc__ or type(self).__name__)  # python -OO takes the docstrings away
        super().__init__(" ".join(said.split()).format(**details))
