"""What the example overlay becomes, with secrets made for the occasion."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.tools import DEPLOY, documents, program, run

SOURCE = DEPLOY / "kubernetes"
NEW_SECRETS = DEPLOY / "container" / "new-secrets"
PER_KIND = "../../components/worker-per-kind"
_OPENDSR = ("  # - ../../components/opendsr", "  # - ../../components/mutual-tls")
_OPENDSR_SECRET = """\
secretGenerator:
  - name: radera-opendsr
    files: [secrets/opendsr-key.pem, secrets/opendsr.pem]
  - name: radera-mutual-tls
    files: [secrets/serve-tls.pem, secrets/serve-tls-key.pem, secrets/controllers-ca.pem]
"""


@dataclass(frozen=True, slots=True)
class Built:
    """The manifests, and the settings that they were built with."""

    manifests: list[dict[str, Any]]
    settings: Path

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        return [one for one in self.manifests if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """The one of this name; those with generated names end with a digest."""
        (found,) = [one for one in self.of_kind(kind) if one["metadata"]["name"].startswith(name)]
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods that are made, by the name of what makes them."""
        makers = self.of_kind("Deployment", "Job")
        return {one["metadata"]["name"]: one["spec"]["template"] for one in makers}


def build(directory: Path, *, per_kind: bool = False, opendsr: bool = False) -> Built:
    """Builds the example as its README says, in a copy of it."""
    kustomize = program("kustomize")
    copy = directory / "kubernetes"
    shutil.copytree(SOURCE, copy)
    overlay = copy / "overlays" / "example"
    run(str(NEW_SECRETS), str(overlay / "secrets"))
    file = overlay / "kustomization.yaml"
    if per_kind:
        text = file.read_text()
        assert f"  # - {PER_KIND}\n" in text
        file.write_text(text.replace(f"  # - {PER_KIND}\n", f"  - {PER_KIND}\n"))
    if opendsr:
        text = file.read_text()
        for component in _OPENDSR:
            assert component in text
            text = text.replace(component, component.replace("# ", ""))
        file.write_text(text.replace("secretGenerator:\n", _OPENDSR_SECRET))
    (kustomization,) = documents(file.read_text())
    for secret in kustomization["secretGenerator"]:
        for name in secret.get("files", []):
            (overlay / name).write_text("made for a test")
    return Built(documents(run(kustomize, "build", str(overlay))), overlay / "radera.toml")


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
