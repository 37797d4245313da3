"""Settings proposed by Optuna's sampler, from what those before have reached."""

from collections.abc import Sequence
from typing import Any

from jaxloco.comparison.variations import Settings, Span, Variation
from jaxloco.errors import JaxlocoError
from jaxloco.installation import pip_install


def propose(
    variations: Sequence[Variation], tried: Sequence[tuple[Settings, float]], *, lower_is_better: bool, seed: int
) -> Settings:
    """Return the next settings to try.

    The study is built anew each time from what was tried, so a sweep that goes on later needs nothing but its results.

    Args:
        variations: What varies.
        tried: Settings so far, and what they reached.
        lower_is_better: Whether less is better.
        seed: Of the sampler.

    Raises:
        JaxlocoError: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise JaxlocoError(f"{error}; --tuner optuna needs it: {pip_install('train', 'tune')}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=(seed + len(tried)) % 2**32)
    study = optuna.create_study(direction="minimize" if lower_is_better else "maximize", sampler=sampler)
    spaces = {variation.key: _space(optuna, variation) for variation in variations}
    for settings, value in tried:
        values = {v.key: _told(v, settings[v.key]) for v in variations}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=spaces, value=value))
    found = study.ask(spaces).params
    return {v.key: v.rounded(found[v.key]) if isinstance(v, Span) else v.values[found[v.key]] for v in variations}


def _space(optuna: Any, variation: Variation) -> Any:
    if not isinstance(variation, Span):
        return optuna.distributions.CategoricalDistribution(range(len(variation.values)))
    kind = optuna.distributions.IntDistribution if variation.whole else optuna.distributions.FloatDistribution
    return kind(variation.low, variation.high, log=variation.log)


def _told(variation: Variation, value: Any) -> Any:
    """Return a value as Optuna knows it: of several values the place, for they may be lists."""
    return value if isinstance(variation, Span) else variation.values.index(value)
