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
    """Return one `name==lower` line for every dependency of a pyproject.toml and of its extras but `dev`."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [needs for extra, needs in project["optional-dependencies"].items() if extra != "dev"]
    requirements = sum(extras, start=project["dependencies"])
    bounds = (REQUIREMENT.fullmatch(requirement) for requirement in requirements)
    return sorted({f"{bound['name']}=={bound['lower']}" for bound in bounds if bound})


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(PYPROJECT)) + "\n")
