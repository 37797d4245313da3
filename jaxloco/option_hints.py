"""What to write in place of an option that does not exist: by its sound, or by what other trainers call it."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

_ELSEWHERE = {
    "batch_size": "minibatch_size",
    "clip_range": "clip_coef clip_param clipping_epsilon",
    "ent_coef": "entropy_coef entropy_cost",
    "gae_lambda": "lam",
    "gamma": "discounting",
    "learning_rate": "lr",
    "n_envs": "envs num_envs",
    "n_epochs": "num_learning_epochs num_updates_per_batch update_epochs",
    "n_minibatches": "num_mini_batches num_minibatches",
    "n_steps": "num_steps num_steps_per_env unroll_length",
    "name": "experiment_name run_name",
    "out": "log_dir logdir outdir output output_dir run_dir save_dir",
    "reward_scale": "reward_scaling",
    "total_timesteps": "iterations max_iterations num_timesteps steps timesteps total_steps",
    "vf_coef": "value_loss_coef",
}
OURS = {other: ours for ours, others in _ELSEWHERE.items() for other in others.split()}
"""Names of options in other trainers (brax, rsl_rl, CleanRL) → the last part of ours."""

_VALUES_OF_FLAGS = ("true", "false", "yes", "no", "on", "off", "1", "0")


def option_name(key: str) -> str:
    """Return the command-line option of a dotted key.

    >>> option_name("ppo.learning_rate")
    '--ppo.learning-rate'
    """
    return "--" + key.replace("_", "-")


def hints(words: Sequence[str], keys: Iterable[str], flags: Iterable[str]) -> Iterator[str]:
    """Yield a line for each word of a command line that is no option and looks like one, or is a flag's value.

    Args:
        words: The arguments.
        keys: Dotted keys of all options.
        flags: Those of them that take no value.

    >>> list(hints(["--lr", "3e-4"], ["seed", "ppo.learning_rate"], []))
    ['--lr: did you mean --ppo.learning-rate?']
    >>> list(hints(["--estimator.fed", "true"], ["estimator.fed"], ["estimator.fed"]))
    ['--estimator.fed takes no value: write --estimator.fed, or --estimator.no-fed']
    """
    known, switches = list(keys), set(flags)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, given = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or key in {"", "help", "config"}:
            continue
        if key in switches and (given if equals else following).lower() in _VALUES_OF_FLAGS:
            yield f"{option} takes no value: write {option_name(key)}, or {option_name(_negative(key))}"
        elif key not in known and key not in map(_negative, switches) and (close := _closest(key, known)):
            yield f"{option}: did you mean {' or '.join(map(option_name, close))}?"


def strays(words: Sequence[str], most: Mapping[str, int | None]) -> list[str]:
    """Return the words of a command line behind an option that are neither options nor the values of one.

    Args:
        words: The arguments.
        most: Options by their dotted keys → how many values they take; None for any number.

    >>> strays(["--json", "a", "--seed", "1", "b", "--range", "0", "1"], {"json": 0, "seed": 1, "range": None})
    ['a', 'b']
    """
    found: list[str] = []
    remaining: int | None = None
    for word in words:
        if word.startswith("--"):
            option, equals, _ = word.removeprefix("--").partition("=")
            remaining = 0 if equals else most.get(option.replace("-", "_"))
        elif remaining == 0:
            found.append(word)
        elif remaining is not None:
            remaining -= 1
    return found


def _closest(key: str, known: Sequence[str]) -> list[str]:
    last = key.rpartition(".")[2]
    wanted = {last, OURS.get(last, last)}
    alike = [name for name in known if name.rpartition(".")[2] in wanted]
    return alike[:3] or difflib.get_close_matches(key, known, n=1, cutoff=0.6)


def _negative(key: str) -> str:
    path, dot, last = key.rpartition(".")
    return f"{path}{dot}no_{last}"
