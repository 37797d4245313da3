"""Files that are written whole or not at all."""

import os
import secrets
from pathlib import Path


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file in one go: a reader, or a kill at any moment, finds the old file or the new one.

    Args:
        path: The file; its folder exists. Others may write it at the same time.
        content: What it is to hold.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
