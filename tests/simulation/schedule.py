"""One seed, from the first request to the last word.

While there is trouble, the scheduler picks at each step, by the seed, who acts next among those who have
something to do. Then the world is healed, the DPO settles what is open, and time runs on until nothing is
left to do.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

from orchestrator.bus.port import Subscription
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.decide import Decision, decide
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Rules
from orchestrator.service import orchestrator as service
from tests.simulation import people
from tests.simulation.bus import StubSubscription
from tests.simulation.bus import Trouble as BusTrouble
from tests.simulation.clocks import Clocks
from tests.simulation.faults import Trouble
from tests.simulation.history import check_history
from tests.simulation.invariants import Watch, check_end
from tests.simulation.kept import check_doors
from tests.simulation.loop import SECOND
from tests.simulation.operating import Operating
from tests.simulation.ports import RuleFails
from tests.simulation.quick import quick
from tests.simulation.robots import Dpo, Gate, Requester
from tests.simulation.scenario import Scenario, draw
from tests.simulation.violations import Violated
from tests.simulation.words import Words
from tests.simulation.world import World

HOUR = 3600 * SECOND
DAY = 24 * HOUR
#: Far more than a healthy world needs; who comes here goes round in circles.
MOST_STEPS = 8_000
LONGEST = 3 * 365 * DAY


@dataclass(frozen=True, slots=True)
class Report:
    """What a schedule came to."""

    seed: int
    counts: Counter[str]
    trace: tuple[str, ...]


class Failed(AssertionError):
    """A schedule broke an invariant; the text says how to see it again."""

    def __init__(self, seed: int, trace: list[str], cause: BaseException) -> None:
        last = "\n".join(trace[-12:])
        super().__init__(
            f"seed {seed}: {type(cause).__name__}: {cause}\n"
            f"replay: python -m tests.simulation --seed {seed} -v\n{last}"
        )
        self.seed = seed
        self.cause = cause
        self.trace = trace
        self.invariant = cause.name if isinstance(cause, Violated) else type(cause).__name__


def run(seed: int, scenario: Scenario | None = None) -> Report:
    """Plays the schedule of a seed. Raises Failed."""
    if scenario is None:
        scenario = draw(random.Random(f"{seed}/scenario"))
    logger = logging.getLogger()
    world = World(seed, scenario)
    level, disabled = logger.level, logger.manager.disable
    logger.addHandler(world.log)
    logger.setLevel(logging.INFO)
    try:
        schedule = Schedule(world)
        with quick(), patch.object(service, "decide", _failing_at_times(world)):
            schedule.play()
        return Report(seed, schedule.summary(), tuple(world.trace))
    except Exception as error:
        raise Failed(seed, world.trace, error) from error
    finally:
        logger.setLevel(level)
        logging.disable(disabled)
        world.close()


def _failing_at_times(world: World) -> Callable[..., Decision]:
    """The saga's rules, one of which fails where the world says so."""

    def deciding(
        saga: Saga | None, event: Event, now: int, rules: Rules, *, doubt: Doubt | None = None
    ) -> Decision:
        if isinstance(event, Confirmed) and event.request_id in world.failing:
            world.failing.discard(event.request_id)
            world.counts["a rule fails"] += 1
            world.tell("a rule fails")
            raise RuleFails
        return decide(saga, event, now, rules, doubt=doubt)

    return deciding


