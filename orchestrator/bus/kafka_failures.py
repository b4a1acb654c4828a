"""What a failure of the library's means to whoever runs Radera.

* What the settings can mend is told with the setting to mend, and has a code for the log.
* Of all else only the type is told: the library's and the broker's texts may quote what they were given.
"""

import ssl
from collections.abc import Iterator

from kafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from orchestrator.bus.port import BusUnavailable
from orchestrator.secret import SecretUnavailable

# What OpenSSL calls a certificate that is trusted, for another name (X509_V_ERR_…_MISMATCH).
_OTHER_HOST = frozenset({62, 64})


# What a renewed secret or certificate can mend.
_REFUSALS = frozenset({"login_refused", "certificate_refused", "certificate_untrusted"})


class HungUp(Exception):
    """A connection was open, and ended when something was asked."""


class NoToken(KafkaError):  # type: ignore[misc]  # the library has no types
    """There is no token where the settings say: a connection fails for it, and its client goes on."""


def unavailable(what: str, error: BaseException) -> BusUnavailable:
    """That `what` went wrong, and why."""
    told = _told(error)
    if told is None:
        return BusUnavailable(f"{what}: {type(error).__name__}")
    code, text = told
    return BusUnavailable(f"{what}: {text}", code=code)


def is_telling(error: BaseException | None) -> bool:
    """Whether there is more to it than that a broker is away."""
    return error is not None and _told(error) is not None


def is_refusal(error: BaseException | None) -> bool:
    """Whether the one side does not take the other for who it says that it is."""
    told = None if error is None else _told(error)
    return told is not None and told[0] in _REFUSALS


def _told(error: BaseException) -> tuple[str, str] | None:
    match error:
        case SaslAuthenticationFailedError():
            return "login_refused", (
                "the brokers refused our login; see to kafka.username and kafka.password, or to kafka.token"
            )
        case UnsupportedSaslMechanismError():
            return "login_unknown", "the brokers take no login of this kind; see to kafka.mechanism"
        case IllegalSaslStateError():
            return "login_unasked", (
                "the brokers take no login at this port; see to kafka.servers, or leave out kafka.mechanism"
            )
        case NoToken(__cause__=SecretUnavailable() as cause):
            return "secret_unavailable", str(cause)
        case HungUp():
            return "hung_up", (
                "the brokers hang up, or answer something else; do they want TLS (kafka.security), or a login"
                " (kafka.mechanism)?"
            )
    return next((told for one in _behind(error) if (told := _of_tls(one)) is not None), None)


def _of_tls(error: ssl.SSLError) -> tuple[str, str] | None:
    """The text of a verification is OpenSSL's own, and names at most the host that the settings name."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        if error.verify_code in _OTHER_HOST:
            return "certificate_of_another", (
                f"the brokers' certificate is for another host ({why}); name them in kafka.servers as it does"
            )
        return "certificate_untrusted", (
            f"the brokers' certificate is not trusted ({why}); name its authority in kafka.ca_file"
        )
    if "_ALERT_" in reason:
        why = reason.partition("_ALERT_")[2].lower().replace("_", " ")
        return "certificate_refused", (
            f"the brokers refused our side of TLS ({why}); do they know clients by certificate? See to"
            " kafka.certificate_file and kafka.key_file"
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or reason == "WRONG_VERSION_NUMBER":
        return "no_tls", (
            "TLS could not be agreed on; do the brokers speak it at this port? See to kafka.servers and"
            " kafka.security"
        )
    return None


def _behind(error: BaseException | None) -> Iterator[ssl.SSLError]:
    """What of TLS the library's error was made from: it says so in one way or another."""
    while error is not None:
        for one in (error, *error.args):
            if isinstance(one, ssl.SSLError):
                yield one
        error = error.__cause__
