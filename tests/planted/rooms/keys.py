"""Keys, seals and signatures: what is sealed opens for its request alone, and keys die when they should."""

from typing import Final

from tests.planted.fault import Fault, fault

_SEALING: Final = "orchestrator.privacy.sealing"
_KEYRING: Final = "orchestrator.privacy.keyring"
_KEYFILE: Final = "orchestrator.privacy.keyfile"
_EXCHANGE: Final = "orchestrator.privacy.exchange"
_SIGNATURES: Final = "orchestrator.privacy.signatures"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "what was sealed for one request opens for another",
        f"{_SEALING}:_bound_to",
        'b"radera/1\\0" + request_id.encode() + b"\\0" + purpose.encode()',
        'b"radera/1\\0" + purpose.encode()',
        "tests/unit/test_privacy_sealing.py::test_the_format_is_as_published",
    ),
    fault(
        "what was sealed for one purpose opens for another",
        f"{_SEALING}:_bound_to",
        'b"radera/1\\0" + request_id.encode() + b"\\0" + purpose.encode()',
        'b"radera/1\\0" + request_id.encode()',
        "tests/unit/test_privacy_sealing.py::test_the_format_is_as_published",
    ),
    fault(
        "an id with a separator is another id and purpose",
        f"{_SEALING}:_bound_to",
        'or "\\0" in request_id + purpose',
        "",
        "tests/unit/test_privacy_sealing.py::test_ambiguous_names_are_refused",
    ),
    fault(
        "the nonce is the same each time",
        f"{_SEALING}:seal_with",
        "os.urandom(_NONCE_BYTES)",
        "bytes(_NONCE_BYTES)",
        "tests/unit/test_privacy_sealing.py::test_no_two_seals_are_the_same",
    ),
    fault(
        "a request's wrapped key opens for another request",
        f"{_KEYRING}:_wrapped_for",
        'struct.pack(">I", number) + request_id.encode()',
        'struct.pack(">I", number)',
        "tests/unit/test_privacy_keyring.py::test_a_wrapped_key_is_for_its_request_and_generation",
    ),
    fault(
        "a dead letter opens as a callback's body",
        f"{_KEYRING}:_installed",
        "+ header + purpose.encode()",
        "+ header",
        "tests/unit/test_privacy_keyring.py::test_callbacks_are_sealed_to_the_installation",
    ),
    fault(
        "the current generation may be forgotten",
        f"{_KEYRING}:Keyring.forget",
        "if number == material.generations[-1].number:",
        "if number == -1:",
        "tests/unit/test_privacy_keyring.py::test_the_current_generation_is_not_forgotten",
    ),
    fault(
        "forgetting keeps the key",
        f"{_KEYRING}:Keyring.forget",
        "if one.number not in generations)",
        ")",
        "tests/unit/test_privacy_keyring.py::test_rotating_keeps_the_old_generation_until_it_is_forgotten",
    ),
    fault(
        "another process's rotation is not seen",
        f"{_KEYRING}:Keyring._fresh",
        "if stamp != self._stamp:",
        "if self._stamp == _UNREAD:",
        "tests/unit/test_privacy_keyring.py::test_another_process_is_followed",
    ),
    fault(
        "new keys are wrapped under the oldest generation",
        f"{_KEYRING}:Keyring.current",
        "generations[-1]",
        "generations[0]",
        "tests/unit/test_privacy_keyring.py::test_a_wrapped_key_is_for_its_request_and_generation",
    ),
    fault(
        "keys that come in two ways are taken",
        f"{_KEYRING}:Keyring.from_secrets",
        "raise KeysTwice",
        "pass",
        "tests/unit/test_privacy_keyring.py::test_keys_that_come_in_two_ways_are_refused",
    ),
    fault(
        "a key file that others can read is used",
        f"{_KEYFILE}:KeyFile._load",
        "mode & (stat.S_IRWXG | stat.S_IRWXO)",
        "mode & stat.S_IRWXO",
        "tests/unit/test_privacy_keyring.py::test_a_file_that_others_can_reach_is_refused",
    ),
    fault(
        "the old key file's bytes stay on the disk",
        f"{_KEYFILE}:KeyFile._replace",
        "_overwrite(old.fileno())",
        "pass",
        "tests/unit/test_privacy_keyring.py::test_a_forgotten_key_is_in_no_file",
    ),
    fault(
        "what a dead process left of the keys stays",
        f"{_KEYFILE}:KeyFile._remove_leftovers",
        "leftover.unlink()",
        "pass",
        "tests/unit/test_privacy_keyring.py::test_a_death_while_creating_leaves_a_whole_file_or_none",
    ),
    fault(
        "a new installation replaces the keys of the old one",
        f"{_KEYFILE}:KeyFile.create",
        "raise KeyFileExists(file=self.path)",
        "pass",
        "tests/unit/test_privacy_keyring.py::test_a_file_is_never_replaced_by_a_new_one",
    ),
    fault(
        "a damaged key file is taken",
        f"{_KEYFILE}:_parse",
        "material if material.is_sound() else None",
        "material",
        "tests/unit/test_privacy_keyring.py::test_a_damaged_file_is_refused_in_silence",
    ),
    fault(
        "a wrapped key opens for any request",
        f"{_EXCHANGE}:_info",
        'b"radera/request-key/1\\0" + request_id.encode()',
        'b"radera/request-key/1\\0"',
        "tests/unit/test_producer.py::test_a_wrapped_key_belongs_to_one_request",
    ),
    fault(
        "one person's requests in clear share a key",
        f"{_EXCHANGE}:Exchange.key_for",
        'request_id.encode() + b"\\0" + clear',
        "clear",
        "tests/unit/test_service_reading.py::test_who_asks_in_clear_twice_has_two_keys",
    ),
    fault(
        "a public key of another suite is used",
        f"{_EXCHANGE}:PublicKey.from_json",
        'said["hpke"] == SUITE_NAME and',
        "",
        "tests/unit/test_producer.py::test_public_keys_travel_as_json",
    ),
    fault(
        "a wrapped key opens under another generation's number",
        f"{_KEYRING}:_wrapped_for",
        'struct.pack(">I", number) + request_id.encode()',
        "request_id.encode()",
        "tests/unit/test_privacy_keyring.py::test_a_generations_number_counts_though_its_key_came_twice",
    ),
    fault(
        "all uses of a master key have one key",
        f"{_KEYRING}:Keyring.derived",
        'derive(generation.key, f"radera/{use}/1")',
        'derive(generation.key, "radera/1")',
        "tests/unit/test_privacy_keyring.py::test_the_uses_of_one_master_key_are_kept_apart",
    ),
    fault(
        "a key of any length is a request's key",
        f"{_EXCHANGE}:Exchange.unwrap",
        "if len(key) != KEY_BYTES:",
        "if not key:",
        "tests/unit/test_producer.py::test_a_key_of_another_length_is_no_key",
    ),
    fault(
        "a signature of another's body counts",
        f"{_SIGNATURES}:check_signature",
        'raise SignatureRefused("signature_invalid") from None',
        "pass",
        "tests/unit/test_privacy_signatures.py::test_what_does_not_hold_is_refused",
    ),
    fault(
        "a short key signs",
        f"{_SIGNATURES}:_key_of",
        "not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SMALLEST_KEY",
        "not isinstance(key, rsa.RSAPrivateKey)",
        "tests/unit/test_privacy_signatures.py::test_a_signer_that_nobody_would_believe_does_not_sign",
    ),
    fault(
        "a certificate of another domain counts",
        f"{_SIGNATURES}:check_signature",
        "if not names(leaf, domain):",
        "if False:",
        "tests/unit/test_privacy_signatures.py::test_what_does_not_hold_is_refused",
    ),
    fault(
        "a certificate that has ended counts",
        f"{_SIGNATURES}:is_in_force",
        "certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc",
        "certificate.not_valid_before_utc <= moment",
        "tests/unit/test_privacy_signatures.py::test_what_does_not_hold_is_refused",
    ),
    fault(
        "a certificate that nobody vouches for counts",
        f"{_SIGNATURES}:check_signature",
        "roots is not None and not _is_issued(chain, domain, at, roots)",
        "False",
        "tests/unit/test_privacy_signatures.py::test_what_does_not_hold_is_refused",
    ),
    fault(
        "a wildcard stands for several labels",
        f"{_SIGNATURES}:names",
        "domain.lower() in known or wildcard in known",
        "domain.lower() in known or any(domain.lower().endswith(one[1:]) for one in known)",
        "tests/unit/test_privacy_signatures.py::test_a_wildcard_stands_for_one_label",
    ),
)
