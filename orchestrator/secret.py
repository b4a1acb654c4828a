"""Secrets by reference.

A configuration file names where a secret is, and never holds it: `token = { env = "HUBSPOT_TOKEN" }` or
`token = { file = "/run/secrets/hubspot" }`. The value is read when it is needed, so that a rotated file
counts at once, and it appears in no repr, no error and no dump of the settings.
"""

import os
import stat
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class SecretUnavailable(Exception):
    """A secret is not where the settings say; the message names the place and what to do."""


class SecretRef(BaseModel):
    """Where a secret is: exactly one of an environment variable and a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_literal(cls, given: Any) -> Any:
        if isinstance(given, str | bytes):
            raise ValueError(
                "a secret stands in the settings itself; put it in an environment variable or a file and"
                ' write { env = "NAME" } or { file = "/path" } here (and change it: it was written down)'
            )
        return given

    @model_validator(mode="after")
    def _exactly_one(self) -> "SecretRef":
        if (self.env is None) == (self.file is None):
            raise ValueError('give exactly one of { env = "NAME" } and { file = "/path" }')
        return self

    def read(self, *, private: bool = False) -> str:
        """The secret, without the line feed that editors and `kubectl` leave at the end of a file.

        A `private` one is refused where everybody on the machine can read it. Its owner may be another than
        we, and its group may read it, as with a Secret that Kubernetes mounts.
        """
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise SecretUnavailable(
                    f"environment variable {self.env} is not set or empty: set it for this process"
                )
            return value
        assert self.file is not None  # noqa: S101 - the validator above leaves no third case
        try:
            with self.file.open(encoding="utf-8") as file:
                if private and os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
                    raise SecretUnavailable(
                        f"everybody on this machine can read the secret file {self.file}: run `chmod o=`, on"
                        " Kubernetes set the volume's defaultMode to 0440, and change what is in it: somebody"
                        " may have copied it"
                    )
                value = file.read().rstrip("\r\n")
        except OSError as error:
            raise SecretUnavailable(
                f"cannot read the secret file {self.file} ({error.strerror}): create it, readable by us"
            ) from None
        except UnicodeDecodeError:
            raise SecretUnavailable(
                f"the secret file {self.file} is not UTF-8 text: write it again"
            ) from None
        if not value:
            raise SecretUnavailable(f"the secret file {self.file} is empty: write the secret into it")
        return value
