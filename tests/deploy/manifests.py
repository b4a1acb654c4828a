"""`python -m tests.deploy.manifests` validates the manifests: `make check` does it, and no test does again.

* They are those of the example, as it is and with all that it leaves to choose.
* Kubernetes takes them, the oldest version that they are for and the newest that the validator knows, and
  with no field that it doesn't know.
* The Prometheus operator's kinds are not Kubernetes' own: their schemas lie beside them, for the fields
  that we use.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.kubernetes import SOURCE, build
from tests.deploy.tools import documents, package

OLDEST = "1.30"
SCHEMAS = SOURCE / "components" / "monitoring" / "schemas.yaml"


def faults(manifests: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with each: its kind and name, where, and what."""
    kubernetes, jsonschema = package("kubernetes_validate"), package("jsonschema")
    (schemas,) = documents(SCHEMAS.read_text())
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in schemas:
            checked = jsonschema.Draft202012Validator(schemas[manifest["kind"]])
            for error in checked.iter_errors(manifest):
                yield f"{name}: {error.json_path}: {error.message}"
            continue
        for version in (OLDEST, kubernetes.latest_version()):
            try:
                kubernetes.validate(manifest, version, strict=True)
            except kubernetes.ValidationError as error:
                yield f"{name}, Kubernetes {version}: {error.json_path}: {error.message}"
            except kubernetes.SchemaNotFoundError as error:
                yield f"{name}, Kubernetes {version}: {error.message}"


def everything() -> list[dict[str, Any]]:
    """All manifests that there are, each once."""
    chosen = ({"per_kind": False, "opendsr": False}, {"per_kind": True, "opendsr": True})
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as side_by_side:
        built = side_by_side.map(
            lambda number: build(Path(folder) / str(number), **chosen[number]), range(len(chosen))
        )
        made = [manifest for one in built for manifest in one.manifests]
    return list({repr(manifest): manifest for manifest in made}.values())


def main() -> int:
    """The command."""
    try:
        manifests = everything()
        found = list(faults(manifests))
    except pytest.skip.Exception as why:
        sys.stderr.write(f"NOT VALIDATED: the manifests, since {why}\n")
        return 0
    except pytest.fail.Exception as why:
        found = [str(why)]
        manifests = []
    sys.stdout.write("".join(f"{one}\n" for one in found) or f"{len(manifests)} manifests are valid\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