class Schedule:
    """Who acts when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(f"{world.seed}/schedule")
        self.requester = Requester(world, random.Random(f"{world.seed}/requester"))
        self.dpo = Dpo(world, random.Random(f"{world.seed}/dpo"))
        self.trouble = Trouble(world, random.Random(f"{world.seed}/trouble"))
        self.watch = Watch(world, self.requester)
        self.clocks = Clocks(world, self.requester)
        self.words = Words(world, random.Random(f"{world.seed}/words"))
        self.operating = Operating(world, random.Random(f"{world.seed}/operating"))
        world.sandbox.deliver = Gate(world).deliver
        self._to_submit: list[people.Person] = []
        self._steps = 0
        self._is_healed = False
        self._populate()

    def _populate(self) -> None:
        world, scenario = self.world, self.world.scenario
        rng = random.Random(f"{world.seed}/people")
        for number in range(scenario.requests):
            world.people.append(people.make(number, rng, share=scenario.share))
        for number in range(2):
            world.bystanders.append(people.make(8 + number, rng, share=0.9))
        for person in (*world.people, *world.bystanders):
            asks = person in world.people
            people.plant(world.sandbox, person, rng, world.clock(), asks=asks)
            world.counts.update(f"life: {trait}" for trait in person.traits)
        people.plant_taker(world.sandbox, world.taker, world.clock())
        self.trouble.parties()
        self.trouble.vendors()
        self._to_submit = list(world.people)

    # --- the whole ---

    def play(self) -> None:
        scenario = self.world.scenario
        bus = self.world.bus
        bus.trouble = BusTrouble(
            repeats=scenario.bus_repeats,
            lags=scenario.bus_lags,
            rewinds=scenario.bus_rewinds,
            fails=scenario.bus_fails,
        )
        self.requester.submit(self._to_submit.pop(0))
        if scenario.vendor_faults and self.rng.random() < 0.15:
            self.trouble.spell(self.rng.choice(("wrong_account", "no_rights")), self.world.in_play[-1:])
        for _ in range(scenario.steps):
            self._make_trouble()
            self.one_step()
        for person in self._to_submit:
            self.requester.submit(person)
        self._heal()
        unsettled = self._run_down()
        self.watch.check()
        check_end(self.world, self.requester, self.watch, unsettled)
        check_history(self.world, self.dpo.made)
        self.words.check()
        check_doors(self.world)

    def _heal(self) -> None:
        world = self.world
        world.tell("healed")
        world.bus.trouble = BusTrouble()
        world.bus.lag_until.clear()
        world.fuse.left = None
        world.failing.clear()
        world.freezes = None
        self._is_healed = True
        self.trouble.clear()

    def _run_down(self) -> str | None:
        """Until nothing is left to do; the reason if that does not come."""
        world = self.world
        until = world.clock() + LONGEST
        for _ in range(MOST_STEPS):
            if self._work():
                self.one_step()
                continue
            if self.dpo.settle():
                continue
            finished = all(saga.is_finished for saga in world.sagas.values())
            quiet = world.sandbox.store.next_due() is None and world.mailbox.next_try_at() is None
            if finished and quiet and not world.rounds:
                return None
            moment = self._next_moment()
            if moment is None:
                return None if finished else "nothing will ever happen again"
            if moment > until:
                return "it goes on for years" if not finished else None
            self._advance(moment)
        return f"still at work after {MOST_STEPS} steps"

    # --- one step ---

    def has_work(self) -> bool:
        """Whether anybody has something to do at this moment."""
        return bool(self._work())

    def pass_time(self) -> None:
        """Time goes on to the next timer."""
        moment = self._next_moment()
        if moment is None:
            raise AssertionError("nothing will ever happen again")
        self._advance(moment)

    def one_step(self) -> None:
        """Somebody acts, or time goes on."""
        self._steps += 1
        if self.world.spells and not self.world.rounds and (self._is_healed or self.rng.random() < 0.1):
            self.trouble.end_spells()
        if self.world.outages:
            self.trouble.end_outages()
        work = self._work()
        if work:
            self.rng.choice(work)()
        else:
            self._nothing_to_do()
            moment = self._next_moment()
            if moment is not None:
                self._advance(moment)
        self.watch.check()

    def _work(self) -> list[Callable[[], None]]:
        """What there is to do at this moment."""
        world = self.world
        now = world.clock()
        found: list[Callable[[], None]] = []
        if self._orchestrator_has_work(now):
            found.append(self._orchestrate)
        if world.relay_is_due:
            found.append(self._relay)
        if now >= world.frozen_until:
            if len(world.rounds) < 4 and _has_news(world.worker_subscription):
                found.append(self._begin)
            if world.loop.is_ready:
                found += [self._turn, self._turn]
        next_mail = world.mailbox.next_try_at()
        if _has_news(world.mailbox._subscription) or (next_mail is not None and next_mail <= now):
            found.append(self._post)
        due_at = world.sandbox.store.next_due()
        if due_at is not None and due_at <= now:
            found.append(self._tick)
        return found

    def _orchestrator_has_work(self, now: int) -> bool:
        if _has_news(self.world.orchestrator._subscription):
            return True
        return any(saga.wake_at is not None and saga.wake_at <= now for saga in self.world.sagas.values())

    def _next_moment(self) -> int | None:
        world = self.world
        now = world.clock()
        moments = [saga.wake_at for saga in world.sagas.values() if saga.wake_at is not None]
        frozen = now < world.frozen_until
        loop_at = None if frozen else world.loop.next_due_at()
        moments += [
            moment
            for moment in (
                loop_at,
                world.mailbox.next_try_at(),
                world.sandbox.store.next_due(),
                world.bus.next_release_at(),
                world.frozen_until if frozen else None,
                min(world.outages.values(), default=None),
            )
            if moment is not None
        ]
        later = [moment for moment in moments if moment > now]
        return min(later, default=None)

    def _nothing_to_do(self) -> None:
        """Everybody has done all that there is to do, as far as nothing lags and nobody is stopped."""
        world = self.world
        now = world.clock()
        if now >= world.frozen_until and world.bus.next_release_at() is None:
            world.idle_at.append(now)
        self.clocks.check(now)

    # --- the actors ---

    def _orchestrate(self) -> None:
        applied = self.world.step("orchestrator", lambda: self.world.orchestrator.step(0.0))
        self.world.relay_is_due = self.world.relay_is_due or applied is None or applied > 0

    def _relay(self) -> None:
        sent = self.world.step("orchestrator", self.world.relay.step)
        self.world.relay_is_due = sent is None or sent >= self.world.relay_batch

    def _begin(self) -> None:
        self.world.begin_round(self.rng.randint(1, 4))
        self._turn()

    def _turn(self) -> None:
        times = self.rng.choice((1, 5, 20, 60))
        self.world.step("worker", lambda: self.world.turn(times))

    def _post(self) -> None:
        self.world.step("mailbox", lambda: self.world.mailbox.step(0.0))

    def _tick(self) -> None:
        coroutine = self.world.sandbox.tick()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise RuntimeError("the gate took time")

    def _advance(self, moment: int) -> None:
        self.world.clock.advance_to(moment)

    # --- trouble ---

    def _make_trouble(self) -> None:
        world, rng, scenario = self.world, self.rng, self.world.scenario

        def happens(chance: float) -> bool:
            return chance > 0.0 and rng.random() < chance

        if self._to_submit and happens(0.05):
            self.requester.submit(self._to_submit.pop(0))
        if scenario.second_ids and self.requester.asked and happens(scenario.second_ids):
            world.counts["a person asks under another id"] += 1
            self.requester.submit(rng.choice(world.people))
        if world.fuse.left is None and happens(scenario.crashes):
            world.fuse.left = rng.randrange(8)
            world.kills_everything = rng.random() < 0.5
        if happens(scenario.freezes) and world.rounds and not world.counts["effects under way"]:
            micros = rng.choice((1, 13, 30, 100)) * HOUR
            if rng.random() < 0.3:
                world.freeze(micros)
            else:
                world.freezes = (rng.randrange(6), micros)
        if happens(scenario.vendor_faults):
            self.trouble.vendor()
        if happens(scenario.mail_faults):
            self.trouble.mail()
        if happens(scenario.repeats):
            self.requester.trouble()
        if happens(scenario.reappearances):
            self.trouble.reappear()
        if world.sagas and happens(scenario.failing_rules):
            world.failing.add(rng.choice(sorted(world.sagas)))
        if happens(scenario.words):
            self.words.say()
        if happens(scenario.operations):
            self.operating.act()
        if happens(scenario.jumps):
            jump = rng.choice((SECOND, 60 * SECOND, HOUR, 13 * HOUR, 3 * DAY, 20 * DAY))
            world.counts["clock moved on"] += 1
            self._advance(world.clock() + jump)
        if self.dpo.is_asked() and happens(scenario.decisions):
            self.dpo.act(scenario.wrong_decisions)

    def summary(self) -> Counter[str]:
        """What happened, counted."""
        world = self.world
        counts = Counter(world.counts)
        del counts["effects under way"]
        counts += world.bus.seen + self.watch.seen
        counts += Counter({f"killed {point}": number for point, number in world.fuse.points.items()})
        counts["schedules"] += 1
        counts["steps"] += self._steps
        counts["commits"] += sum(" saga " in line for line in world.trace)
        counts["requests"] += len(world.sagas)
        counts["requests at once"] += len(world.sagas) > 1
        counts["mails"] += len(world.mails)
        return +counts


def _has_news(subscription: Subscription | None) -> bool:
    """Whether a step would find records; a role that has not subscribed yet has to."""
    return not isinstance(subscription, StubSubscription) or subscription.has_news()
