"""Train policies for legged and wheeled-legged robots, and run them on the robot with NumPy only.

    env = jaxloco.make("go1-velocity")        # its environment: reset and step
    trained = jaxloco.train("go1-velocity")   # a run folder, with the bundle for the robot
    policy = jaxloco.load("policies/upkie-balance")
    command = policy.act(readings)
    figures = jaxloco.evaluate(trained)
    bundle = jaxloco.export(trained, "policy")

Importing `jaxloco` imports nothing heavy: these functions are in `jaxloco.library`, which is imported when one of them
is used. See `jaxloco.onboard` for the robot's side.
"""

__version__ = "0.1.0"

__all__ = ["Trained", "evaluate", "export", "load", "make", "recipe", "train"]

TYPE_CHECKING = False  # of typing, without importing it
if TYPE_CHECKING:
    from jaxloco.library import Trained, evaluate, export, load, make, recipe, train
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from jaxloco import library

        return getattr(library, name)

    def __dir__() -> list[str]:
        return [*globals(), *__all__]
