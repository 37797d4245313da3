"""What pytest leaves out of the collection of doctests: modules that need a package of no extra of ours."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("stable_baselines3") else ["jaxloco/interop/stable_baselines3.py"]
