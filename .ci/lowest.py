"""Print the oldest versions that pyproject.toml allows, as a constraints file (the tools in `dev` aside).

Use: pip install -c <(python .ci/lowest.py) -e ".[dev]" && pytest -n 2
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[.*\])?>=(?P<lower>[\w.]+),<(?P<upper>[\w.]+)")


def lowest(pyproject: Path) -> list[str]:
    """Return one `name==lower` line for every dependency of a pyproject.toml and of its extras but `dev`.

    Where an extra asks for a newer version of a dependency, that one counts.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [needs for extra, needs in project["optional-dependencies"].items() if extra != "dev"]
    requirements = sum(extras, start=project["dependencies"])
    bounds = [bound for requirement in requirements if (bound := REQUIREMENT.fullmatch(requirement))]
    lower = {}
    for bound in sorted(bounds, key=lambda bound: [int(part) for part in bound["lower"].split(".")]):
        lower[bound["name"]] = bound["lower"]
    return sorted(f"{name}=={version}" for name, version in lower.items())


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(PYPROJECT)) + "\n")
