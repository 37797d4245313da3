"""`python -m jaxloco`, the same as `jaxloco`: for environments whose scripts are not on the path."""

import sys

from jaxloco.cli import main

if __name__ == "__main__":
    sys.exit(main())
