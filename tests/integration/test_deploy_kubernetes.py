"""The manifests: locked down, and in agreement with the program and with one another."""

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli.assembly import load_settings
from orchestrator.cli.main import main
from orchestrator.cli.roles import ALL, DRAIN, Roles
from orchestrator.cli.up import _check_systems
from orchestrator.privacy import Keyring
from orchestrator.settings import MutualTls
from tests.deploy import manifests, operator
from tests.deploy.kubernetes import NEW_SECRETS, SOURCE, Built, build, containers
from tests.deploy.manifests import faults
from tests.deploy.tools import DEPLOY, program, run

SECRETS = "/run/secrets/radera/"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def per_kind(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("per-kind"), per_kind=True)


def test_what_is_wrong_with_a_manifest_is_found(example: Built) -> None:
    """`make check` validates them all, and passes what it doesn't find: a field or a kind that nobody knows,
    a number for a name, a rule that is two things or waits without being an alert. Each by name and place.
    """
    monitor = example.named("PodMonitor", "radera")
    deployment, rule = example.named("Deployment", "serve"), example.named("PrometheusRule", "radera")
    assert [] == list(faults([deployment, monitor, rule]))

    wrong = copy.deepcopy([deployment, monitor, rule])
    wrong[0]["spec"]["replica"] = 2
    (endpoint,) = wrong[1]["spec"]["podMetricsEndpoints"]
    endpoint["port"] = 8080
    del endpoint["relabelings"][0]["targetLabel"]
    record, alert = (wrong[2]["spec"]["groups"][number]["rules"][0] for number in (0, 1))
    record["for"] = "5m"
    alert |= {"record": "both", "for": "five minutes"}
    found = "\n".join(faults([*wrong, {**deployment, "apiVersion": "apps/v2"}]))

    for where in (
        "Deployment serve, Kubernetes 1.30: $.spec: ",
        "PodMonitor radera: $.spec.podMetricsEndpoints[0].port: ",
        "PodMonitor radera: $.spec.podMetricsEndpoints[0].relabelings[0]: 'targetLabel'",
        "PrometheusRule radera: $.spec.groups[0].rules[0]: False schema does not allow '5m'",
        "PrometheusRule radera: $.spec.groups[1].rules[0]: ",
        "PrometheusRule radera: $.spec.groups[1].rules[0].for: 'five minutes'",
        "Deployment serve, Kubernetes 1.30: Couldn't find schema",
    ):
        assert where in found, found


def test_manifests_that_nobody_can_validate_are_not_called_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without kustomize it is said at home, and `make check` goes on; under CI it fails."""
    monkeypatch.setattr(manifests, "everything", lambda: program("no-such-program"))
    monkeypatch.delenv("CI", raising=False)
    assert 0 == manifests.main()
    assert "NOT VALIDATED" in capsys.readouterr().err
    monkeypatch.setenv("CI", "1")
    assert 1 == manifests.main()
    assert "no-such-program is missing" in capsys.readouterr().out


def test_every_role_has_its_pods(example: Built) -> None:
    """What the pods are told to run is what the program knows."""
    told = {name: pod["spec"]["containers"][0].get("args") for name, pod in example.pods().items()}
    upgrade = example.pods()["database-upgrade"]["spec"]["initContainers"][0]["args"]

    assert {role: [role] for role in ALL} == {role: told[role] for role in ALL}
    assert isinstance(main, click.Group)
    for words in [*(told[name] for name in (*ALL, "topics-apply")), upgrade]:
        command: click.Command = main
        for word in words:
            assert isinstance(command, click.Group)
            command = command.commands[word]


def test_pods_can_do_nothing_that_they_need_not(example: Built, per_kind: Built) -> None:
    """No root, no capability, nothing to write but memory, no token for Kubernetes, a limit to the memory."""
    for pod in [*example.pods().values(), *per_kind.pods().values()]:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
        assert all(
            set(volume) & {"configMap", "projected"} or "Memory" == volume["emptyDir"]["medium"]
            for volume in spec["volumes"]
        )
        for container in containers(pod):
            assert {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            } == container["securityContext"]
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
    labels = example.named("Namespace", "radera")["metadata"]["labels"]
    assert "restricted" == labels["pod-security.kubernetes.io/enforce"]


def test_pods_are_asked_how_they_are_and_get_time_to_stop(example: Built) -> None:
    """A process that can't reach its database is not restarted, only not counted on; one that is told to stop
    can finish what it has in hand.
    """
    stop = inspect.signature(Roles.stop).parameters["limit"].default
    for role in ALL:
        pod = example.pods()[role]["spec"]
        (container,) = pod["containers"]
        paths = [
            container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
        ]
        assert ["/healthz", "/healthz", "/readyz"] == paths
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= before + max(stop, DRAIN) + 15
    assert "lifecycle" in example.pods()["serve"]["spec"]["containers"][0]


def test_everything_that_is_referred_to_exists(example: Built) -> None:
    """A pod whose secret or settings are missing never starts."""
    there = {(one["kind"], one["metadata"]["name"]) for one in example.manifests}
    for pod in example.pods().values():
        text = repr(pod)
        secrets = set(re.findall(r"'secretKeyRef': \{'key': '\w+', 'name': '([^']+)'", text))
        sources = (one["projected"]["sources"] for one in pod["spec"]["volumes"] if "projected" in one)
        secrets |= {one["secret"]["name"] for those in sources for one in those}
        assert {("Secret", name) for name in secrets} <= there
        maps = set(re.findall(r"'configMap(?:Ref)?': \{'name': '([^']+)'", text))
        assert {("ConfigMap", name) for name in maps} <= there
        assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in there


def test_each_role_gets_the_secrets_that_it_needs_and_no_others(example: Built) -> None:
    """Whoever breaks into what is open to the world finds no vendor's token."""
    files = set(re.findall(rf'"{SECRETS}([^"]+)"', example.settings.read_text()))
    mounted = {name: _files(example, pod) for name, pod in example.pods().items()}
    kafka, account = {"kafka-ca.pem", "kafka-password"}, {"database-password"}
    every_role = kafka | account | {"master-keys", "digest-key"}

    assert files == mounted["worker"]
    assert every_role | {"smtp-password"} == mounted["mailbox"]
    assert [every_role] * 2 == [mounted[name] for name in ("serve", "orchestrator")]
    assert [kafka, kafka | account] == [mounted[name] for name in ("topics-apply", "database-upgrade")]
    accounts = {role: _account(example.pods()[role]) for role in (*ALL, "database-upgrade")}
    expected: dict[str, str] = {role: role for role in ALL}
    assert expected | {"database-upgrade": "owner"} == accounts


