"""What a dead letter says of itself, whoever leaves it.

* The payload is sealed by whoever leaves it; the headers say why it is here and where it came from, and carry
  on how often it was sent again, from 0: a letter that comes back a second time must not pass for the first.
* The headers by which a record is read, those of CloudEvents and the trace, come along for when it is sent
  again. They may be a stranger's, who may have put a name there, so they are sealed as the payload is.
"""

import base64
import json
import re
from collections.abc import Callable

from orchestrator.bus.port import Delivery, Headers

#: The header of a dead letter, and of a record that was sent again: how often.
REPLAYED = "radera-attempt"
#: The header of a dead letter that holds the record's own.
HELD = "radera-headers"

_KEPT = re.compile(r"ce_[a-z0-9]{1,20}|content-type|traceparent")
#: Ours are 400 bytes. What is longer is not ours, and is of no use to anybody.
_MOST = 4096


def dead_letter_headers(delivery: Delivery, code: str, seal: Callable[[bytes], bytes]) -> Headers:
    """The headers of the dead letter for a delivery that failed with `code`. `seal` is what sealed the
    payload.
    """
    place = {"topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset}
    own = json.dumps(
        [[name, value.decode("latin-1")] for name, value in delivery.headers if _KEPT.fullmatch(name)]
    ).encode()
    return (
        ("radera-code", code.encode()),
        *((f"radera-{name}", str(value).encode()) for name, value in place.items()),
        (REPLAYED, delivery.header(REPLAYED) or b"0"),
        *(((HELD, base64.b64encode(seal(own))),) if len(own) <= _MOST else ()),
    )


def headers_of_its_record(letter: Delivery, unseal: Callable[[bytes], bytes]) -> Headers:
    """The headers that the record had. None for a letter that was left without them."""
    held = letter.header(HELD)
    if held is None:
        return ()
    return tuple(
        (name, value.encode("latin-1")) for name, value in json.loads(unseal(base64.b64decode(held)))
    )
