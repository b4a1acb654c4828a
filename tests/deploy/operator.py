"""`python -m tests.deploy.operator` writes the rules anew in the form that the Prometheus operator reads."""

import textwrap

from tests.deploy.tools import DEPLOY

RULES = DEPLOY / "prometheus" / "rules" / "radera.yaml"
FILE = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rule.yaml"

_HEAD = """\
# Made from deploy/prometheus/rules/radera.yaml; change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: radera
  labels: {app.kubernetes.io/name: radera}
spec:
"""


def text() -> str:
    """What the file has to hold."""
    rules = RULES.read_text()
    return _HEAD + textwrap.indent(rules[rules.index("groups:") :], "  ")


if __name__ == "__main__":
    FILE.write_text(text())
