"""The parts of OpenDSR, put together for the role that serves."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.cli.assembly import Ground
from orchestrator.http import Clients
from orchestrator.intake import Producer
from orchestrator.intake.opendsr import SOURCE, OpenDsr
from orchestrator.intake.opendsr_callbacks import Callbacks
from orchestrator.intake.opendsr_controllers import Addresses, Controllers, controllers_of
from orchestrator.intake.outbox import Outbox
from orchestrator.metrics import Metrics
from orchestrator.privacy import Exchange, PrivacyError
from orchestrator.privacy.signatures import Signer
from orchestrator.saga.clocks import due_at
from orchestrator.secret import SecretUnavailable
from orchestrator.settings import Settings
from orchestrator.store import AskedRequests


@dataclass(frozen=True, slots=True)
class Parts:
    """The endpoints, and what calls back."""

    endpoints: OpenDsr
    callbacks: Callbacks


def unable_to_sign(ground: Ground) -> str | None:
    """Why controllers would get no answer; None where all is well, or no controller may ask.

    No reason to stay down: a certificate that expired must not keep everybody else's erasures waiting.
    """
    signer = _signer(ground.settings)
    try:
        if signer is not None:
            signer.certificate(ground.store.now())
    except (PrivacyError, SecretUnavailable) as error:
        return f"opendsr: {error}"
    return None


def _signer(settings: Settings) -> Signer | None:
    if settings.opendsr is None:
        return None
    return Signer(
        domain=urlsplit(settings.installation.public_url).hostname or "",
        key=settings.opendsr.key,
        certificate=settings.opendsr.certificate,
    )


def make_opendsr(
    ground: Ground, metrics: Metrics, clients: Callable[[], Clients] | None = None
) -> Parts | None:
    """None where the settings have no `[opendsr]`."""
    settings = ground.settings
    signer = _signer(settings)
    if settings.opendsr is None or signer is None:
        return None
    now = ground.store.now
    calendar = ground.rules.calendar
    controllers = Controllers(controllers_of(settings.systems))
    addresses = Addresses(ground.keyring.digest_key)
    register = AskedRequests(ground.store)
    exchange = Exchange(ground.keyring)
    endpoints = OpenDsr(
        controllers=controllers,
        register=register,
        saga=ground.store.saga,
        addresses=addresses,
        digests=ground.digests,
        producer=lambda: Producer(exchange.public_key(), source=SOURCE, clock=now),
        bus=Outbox(ground.store),
        signer=signer,
        due_at=lambda received_at: due_at(received_at, calendar),
        public_url=settings.installation.public_url,
        language=settings.installation.language,
        clock=now,
        metrics=metrics,
    )
    callbacks = Callbacks(
        listeners=register,
        saga=ground.store.saga,
        controllers=controllers,
        addresses=addresses,
        signer=signer,
        settings=settings.opendsr,
        clients=clients or (lambda: Clients(clock=now)),
        clock=now,
        metrics=metrics,
    )
    return Parts(endpoints, callbacks)