def _files(built: Built, pod: dict[str, Any]) -> set[str]:
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "secrets"]
    found = set[str]()
    for secret in (source["secret"] for source in volume["projected"]["sources"]):
        there = built.named("Secret", secret["name"])["data"]
        paths = {item["key"]: item["path"] for item in secret.get("items", [])}
        assert set(paths) <= set(there)
        found |= set(paths.values()) or set(there)
    return found


def test_no_secret_is_a_variable(example: Built, per_kind: Built) -> None:
    """Variables are shown by many a tool and inherited by every child; files are for our group alone. The
    name of the database's account is no secret.
    """
    for pod in [*example.pods().values(), *per_kind.pods().values()]:
        for container in containers(pod):
            assert all("secretRef" not in source for source in container.get("envFrom", []))
            named = [one["valueFrom"]["secretKeyRef"]["key"] for one in container.get("env", [])]
            assert named in ([], ["PGUSER"])
        (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "secrets"]
        assert 0o440 == volume["projected"]["defaultMode"]
        assert pod["spec"]["securityContext"]["runAsGroup"] == pod["spec"]["securityContext"]["fsGroup"]


def _account(pod: dict[str, Any]) -> str:
    """Whose account in the database the pod has."""
    found = set(re.findall(r"'radera-database-(\w+)-\w+'", repr(pod)))
    assert 1 == len(found), found
    return str(found.pop())


def test_the_settings_are_right(example: Built) -> None:
    """The example's settings are read by the program itself, and answer on the port that is asked."""
    settings = load_settings(example.settings)

    assert ("0.0.0.0", 8080) == (settings.http.host, settings.http.port)  # noqa: S104 - in a pod of its own
    assert settings.kafka is not None
    assert settings.database.url.startswith("postgresql+psycopg://")


def test_a_worker_for_each_kind_serves_all_its_systems(per_kind: Built) -> None:
    """Instead of the one for all, and together they leave nothing out."""
    settings = load_settings(per_kind.settings)
    workers = {name: pod for name, pod in per_kind.pods().items() if name.startswith("worker")}
    served: list[str] = []
    for pod in workers.values():
        role, flag, systems = pod["spec"]["containers"][0]["args"]
        assert ("worker", "--systems") == (role, flag)
        _check_systems(settings, systems.split(","))
        served += systems.split(",")

    assert {
        f"worker-{kind}" for kind in ("google-analytics", "hubspot", "recruitment", "superoffice", "tenant")
    } == set(workers)
    assert sorted(settings.systems) == sorted(served)
    budgets = {one["metadata"]["name"] for one in per_kind.of_kind("PodDisruptionBudget")}
    assert {*workers, "mailbox", "orchestrator", "serve"} == budgets


