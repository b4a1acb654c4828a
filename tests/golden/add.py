"""Writes the golden bytes of versions that have none yet: `python -m tests.golden.add`.

It never touches a file that exists. If a test says that old bytes no longer decode, the change to the schema
is wrong, not the bytes.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from schemas.codec import encode, fingerprint_of
from schemas.messages import Message
from tests.golden.samples import SAMPLES

FOLDER = Path(__file__).parent


def golden_file(record: type[Message]) -> Path:
    """Where the bytes of the record type's current version are; what they say is beside it, in JSON."""
    return FOLDER / f"{record.__name__.lower()}-{fingerprint_of(record)}.avro"


def in_json(message: Message) -> str:
    """All that the message says, as text to compare with."""

    def plain(value: Any) -> Any:
        return {"base64": base64.b64encode(value).decode()}

    return json.dumps(message.model_dump(), default=plain, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Add what is missing."""
    for message in SAMPLES:
        file = golden_file(type(message))
        if file.exists():
            continue
        with file.open("xb") as written:
            written.write(encode(message))
        with file.with_suffix(".json").open("x", encoding="utf-8") as said:
            said.write(in_json(message))
        sys.stdout.write(f"added {file.name}\n")


if __name__ == "__main__":
    main()
