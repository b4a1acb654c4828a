"""What a schedule is made of: how much of which trouble. A seed draws one; a test can lean on one thing."""

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Probabilities and counts. The defaults are a world in which nothing goes wrong."""

    requests: int = 1
    systems: tuple[str, ...] = ()
    """The scope, where a test wants a certain one."""
    share: float = 0.85
    steps: int = 120
    """How many steps of the scheduler have trouble; then the world is healed."""
    crashes: float = 0.0
    """Chance, at each step, that a process will die at one of the next durable operations."""
    freezes: float = 0.0
    """Chance, at each step, that the worker is stopped for hours or days."""
    vendor_faults: float = 0.0
    """Chance, at each step, that a vendor's fault is switched on."""
    mail_faults: float = 0.0
    bus_repeats: float = 0.0
    bus_lags: float = 0.0
    bus_rewinds: float = 0.0
    bus_fails: float = 0.0
    jumps: float = 0.0
    """Chance, at each step, that the clock moves on though there is work to do."""
    decisions: float = 0.3
    """Chance, at each step with open questions, that the DPO says something, right or wrong."""
    wrong_decisions: float = 0.0
    repeats: float = 0.0
    """Chance, at each step, of a repeated, changed, unreadable or misdirected record."""
    reappearances: float = 0.0
    early_callbacks: float = 0.0
    """Chance that an agency or controller answers at once, before our own note of having asked."""
    unverified: float = 0.0
    incomplete: float = 0.0
    """Chance that a request lacks some of the person's identifiers."""
    stubborn: float = 0.0
    """Chance that an agency or controller refuses, keeps, or stays silent."""
    second_ids: float = 0.0
    """Chance, at each step, that a person asks once more, under another id."""
    skews: float = 0.0
    """Chance that the vendors' clocks are off."""
    slow_purges: float = 0.0
    """Chance that SuperOffice keeps deleted rows for longer than our settings say."""
    failing_rules: float = 0.0
    """Chance, at each step, that a rule of the saga will raise at a request's next answer."""
    words: float = 0.0
    """Chance, at each step, that the controller says something once more."""
    operations: float = 0.0
    """Chance, at each step, that somebody who runs the installation does something, or fate."""
    operating: tuple[str, ...] = ()
    """What they may do; all when empty."""
    hour: int | None = None
    """The hour, UTC, at which the world begins, where a test wants a certain one."""
    faults: tuple[str, ...] = ()
    """The kinds of vendor faults to choose from; all when empty."""


def draw(rng: random.Random) -> Scenario:
    """A seed's own mixture: some worlds are calm, some have one trouble, some have all."""
    mood = rng.random()
    scenario = Scenario(
        requests=rng.choices((1, 2, 3), (88, 10, 2))[0],
        share=rng.choice((0.85, 0.85, 0.6, 0.0 if rng.random() < 0.3 else 0.85)),
        systems=("superoffice", "hubspot") if rng.random() < 0.15 else (),
        steps=rng.choice((30, 60, 110)),
        unverified=0.15,
        incomplete=0.2,
        stubborn=0.3,
        early_callbacks=rng.choice((0.0, 0.5)),
        slow_purges=0.1,
        second_ids=0.02 if rng.random() < 0.1 else 0.0,
    )
    if mood < 0.1:
        return scenario

    def some(chance: float, *amounts: float) -> float:
        return rng.choice(amounts) if rng.random() < chance else 0.0

    return replace(
        scenario,
        crashes=some(0.6, 0.01, 0.03, 0.08),
        freezes=some(0.3, 0.01, 0.03),
        vendor_faults=some(0.7, 0.03, 0.1),
        mail_faults=some(0.4, 0.02, 0.05),
        bus_repeats=some(0.4, 0.05, 0.2),
        bus_lags=some(0.4, 0.02, 0.1),
        bus_rewinds=some(0.4, 0.02, 0.1),
        bus_fails=some(0.3, 0.02, 0.1),
        jumps=some(0.5, 0.01, 0.05),
        wrong_decisions=some(0.5, 0.2, 0.5),
        repeats=some(0.5, 0.01, 0.03),
        reappearances=some(0.3, 0.005, 0.02),
        skews=some(0.3, 1.0),
        failing_rules=some(0.15, 0.01),
        words=some(0.4, 0.02, 0.1),
        operations=some(0.3, 0.02, 0.06),
    )