def test_whoever_selects_pods_finds_some(example: Built, per_kind: Built) -> None:
    """A selector that fits nothing protects, balances and lets through nothing."""
    for built in (example, per_kind):
        labels = [pod["metadata"]["labels"] for pod in built.pods().values()]
        for one in built.of_kind(
            "Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "PodMonitor"
        ):
            spec = one["spec"]
            selector = spec.get("podSelector", spec.get("selector"))
            wanted = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
            assert wanted or "matchExpressions" in selector, one["metadata"]["name"]
            fitting = [
                have
                for have in labels
                if wanted.items() <= have.items()
                and all(
                    have.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
                )
            ]
            assert fitting, one["metadata"]["name"]
            if one["kind"] in ("Deployment", "PodDisruptionBudget"):
                assert 1 == len(fitting), one["metadata"]["name"]


def test_the_world_reaches_answers_and_callbacks_alone(example: Built) -> None:
    """Metrics and readiness say how we are doing; they are for us."""
    ingress = example.named("Ingress", "radera")["spec"]
    paths = [path["path"] for rule in ingress["rules"] for path in rule["http"]["paths"]]

    assert ["/answer/", "/callbacks/"] == paths
    assert ingress["tls"][0]["hosts"] == [rule["host"] for rule in ingress["rules"]]
    settings = load_settings(example.settings)
    assert settings.installation.public_url == f"https://{ingress['rules'][0]['host']}"


def test_controllers_reach_opendsr_where_it_is_wanted(tmp_path: Path) -> None:
    """Its paths beside the others, the keys for serve alone, a way out for callbacks, and a way in for client
    certificates that no proxy ends.
    """
    built = build(tmp_path, opendsr=True)
    paths = [path["path"] for path in built.named("Ingress", "radera")["spec"]["rules"][0]["http"]["paths"]]
    assert ["/answer/", "/callbacks/", "/v2/", "/v1/", "/opendsr/"] == paths
    for key in ("opendsr-key.pem", "serve-tls-key.pem"):
        assert {"serve"} == {name for name, pod in built.pods().items() if key in _files(built, pod)}
    out = built.named("NetworkPolicy", "radera-callbacks-out")["spec"]
    assert {"app.kubernetes.io/component": "serve"} == out["podSelector"]["matchLabels"]
    (container,) = built.pods()["serve"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {"http": 8080, "controllers": MutualTls.model_fields["port"].default} == ports
    assert {"http"} == {
        container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    (way,) = built.named("Service", "controllers")["spec"]["ports"]
    (let_in,) = built.named("NetworkPolicy", "radera-controllers-in")["spec"]["ingress"]
    assert ["controllers"] * 2 == [way["targetPort"], let_in["ports"][0]["port"]]


def test_copies_are_as_what_they_were_copied_from() -> None:
    """The operator's rules and the grants are kept in two forms, of which one is the source."""
    assert operator.text() == operator.FILE.read_text(), "run `python -m tests.deploy.operator`"
    assert (DEPLOY / "postgresql" / "grants.sql").read_text() == (SOURCE / "base" / "grants.sql").read_text()


def test_the_operator_gives_the_labels_that_the_rules_go_by(example: Built) -> None:
    """Alerts and the dashboard ask for the job "radera" and a role."""
    (endpoint,) = example.named("PodMonitor", "radera")["spec"]["podMetricsEndpoints"]
    assert {"job": "radera"}.items() <= {
        one["targetLabel"]: one.get("replacement") for one in endpoint["relabelings"]
    }.items()
    assert {"job", "role"} == {one["targetLabel"] for one in endpoint["relabelings"]}
    ports = example.pods()["serve"]["spec"]["containers"][0]["ports"]
    assert endpoint["port"] in {port["name"] for port in ports}


def test_secrets_are_made_once_and_never_kept_in_git(tmp_path: Path) -> None:
    """What is there is never replaced: a database without its keys is lost. The keys open a keyring."""
    program("openssl")
    run(str(NEW_SECRETS), str(tmp_path))
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    run(str(NEW_SECRETS), str(tmp_path))

    assert first == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    keys = dict(line.split("=", 1) for line in first["keys.env"].decode().splitlines())
    keyring = Keyring.from_environment(keys)
    assert keyring is not None
    assert [1] == [one.number for one in keyring.generations]
    assert 0 == (tmp_path / "keys.env").stat().st_mode & 0o077
    kept = SOURCE / "overlays" / "example" / "secrets" / ".gitignore"
    assert "*\n!.gitignore\n!README.md\n" == kept.read_text()
