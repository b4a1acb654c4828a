"""The public holidays of the world, of which an installation needs one country's."""

import sys
from importlib.util import find_spec, module_from_spec


def load_one_by_one() -> None:
    """Have the package `holidays` load the countries that are asked for, and no others.

    Left to itself it loads all 250 with the first, which is a sixth of the time that a role takes to start.
    """
    spec = find_spec("holidays.countries")
    if spec is None or spec.loader is None or spec.name in sys.modules:
        return
    countries, loader = module_from_spec(spec), spec.loader

    def load_all(name: str) -> object:
        vars(countries).pop("__getattr__", None)
        loader.exec_module(countries)
        return getattr(countries, name)

    # The modules of single countries are found by its path. Whoever asks it for a name itself gets them all.
    vars(countries)["__getattr__"] = load_all
    sys.modules[spec.name] = vars(sys.modules["holidays"])["countries"] = countries
