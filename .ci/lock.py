"""Write constraints.txt: the newest versions that pyproject.toml allows, for every supported Python.

Use: python .ci/lock.py python3.10 python3.11 python3.12 python3.13

Each argument is an interpreter with pip; nothing is installed. Name all supported Pythons, from old to new: a
version that differs between them gets an environment marker.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Exact versions of everything that jaxloco needs, written by `python .ci/lock.py`; do not edit by hand.
# Use:  pip install -c constraints.txt -e ".[dev]"
"""
ROBOT_ONLY = ("3.10",)
"""Pythons that run policies and train none: what the extras need is not for them."""


def resolve(python: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter's `major.minor` and the version pip would install there, by package name."""
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    python_version = subprocess.check_output([python, "-c", show], text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        extras = "" if python_version in ROBOT_ONLY else "[dev,cuda,tune]"
        subprocess.run([*pip, "--report", str(report), f"{ROOT}{extras}"], check=True)
        installed = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    versions = {item["name"].lower().replace("_", "-"): item["version"] for item in installed}
    del versions["jaxloco"]
    return python_version, versions


def constraint_lines(name: str, by_python: dict[str, str]) -> list[str]:
    """Return the constraints of one package, given its version for each Python from old to new.

    >>> constraint_lines("jax", {"3.11": "0.10.2", "3.12": "0.12.0", "3.13": "0.12.0"})
    ['jax==0.10.2; python_version < "3.12"', 'jax==0.12.0; python_version >= "3.12"']
    """
    pythons = list(by_python)
    lines = []
    for version in dict.fromkeys(by_python.values()):
        having = [python for python in pythons if by_python[python] == version]
        after = pythons[pythons.index(having[-1]) + 1 :][:1]
        bounds = [f'python_version >= "{having[0]}"'] if having[0] != pythons[0] else []
        bounds += [f'python_version < "{after[0]}"'] if after else []
        lines.append(f"{name}=={version}" + (f"; {' and '.join(bounds)}" if bounds else ""))
    return lines


def main(pythons: list[str]) -> None:
    """Resolve with every interpreter and write constraints.txt."""
    resolved = dict(resolve(python) for python in pythons)
    names = sorted(set().union(*resolved.values()))
    lines = [
        line
        for name in names
        for line in constraint_lines(name, {p: found[name] for p, found in resolved.items() if name in found})
    ]
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
