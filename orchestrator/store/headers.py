"""A record's headers as text, for a row of the outbox."""

import base64
import json
from json.encoder import encode_basestring_ascii as quoted


def headers_to_text(headers: tuple[tuple[str, bytes], ...]) -> str:
    """The headers as an outbox row has them."""
    # A list in JSON, names and values in turn; each byte of a value is the character of the same number.
    parts = [f"{quoted(name)}, {quoted(value.decode('latin-1'))}" for name, value in headers]
    return f"[{', '.join(parts)}]"


def headers_from_text(text: str) -> tuple[tuple[str, bytes], ...]:
    """The headers of an outbox row."""
    parts = json.loads(text) if text else []
    if parts and isinstance(parts[0], list):
        # As older rows have them: pairs, the value in base64.
        return tuple((name, base64.b64decode(value)) for name, value in parts)
    return tuple(
        [(name, value.encode("latin-1")) for name, value in zip(parts[::2], parts[1::2], strict=True)]
    )
