"""Where this copy of jaxloco came from, and so how to install what an optional part of it needs.

NumPy and the standard library suffice: a robot runs this too.
"""

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def pip_install(*extras: str) -> str:
    """Return the command that adds what optional parts need to this copy of jaxloco.

    Args:
        extras: Names of `[project.optional-dependencies]`, such as "train".
    """
    names = ",".join(extras)
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{checkout}[{names}]')}"
    return f"pip install {shlex.quote(_requirement(_origin(), names))}"


def _requirement(origin: dict[str, Any], extras: str) -> str:
    """Return what pip installs, of what it wrote down when it installed this copy.

    >>> _requirement({}, "train")
    'jaxloco[train]'
    >>> _requirement({"url": "file:///home/me/jaxloco-0.1.0-py3-none-any.whl"}, "train,view")
    '/home/me/jaxloco-0.1.0-py3-none-any.whl[train,view]'
    >>> git = {"vcs": "git", "requested_revision": "v0.1.0"}
    >>> _requirement({"url": "https://example.org/jaxloco.git", "vcs_info": git}, "train")
    'jaxloco[train] @ git+https://example.org/jaxloco.git@v0.1.0'
    """
    url, source = str(origin.get("url", "")), origin.get("vcs_info", {})
    if not url:
        return f"jaxloco[{extras}]"
    if source:
        revision = source.get("requested_revision")
        url = f"{source['vcs']}+{url}" + (f"@{revision}" if revision else "")
    if url.startswith("file:"):
        return f"{unquote(urlsplit(url).path)}[{extras}]"
    return f"jaxloco[{extras}] @ {url}"


def _origin() -> dict[str, Any]:
    """Return what `direct_url.json` says (PyPA, "Recording the Direct URL Origin"); empty for a package index."""
    try:
        found = json.loads(metadata.distribution("jaxloco").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
