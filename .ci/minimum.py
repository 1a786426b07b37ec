"""Print what pyproject.toml declares as the minimum of every dependency, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<version>[0-9]+(\.[0-9]+)*)(;.*)?")


def minimum(project: dict[str, Any]) -> dict[str, str]:
    """Version by package, of the table ``[project]``: all extras, less the package itself.

    A requirement that says anything but one ``>=``, or not the same in every extra, is an error.
    """
    found: dict[str, str] = {}
    for extra in [project["dependencies"], *project["optional-dependencies"].values()]:
        for text in (text for text in extra if not text.startswith(f"{project['name']}[")):
            match = REQUIREMENT.fullmatch(text)
            if match is None:
                raise ValueError(f"pyproject.toml: {text!r} is not NAME>=VERSION; its minimum cannot be tested.")
            name, version = match["name"], match["version"]
            if found.setdefault(name, version) != version:
                raise ValueError(f"pyproject.toml: {name} has two minimums, {found[name]} and {version}.")
    return found


if __name__ == "__main__":
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, version in minimum(declared).items():
        print(f"{name}=={version}")
