"""What pytest leaves out of the collection of doctests: modules whose package is not installed."""

from importlib.util import find_spec

NEEDS = {
    "jaxloco/interop/stable_baselines3.py": "stable_baselines3",
    "jaxloco/physics/warp.py": "warp",
    "jaxloco/internals/warp_kernels.py": "warp",
}
collect_ignore = [path for path, package in NEEDS.items() if not find_spec(package)]
