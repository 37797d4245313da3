"""Train a policy: `python train.py [TASK] [options]` is `jaxloco train [TASK] [options]`, from a checkout."""

import sys

from jaxloco.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
