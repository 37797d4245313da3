"""Terms are plain functions of named values, bound by parameter name when the environment is built.

A term never sees the environment, so testing one is a call with numbers worked out by hand.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxloco.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Bound:
    """A function whose parameters are resolved: some from named values at each call, the others fixed.

    Attributes:
        function: The term.
        sources: Parameter name → name of the value that it gets.
        constants: Parameter name → fixed value.
    """

    function: Callable[..., Any]
    sources: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, values: Mapping[str, Any], **extra: Any) -> Any:
        """Call the term with the named `values`; `extra` passes parameters that only the caller knows (keys, say)."""
        named = {parameter: values[source] for parameter, source in self.sources.items()}
        return self.function(**named, **self.constants, **extra)


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
    inputs, constants = dict(inputs or {}), dict(constants or {})
    parameters = inspect.signature(function).parameters
    for name in (*inputs, *constants):
        if name not in parameters:
            raise ConfigError(f"{what}: {function.__name__}() takes no {name!r}; it takes {', '.join(parameters)}")
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
    return Bound(function, sources, constants)
