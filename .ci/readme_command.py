"""Print the fenced code block that follows a marker in README.md, so that CI runs what README says.

Use: python .ci/readme_command.py ci:test

The marker is an HTML comment on a line of its own: `<!-- ci:test -->`, and the block comes next.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(readme: str, marker: str) -> str:
    r"""Return the lines of the code block that directly follows a marker.

    Args:
        readme: Text of the page.
        marker: Text of the marking comment, such as `ci:test`.

    Raises:
        ValueError: The marker is missing, there twice or not followed by a code block with a command in it.

    >>> command("Test:\n<!-- ci:test -->\n```bash\nmake test\n```\n", "ci:test")
    'make test\n'
    """
    comment = f"<!-- {marker} -->"
    if (count := readme.count(comment)) != 1:
        raise ValueError(f"{comment} must be there once, and is there {count} times")
    after = readme.partition(comment)[2]
    block = re.match(r"\s*```(?:bash|sh|console|shell)?\n(?P<lines>.*?\S.*?\n)```", after, re.DOTALL)
    if block is None:
        raise ValueError(f"no code block (```bash … ```) with a command in it directly after {comment}")
    return block["lines"]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.stdout.write(command(README.read_text(encoding="utf-8"), sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(f"README.md: {error}")
