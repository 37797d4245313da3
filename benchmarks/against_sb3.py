"""Our PPO against Stable-Baselines3's on the Gymnasium version of the same task: speed, and return after equal steps.

Both get the same number of robots, rollout, mini-batches, epochs, rates and network sizes; Stable-Baselines3 steps all
robots in one call, as a vector environment. Both train in what Gymnasium offers, episodes of full length at full
randomization: without the recipe's curriculum, its wider ranges in training and its shorter episodes. Both policies
then play the same kind of episodes without noise. Seeds are trained alternately, ours first.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import common
from jaxloco.errors import ConfigError

NAME = "against_sb3"
MEASURES = ("env_steps_per_second", "return_mean")


@dataclass(frozen=True)
class Sb3Options:
    """Options of the benchmark.

    Attributes:
        task: Task whose recipe is measured.
        n_envs: Number of robots; the recipe's if 0.
        total_timesteps: Environment steps of each training.
        seeds: Training seeds.
        episodes: Evaluation episodes of each policy.
        out: JSON file of the result; benchmarks/results/against_sb3.json if not given.
    """

    task: str = "upkie-balance"
    n_envs: int = 0
    total_timesteps: int = 300_000
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 100
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "total_timesteps", "episodes")
        if not self.seeds:
            raise ConfigError("seeds: at least one is needed")


def main(arguments: Sequence[str]) -> int:
    """Measure our PPO against Stable-Baselines3's: against-sb3 [options]."""
    return common.command(NAME, Sb3Options(), arguments, main.__doc__, run, show)


def run(own: Sb3Options) -> dict[str, Any]:
    """Train every seed with both; plain JSON values.

    Raises:
        ConfigError: Stable-Baselines3 is not installed.
    """
    try:
        import stable_baselines3  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("this benchmark needs Stable-Baselines3: pip install stable-baselines3") from None
    from jaxloco.tasks import recipe

    config = recipe(own.task)
    config = replace(config, n_envs=own.n_envs or config.n_envs, total_timesteps=own.total_timesteps)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "sb3": []}
    for seed in own.seeds:
        for name, train in (("ours", train_here), ("sb3", train_there)):
            runs[name].append(train(replace(config, seed=seed), own.episodes))
            print(f"seed {seed}, {name}: {runs[name][-1]}", flush=True)
    figures = {
        name: {measure: common.spread([one[measure] for one in many]) for measure in MEASURES}
        for name, many in runs.items()
    }
    speeds = zip(*([one[MEASURES[0]] for one in runs[name]] for name in ("ours", "sb3")), strict=True)
    return {
        **common.ran_with(config),
        "task": own.task,
        "n_envs": config.n_envs,
        "total_timesteps": own.total_timesteps,
        "seeds": list(own.seeds),
        "same_episodes": True,
        **figures,
        "ours_over_sb3": common.spread([a / b for a, b in speeds], 3),
    }


def train_here(config: Any, episodes: int) -> dict[str, float]:
    """Train with our loop, compilation not counted, in episodes like those of Gymnasium, and evaluate."""
    from jaxloco.training import evaluation

    training = common.Training(replace(config, physics="auto"), as_evaluated(config.task.spec()))
    training.state = training.state._replace(robots=begun_as_evaluated(training))
    wall = common.seconds(lambda: training(config.iterations))
    played = evaluation.evaluate(training.env, training.agent, training.state, episodes, seed=1)
    assert played is not None
    figures = evaluation.summarize(training.env, played)
    return _figures(config.iterations * config.steps_per_iteration / wall, figures["return_mean"])


def as_evaluated(spec: Any) -> Any:
    """Return an environment whose episodes are as long in training, and whose curriculum is over at once."""
    return replace(spec, training_seconds=None, curriculum=replace(spec.curriculum, progress_until=1e-6))


def begun_as_evaluated(training: common.Training) -> Any:
    """Return robots that begin a training with the ranges of evaluations, those of training left aside."""
    import jax

    from jaxloco.envs import batch

    begin = partial(batch.reset, training.env, n_envs=training.config.n_envs, full=True)
    return jax.jit(begin)(jax.random.PRNGKey(training.config.seed))


def train_there(config: Any, episodes: int) -> dict[str, float]:
    """Train with Stable-Baselines3, and evaluate."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

    from jaxloco.interop.gymnasium import GymVectorEnv
    from jaxloco.interop.stable_baselines3 import Sb3VecEnv

    class Scaled(Sb3VecEnv):
        """The recipe's scale of rewards, which Stable-Baselines3 has no option for."""

        def step_wait(self) -> Any:
            observation, reward, done, infos = super().step_wait()
            return observation, config.algorithm.reward_scale * reward, done, infos

    env = config.task.spec().build("auto")
    robots: Any = Scaled(GymVectorEnv(config.n_envs, env=env))
    if config.algorithm.normalize_observation:
        robots = VecNormalize(robots, norm_reward=False, clip_obs=config.algorithm.observation_clip)
    model = PPO("MlpPolicy", robots, device="cpu", seed=config.seed, **sb3_options(config))
    robots.reset()
    robots.step(np.zeros((config.n_envs, env.action_size)))  # compiles
    wall = common.seconds(lambda: model.learn(config.iterations * config.steps_per_iteration))
    speed = model.num_timesteps / wall
    return _figures(speed, play(model, robots, GymVectorEnv(episodes, env=env)))


def sb3_options(config: Any) -> dict[str, Any]:
    """Return Stable-Baselines3's options for one of our configurations."""
    import torch

    ppo, network = config.algorithm, config.network
    activations = {"elu": torch.nn.ELU, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "swish": torch.nn.SiLU}
    rate: Any = ppo.learning_rate
    if ppo.learning_rate_schedule == "linear":
        last, first = ppo.learning_rate_final, ppo.learning_rate
        rate = lambda remaining: last + remaining * (first - last)  # noqa: E731
    shared = ("n_steps", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef", "max_grad_norm")
    return {
        **{name: getattr(ppo, name) for name in shared},
        "learning_rate": rate,
        "batch_size": ppo.split_batch(config.n_envs)[1],
        "policy_kwargs": {
            "net_arch": {"pi": list(network.net_arch_pi), "vf": list(network.net_arch_vf)},
            "activation_fn": activations[network.activation_fn],
            "log_std_init": network.log_std_init,
        },
    }


def play(model: Any, normalizer: Any, robots: Any) -> float:
    """Let the policy play one episode per robot, without noise; return the mean return, unscaled."""
    observation, _ = robots.reset(seed=1)
    returns, alive = np.zeros(robots.num_envs), np.ones(robots.num_envs, bool)
    normalize = getattr(normalizer, "normalize_obs", lambda x: x)
    while alive.any():
        action, _ = model.predict(normalize(observation), deterministic=True)
        observation, reward, terminated, truncated, _ = robots.step(action)
        returns += alive * reward
        alive &= ~(terminated | truncated)
    return float(returns.mean())


def _figures(speed: float, return_mean: float) -> dict[str, float]:
    return dict(zip(MEASURES, (float(speed), float(return_mean)), strict=True))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    rows = [
        [f"{name}: {measure}", *(f"{result[name][measure][key]:,g}" for key in ("median", "min", "max"))]
        for name in ("ours", "sb3")
        for measure in MEASURES
    ]
    ratio = result["ours_over_sb3"]
    rows.append(["ours ÷ sb3, speed", *(f"{ratio[key]:g}" for key in ("median", "min", "max"))])
    return common.table(("", "median", "min", "max"), rows)


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
