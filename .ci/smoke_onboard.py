"""Run an exported policy as a robot does: the installed wheel, NumPy and nothing else.

Use: python -I .ci/smoke_onboard.py BUNDLE…, in an environment with nothing but the wheel and NumPy.
"""

import importlib.metadata
import importlib.util
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("brax", "flax", "gymnasium", "jax", "matplotlib", "mujoco", "optax", "scipy", "torch", "tyro")
STEPS = 1000


def check_environment() -> None:
    """Check that this is the environment of a robot."""
    found = [name for name in HEAVY if importlib.util.find_spec(name)]
    assert not found, f"not a robot's environment: {found} can be imported here"


def check_package() -> None:
    """Check that the import is light and that the robots are inside the installed package."""
    import jaxloco

    added = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
    assert "numpy" not in added, "import jaxloco imports numpy"
    folder = Path(jaxloco.__file__).parent
    assert "site-packages" in folder.parts, f"jaxloco comes from {folder}, not from the wheel"
    assert jaxloco.__version__ == importlib.metadata.version("jaxloco")
    for file in ("robot.toml", "robot.xml", "SOURCE.md"):
        assert (folder / "_robots" / "upkie" / file).is_file(), f"the wheel has no robots/upkie/{file}"


def check_import() -> None:
    """Check that the robot's side adds NumPy to the standard library and nothing else."""
    before = set(sys.modules)
    start = time.perf_counter()
    import jaxloco.onboard  # noqa: F401

    seconds = time.perf_counter() - start
    added = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
    import numpy

    # NumPy 1's modules in Cython leave some of their own: cython_runtime and _cython_<version>.
    foreign = {name for name in added - {"jaxloco", "numpy"} if "cython" not in name}
    assert not foreign, f"jaxloco.onboard imports {sorted(foreign)}"
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {python}, NumPy {numpy.__version__}, import jaxloco.onboard: {seconds:.3f} s")


def check_policy(bundle: Path) -> None:
    """Check that the policy is the one that was trained, and that it acts within its bounds."""
    import jaxloco

    policy = jaxloco.load(bundle)
    print(f"{policy.spec.task}: largest difference from the golden answers {policy.verify():.1e}")
    given = [item for item in policy.spec.inputs if item.source != "policy"]
    inputs = {item.name: 0.0 if item.size == 1 else [0.0] * item.size for item in given}
    policy.reset()
    start = time.perf_counter()
    for _ in range(STEPS):
        outputs = policy.act(inputs)
    print(f"act: {(time.perf_counter() - start) / STEPS * 1e6:.1f} µs a step, {sorted(inputs)} -> {sorted(outputs)}")
    assert set(outputs) == {item.name for item in policy.spec.outputs}
    for value in outputs.values():
        assert all(math.isfinite(x) for x in ([value] if isinstance(value, float) else value))


def check_tampering(bundle: Path) -> None:
    """Check that a changed bundle is refused with the error made for it."""
    from jaxloco.onboard import BundleError, Policy

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(bundle, Path(folder) / "bundle"))
        with (copy / "policy.npz").open("r+b") as file:
            file.truncate(100)
        try:
            Policy.load(copy)
        except BundleError as error:
            print(f"a truncated bundle is refused: {error}")
        else:
            raise AssertionError("a truncated bundle was loaded")


class Still:
    """A robot of any kind that stands still."""

    def __init__(self, spec) -> None:
        given = [item for item in spec.inputs if item.source != "policy"]
        self.readings = {item.name: 0.0 if item.size == 1 else [0.0] * item.size for item in given}

    def reset(self):
        """Return the reading of a robot that stands still."""
        from jaxloco.onboard import Reading

        return Reading(self.readings, time.perf_counter())

    def step(self, outputs):
        """Do nothing."""
        return self.reset()

    def close(self) -> None:
        """Let go of nothing."""


def check_command(bundle: Path) -> None:
    """Check that `jaxloco run` runs the policy and records it."""
    from jaxloco.cli import main as jaxloco
    from jaxloco.onboard import Policy
    from jaxloco.onboard.clients import ClientMapping, register

    spec = Policy.load(bundle).spec
    inputs, outputs = ({item.name: item.unit for item in items} for items in (spec.inputs, spec.outputs))
    make = lambda env_id, spec, env_kwargs, seed: Still(spec)  # noqa: E731
    register(ClientMapping("Still", spec.robot, inputs, outputs, make, lambda env_id: True))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        assert jaxloco(["run", str(bundle), "--env", "Still", "--seconds", "0.2", "--log", str(log)]) == 0
        assert len(log.read_text().splitlines()) == 1 + round(0.2 * spec.control_frequency)


def check_name() -> None:
    """Check that the wheel holds the policies, and that they are found by name."""
    from jaxloco.library import bundle_of
    from jaxloco.onboard import Policy

    Policy.load(bundle_of("upkie-balance")).verify()


def main(bundles: list[Path]) -> None:
    """Run every check in turn."""
    check_environment()
    check_package()
    check_import()
    for bundle in bundles:
        check_policy(bundle)
    check_tampering(bundles[0])
    check_command(bundles[0])
    check_name()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
