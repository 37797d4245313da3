"""Gives MkDocs the repository's own tree, so that links between pages hold on the site as they do on a code host.

README.md is the home page, pages keep their paths, and notebooks are shown as Markdown with their stored outputs.
"""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SHOWN = (
    "*.md",
    "Dockerfile",
    "LICENSE",
    "docs/*.css",
    "docs/**/*.md",
    "docs/**/*.png",
    "docs/**/*.gif",
    "notebooks/*.ipynb",
    "policies/*/README.md",
    "policies/*/curves.png",
    "robots/*/SOURCE.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the files of the repository in the place of those in `docs_dir`."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path.relative_to(ROOT) for pattern in SHOWN for path in ROOT.glob(pattern)})
    return Files([*theme, *(_file(path, config) for path in paths)])


def _file(path: Path, config: MkDocsConfig) -> File:
    if path.suffix != ".ipynb":
        return File(path.as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
    file = File.generated(config, path.as_posix(), content=as_markdown(json.loads((ROOT / path).read_text("utf-8"))))
    file.dest_uri = f"{path.with_suffix('').as_posix()}/index.html"
    file.is_documentation_page = lambda: True  # type: ignore[method-assign]
    return file


def as_markdown(notebook: dict[str, Any]) -> str:
    """Return a notebook, as its JSON says, as Markdown."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _parts(cell))


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source.replace("<details>", '<details markdown="1">')]
    return [f"```python\n{source}\n```", *filter(None, map(_output, cell["outputs"]))]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"].split())
        return f'<img alt="output of the cell" src="data:image/png;base64,{picture}">'
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
