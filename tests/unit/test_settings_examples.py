"""The examples and the reference that a new installation begins with are true."""

from pathlib import Path

from handlers.registry import settings_models
from orchestrator.saga.rules import Rules
from orchestrator.service.rules import rules_of
from orchestrator.settings import Settings, load, reference

DEPLOY = Path(__file__).parents[2] / "deploy"
SITES = (
    "smartdok.se",
    "web.smartdok.se",
    "jobbasmartast.se",
    "jobbsmartest.no",
    "support.smartdok.com",
)


def _smartdok() -> Settings:
    return load(DEPLOY / "examples" / "smartdok.toml", settings_models(), {})


def _rules() -> Rules:
    return rules_of(_smartdok())


def test_the_example_loads_as_it_stands() -> None:
    """With no secret set: they are read when they are needed, not when they are named."""
    settings = _smartdok()

    assert "dpo@smartdok.com" == settings.dpo.address
    assert "sv" == settings.installation.language


def test_the_example_considers_every_place_that_the_policy_names() -> None:
    """Both CRMs in order, one property a site, agencies, a customer, and two that hold nothing."""
    systems = _smartdok().systems
    of_kind = {
        kind: [name for name, system in systems.items() if system.kind == kind]
        for kind in ("superoffice", "hubspot", "google_analytics", "recruitment", "tenant", "holds_nothing")
    }

    assert {
        "superoffice": 1,
        "hubspot": 1,
        "google_analytics": 5,
        "recruitment": 2,
        "tenant": 1,
        "holds_nothing": 2,
    } == {kind: len(names) for kind, names in of_kind.items()}
    assert ("superoffice",) == systems["hubspot"].after
    assert list(SITES) == [systems[name].own.site for name in of_kind["google_analytics"]]


def test_a_property_knows_the_sites_of_the_others() -> None:
    """Who gives the cookie of a site that no property has is told so, which takes all of them to know."""
    systems = _smartdok().systems
    first, *others = [name for name, system in systems.items() if system.kind == "google_analytics"]

    assert set(SITES[1:]) == {own.site for own in _smartdok().kin_of(first).values()}
    assert set(others) == set(_smartdok().kin_of(first))
    assert {} == _smartdok().kin_of("superoffice")


def test_the_example_touches_a_customers_data_only_for_that_customer() -> None:
    """A person's own request reaches our systems; a controller's reaches its own and no other."""
    rules = _rules()

    assert "tenant-byggfirman" not in rules.scope_of(None, "controller", None)
    assert ("tenant-byggfirman",) == rules.scope_of(None, "processor", "byggfirman")
    assert set(_smartdok().systems) - {"tenant-byggfirman"} == set(rules.scope_of(None, "controller", None))


def test_the_reference_says_what_the_models_say() -> None:
    """Whoever changes a setting changes its reference; every key has a description."""
    written = (DEPLOY / "README.md").read_text(encoding="utf-8")
    made = reference(settings_models())
    rows = [line for line in made.splitlines() if line.startswith("| `")]

    assert written.endswith("<!-- reference -->\n\n" + made)
    assert len(rows) > 100
    assert [] == [row for row in rows if row.endswith("|  |")]
