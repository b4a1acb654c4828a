"""What the logic takes by itself: a request's events read, decided upon and answered, and nothing else.

One thread, no server, no database: the bound that no arrangement of processes, batches or statements can
pass, to be held against what the raw pipe takes for everything.
"""

import time
from pathlib import Path

from orchestrator.cli.assembly import load_settings
from orchestrator.privacy import Digests, Keyring
from orchestrator.saga.decide import decide
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Rules
from orchestrator.service.inbound import Reader
from orchestrator.service.outbound import outgoing
from orchestrator.service.rules import rules_of
from tests.bench.traffic import STAGES, Life, OneKey, delivered, lives

_LIVES = 200
_ROUNDS = 5


def measure(config: Path) -> float:
    """The processor's time for one request, in milliseconds: the least of some rounds."""
    settings = load_settings(config)
    rules, digests = rules_of(settings), Digests(Keyring.from_file(settings.keys.file).digest_key)
    made = [(life, Reader(OneKey(life.key), digests, lambda: 0.5)) for life in lives(config, _LIVES)]
    return min(_round(made, rules) for _ in range(_ROUNDS))


def _round(made: list[tuple[Life, Reader]], rules: Rules) -> float:
    now = time.time_ns() // 1000
    began = time.process_time()
    for life, reader in made:
        saga: Saga | None = None
        for stage in STAGES:
            for record in life.records[stage]:
                event = reader.read(delivered(record, now)).event
                assert event is not None, "the record can't be read"
                decision = decide(saga, event, now, rules)
                outgoing(decision, now)
                saga = decision.saga
        assert saga is not None, "there is no event"
        assert saga.is_finished, "this is not what is to be measured"
    return (time.process_time() - began) / len(made) * 1000
