"""Terms are plain functions of named values, bound by parameter name when the environment is built.

A term never sees the environment, so testing one is a call with numbers worked out by hand.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from jax.errors import ConcretizationTypeError, TracerArrayConversionError

from jaxloco.errors import ConfigError, short, unknown_name


@dataclass(frozen=True)
class Bound:
    """A function whose parameters are resolved: some from named values at each call, the others fixed.

    Attributes:
        function: The term.
        sources: Parameter name → name of the value that it gets.
        constants: Parameter name → fixed value.
        what: The term's name, for messages.
    """

    function: Callable[..., Any]
    sources: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    what: str = "a term"

    def __call__(self, values: Mapping[str, Any], **extra: Any) -> Any:
        """Call the term with the named `values`; `extra` passes parameters that only the caller knows (keys, say).

        Raises:
            ConfigError: It computes with Python or NumPy what JAX has to compile.
        """
        named = {parameter: values[source] for parameter, source in self.sources.items()}
        try:
            return self.function(**named, **self.constants, **extra)
        except (ConcretizationTypeError, TracerArrayConversionError) as error:
            raise ConfigError(
                f"{self.what}: {self.function.__name__}() cannot be compiled, as it needs the value of an array; write "
                "jnp.exp and the like for those of NumPy, jnp.where for if and else, & and | for and and or, no float()"
            ) from error


def bind(
    function: Callable[..., Any],
    known: Collection[str],
    *,
    what: str,
    kind: str = "quantity",
    inputs: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    given: Collection[str] = (),
) -> Bound:
    """Resolve each parameter of `function`.

    Args:
        function: A term.
        known: Names that exist (quantities, or model fields for randomization).
        what: The term's name, for messages.
        kind: What the names in `known` are, for messages.
        inputs: Parameter → known name, where they differ.
        constants: Parameter → fixed value.
        given: Parameters that the caller will pass itself.

    Raises:
        UnknownNameError: A parameter names nothing known.
        ConfigError: A constant or an input that the function does not take.
    """
    parameters = _parameters(function, what, inputs or {}, constants or {})
    inputs, constants = dict(inputs or {}), dict(constants or {})
    sources = {}
    for name, parameter in parameters.items():
        if name in constants or name in given:
            continue
        source = inputs.get(name, name)
        if source in known:
            sources[name] = source
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in inputs:
            if parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{what}: {function.__name__}() needs the constant {name!r}")
        elif parameter.default is inspect.Parameter.empty or name in inputs:
            raise ConfigError(f"{what}: {unknown_name(kind, source, known)}")
    return Bound(function, sources, constants, what)


def names_read(function: Callable[..., Any], inputs: Mapping[str, str]) -> set[str]:
    """Return what `bind` looks the parameters of a term up as, constants and defaults included."""
    return {inputs.get(name, name) for name in inspect.signature(function).parameters}


def _parameters(function: Any, what: str, inputs: Any, constants: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    if not callable(function):
        raise ConfigError(f"{what}: expected a function, not {short(repr(function))}; name it without calling it")
    if not isinstance(inputs, Mapping):
        raise ConfigError(f"{what}: inputs takes parameter → name, {{'error': 'pitch'}}, not {short(repr(inputs))}")
    parameters = inspect.signature(function).parameters
    for name in (*inputs, *constants):
        if name not in parameters:
            raise ConfigError(f"{what}: {function.__name__}() takes no {name!r}; it takes {', '.join(parameters)}")
    return parameters
