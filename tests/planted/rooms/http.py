"""Outgoing calls: no erasing without a permit, no way into our own network, no address in an error."""

from typing import Final

from tests.planted.fault import Fault, fault

_CLIENT: Final = "orchestrator.http.client"
_BREAKER: Final = "orchestrator.http.breaker"
_GUARD: Final = "orchestrator.http.guard"
_CALLS: Final = "orchestrator.http.calls"
_FACTORY: Final = "orchestrator.http.factory"

_LATE: Final = "tests/unit/test_http_late.py"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "an erasing call leaves after its time, because the connection was slow",
        f"{_CLIENT}:Client._exchange",
        "extensions=None if permit is None else just_before(permit.may_erase)",
        "extensions=None",
        f"{_LATE}::test_a_permit_that_ends_during_the_handshake_stops_the_call",
        f"{_LATE}::test_a_permit_that_ends_while_a_name_is_looked_up_stops_the_call",
    ),
    fault(
        "the permit is asked when connecting begins, and not when it is done",
        "orchestrator.http.sending:_FIRST_BYTE",
        '_FIRST_BYTE: Final = "send_request_headers.started"',
        '_FIRST_BYTE: Final = "connect_tcp.started"',
        f"{_LATE}::test_a_permit_that_ends_during_the_handshake_stops_the_call",
    ),
    fault(
        "the permit is asked before the wait for a connection",
        f"{_CLIENT}:Client._once",
        "async with self._connection():",
        "if permit is not None:\n    permit.may_erase()\n    permit = None\nasync with self._connection():",
        f"{_LATE}::test_a_permit_that_ends_while_a_connection_is_waited_for_stops_the_call",
    ),
    fault(
        "a wait for a connection of our own is the vendor's silence",
        f"{_CLIENT}:_translated",
        "except httpx.PoolTimeout:\n        raise NotAsked(NO_FREE_CONNECTION, _SOON) from None",
        "except httpx.PoolTimeout:\n    raise Retryable('timeout') from None",
        f"{_LATE}::test_no_free_connection_is_no_silence_of_the_vendors",
    ),
    fault(
        "a connection that is given up is never free again",
        f"{_CLIENT}:Client._connection",
        "finally:\n            self._connections.release()",
        "finally:\n    pass",
        f"{_LATE}::test_connections_that_all_are_taken_are_waited_for_no_longer_than_a_call_may_take",
    ),
    fault(
        "a tunnel of Teredo or 6to4 leads into our own network",
        f"{_GUARD}:_is_public",
        "if ip.is_site_local or ip.sixtofour is not None or ip.teredo is not None:",
        "if ip.is_site_local:",
        "tests/unit/test_http.py::test_the_tunnels_are_refused_whatever_python_calls_them",
    ),
    fault(
        "the repeat after renewed credentials needs no permit",
        f"{_CLIENT}:Client._send",
        'raise Permanent("credentials_refused")\n            answer = await self._once(request, permit)',
        'raise Permanent("credentials_refused")\nanswer = await self._once(request, None)',
        "tests/unit/test_http.py::test_an_erasing_call_asks_its_permit_right_before_each_sending",
    ),
    fault(
        "a redirect is followed",
        f"{_CLIENT}:Client.__init__",
        "follow_redirects=False",
        "follow_redirects=True",
        "tests/unit/test_http.py::test_a_redirect_is_never_followed",
    ),
    fault(
        "an answer of any size is read",
        f"{_CLIENT}:Client._bounded",
        "if size > self._limits.max_body:",
        "if False:",
        "tests/unit/test_http.py::test_an_answer_has_a_size",
    ),
    fault(
        "a refused credential passes by itself",
        f"{_CLIENT}:Client._failure",
        'if status in (401, 403):\n            return Permanent("credentials_refused")',
        'if status in (401, 403):\n    return Retryable("credentials_refused")',
        "tests/unit/test_http.py::test_what_does_not_pass_is_permanent",
    ),
    fault(
        "a server's fault is ours for good",
        f"{_CLIENT}:Client._failure",
        "if status >= 500:",
        "if status > 500:",
        "tests/unit/test_http.py::test_what_may_pass_is_retryable_with_the_time_that_was_asked_for",
    ),
    fault(
        "a wait of a year is kept",
        f"{_CLIENT}:Client.retry_after",
        "min(int(given) * SECOND, MAX_RETRY_AFTER)",
        "int(given) * SECOND",
        "tests/unit/test_http.py::test_what_may_pass_is_retryable_with_the_time_that_was_asked_for",
    ),
    fault(
        "a wait until a date is not kept",
        f"{_CLIENT}:Client.retry_after",
        "return min(max(wait, 0), MAX_RETRY_AFTER)",
        "return None",
        "tests/unit/test_http.py::test_what_may_pass_is_retryable_with_the_time_that_was_asked_for",
    ),
    fault(
        "a refusal counts as silence",
        f"{_CLIENT}:Client._once",
        "verdict.answered = answer.status < 500",
        "verdict.answered = answer.status < 400",
        "tests/unit/test_http_breaker.py::test_only_silence_and_the_vendors_own_faults_open_the_circuit",
    ),
    fault(
        "the circuit opens one failure late",
        f"{_BREAKER}:Breaker._count",
        "self._failures < self._opens_after",
        "self._failures <= self._opens_after",
        "tests/unit/test_http_breaker.py::test_only_silence_and_the_vendors_own_faults_open_the_circuit",
    ),
    fault(
        "an open circuit lets everybody try at once",
        f"{_BREAKER}:Breaker.check",
        'if self._state == "half_open" and self._trying:',
        "if False:",
        "tests/unit/test_http_breaker.py::test_while_one_tries_the_others_wait_and_a_try_without_leave_lets_the_next_one",
    ),
    fault(
        "the pause does not grow",
        f"{_BREAKER}:Breaker._count",
        "min(self._pause * 2, self._longest_pause)",
        "self._pause",
        "tests/unit/test_http_breaker.py::test_a_failed_try_begins_a_longer_pause_up_to_a_limit",
    ),
    fault(
        "a private address is called",
        f"{_GUARD}:_is_public",
        "return ip.is_global and not ip.is_multicast",
        "return not ip.is_multicast",
        "tests/unit/test_http.py::test_a_name_that_leads_into_our_own_network_is_refused",
    ),
    fault(
        "only the first of a name's addresses is checked",
        f"{_GUARD}:Guard.address",
        "all(map(_is_public, found))",
        "all(map(_is_public, found[:1]))",
        "tests/unit/test_http.py::test_a_name_that_leads_into_our_own_network_is_refused",
    ),
    fault(
        "a host beside the list is called",
        f"{_GUARD}:Guard.check",
        "if url.host.lower() not in self.hosts:",
        "if False:",
        "tests/unit/test_http.py::test_an_address_that_is_not_as_agreed_is_refused",
    ),
    fault(
        "a name is resolved again after it was checked",
        f"{_GUARD}:GuardedTransport.handle_async_request",
        "request.url = request.url.copy_with(host=address)",
        "pass",
        "tests/unit/test_http.py::test_the_connection_goes_to_the_address_that_was_checked",
    ),
    fault(
        "a repeated call has another id",
        f"{_CALLS}:Calls.next_id",
        'f"{self.cause}/{self.count}"',
        'f"{id(self)}/{self.count}"',
        "tests/unit/test_http_calls.py::test_each_call_has_an_id_that_a_repeat_has_too",
    ),
    fault(
        "whatever the vendor sends is its id of the call",
        f"{_CALLS}:correlation_of",
        "if _CORRELATION.fullmatch(given):",
        "if given:",
        "tests/unit/test_http_calls.py::test_what_has_not_the_form_of_an_id_is_none",
    ),
    fault(
        "systems of one account have limits of their own",
        f"{_FACTORY}:Clients._rate",
        "if account is None:",
        "if True:",
        "tests/unit/test_http_calls.py::test_systems_of_one_account_share_its_rate",
    ),
    fault(
        "one controller that is away closes all of a system's addresses",
        f"{_FACTORY}:Clients._breaker",
        "(system, urlsplit(base_url).netloc)",
        '(system, "")',
        "tests/unit/test_http_breaker.py::test_each_system_and_each_address_has_its_own",
    ),
    fault(
        "a private address in IPv6 clothes is called",
        f"{_GUARD}:_is_public",
        "if any(ip in network for network in _WITH_IPV4):",
        "if False:",
        "tests/unit/test_http.py::test_a_name_that_leads_into_our_own_network_is_refused",
    ),
    fault(
        "an address shows in an error's cause",
        f"{_CLIENT}:_translated",
        'except httpx.ConnectError:\n        raise Retryable("unreachable") from None',
        'except httpx.ConnectError as error:\n    raise Retryable("unreachable") from error',
        "tests/unit/test_http.py::test_no_error_of_httpx_gets_out",
    ),
    fault(
        "an answer leaves the failures counted",
        f"{_BREAKER}:Breaker.call",
        "self._failures, self._pause = 0, self._first_pause",
        "self._pause = self._first_pause",
        "tests/unit/test_http_breaker.py::test_an_answer_in_between_begins_the_count_anew",
    ),
    fault(
        "an answer's repr shows its body",
        f"{_CLIENT}:Answer",
        "body: bytes = field(repr=False)",
        "body: bytes",
        "tests/unit/test_http.py::test_a_body_that_is_no_json_is_malformed",
    ),
    fault(
        "the permit is asked before the wait and not after it",
        f"{_CLIENT}:Client._once",
        "if self._rate is not None:\n            await self._rate.acquire()",
        "if permit is not None:\n    permit.may_erase()\n    permit = None\nif self._rate is not None:\n"
        "    await self._rate.acquire()",
        "tests/unit/test_http.py::test_a_permit_that_ran_out_while_waiting_for_the_rate_limit_stops_the_call",
    ),
    fault(
        "an address of many is called",
        f"{_GUARD}:_is_public",
        "ip.is_global and not ip.is_multicast",
        "ip.is_global",
        "tests/unit/test_http.py::test_a_name_that_leads_into_our_own_network_is_refused",
    ),
    fault(
        "a public address within IPv6 is refused",
        f"{_GUARD}:_is_public",
        "ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)",
        "return False",
        "tests/unit/test_http.py::test_a_public_address_is_called_however_it_is_written",
    ),
)
