"""Automatic domain randomization (ADR): ranges that widen where the policy copes with their ends.

Each range that grows with "adr" is a dimension with two boundaries, low and high, which begin at its nominal value (or
`start` of the way) and may reach its two ends. Half of the episodes are probes: one dimension, drawn at random, has the
value of one of its boundaries. When enough probes of a boundary have ended, it moves outwards if most of them survived,
inwards if many fell, and the count begins anew.

See `jaxloco.envs.cohorts` for what is counted.

Source: Akkaya et al. 2019, "Solving Rubik's Cube with a Robot Hand", arXiv 1910.07113, section 5 and algorithm 1.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.checks import FRACTION, POSITIVE, Limits, check_fields
from jaxloco.envs import cohorts
from jaxloco.envs.cohorts import Cohorts
from jaxloco.errors import ConfigError

if TYPE_CHECKING:
    from jaxloco.envs.curriculum import Range

SIDES = ("low", "high")


class Dimension(NamedTuple):
    """A range that grows by itself.

    Attributes:
        name: Of the range.
        start: Share of its width at the beginning.
        sides: Which of its ends in training are away from its nominal value: 0 for low, 1 for high.
    """

    name: str
    start: float
    sides: tuple[int, ...]


class AdrState(NamedTuple):
    """Where the D dimensions stand.

    Attributes:
        widths: How far each boundary is from nominal to its end, 0 to 1, the same for all robots, (D, 2).
        probes: Results of the episodes at each boundary.
    """

    widths: jax.Array
    probes: Cohorts


@dataclass(frozen=True)
class Adr:
    """When boundaries move.

    Attributes:
        probing: Share of episodes that have one dimension at one of its boundaries.
        episodes: Probes of a boundary after which it is decided on (m).
        step: By how much of the way from nominal to its end a boundary moves (Δ).
        widen: Share of probes survived from which it moves outwards (t_H).
        narrow: Share up to which it moves inwards (t_L).
        dimensions: The ranges; the environment fills them in.
    """

    probing: Annotated[float, FRACTION] = 0.5
    episodes: Annotated[int, POSITIVE] = 32
    step: Annotated[float, Limits(above=0.0, at_most=1.0)] = 0.1
    widen: Annotated[float, FRACTION] = 0.9
    narrow: Annotated[float, FRACTION] = 0.6
    dimensions: tuple[Dimension, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.narrow >= self.widen:
            raise ConfigError(f"adr: narrow = {self.narrow:g}: must be below widen = {self.widen:g}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def boundaries(self) -> dict[str, int]:
        """Boundary, by name → its place in the table, counted through."""
        sides = (
            (place, dimension, side) for place, dimension in enumerate(self.dimensions) for side in dimension.sides
        )
        return {f"{dimension.name}_{SIDES[side]}": 2 * place + side for place, dimension, side in sides}

    def begin(self, count: int) -> AdrState:
        """Return the state of N robots, leading axis N."""
        widths = jnp.array([[dimension.start] * 2 for dimension in self.dimensions], jnp.float32)
        one = AdrState(widths, cohorts.start((len(self.dimensions), 2)))
        state: AdrState = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)
        return state

    def drawn(self, state: AdrState, key: jax.Array) -> AdrState:
        """Return the state of an episode that is drawn now: with a probe, or without. Random key (2,)."""
        chance, place = jax.random.split(key)
        known = jnp.array(list(self.boundaries.values()), jnp.int32)
        probe = jnp.where(jax.random.uniform(chance) < self.probing, jax.random.choice(place, known), cohorts.NONE)
        return state._replace(probes=cohorts.drawn(state.probes, probe, state.widths))

    def begun(self, now: AdrState, drawn: AdrState) -> AdrState:
        """Return the state of an episode that begins now and was drawn some time ago."""
        return now._replace(probes=cohorts.begun(now.probes, drawn.probes, now.widths))

    def ended(self, state: AdrState, survived: jax.Array) -> AdrState:
        """Return the state after an episode. Whether it survived, ()."""
        return state._replace(probes=cohorts.ended(state.probes, survived))

    def count(self, state: AdrState) -> jax.Array:
        """Return what N robots, leading axis N, add; see `cohorts.count`."""
        return cohorts.count(state.probes)

    def decide(self, state: AdrState, counts: jax.Array) -> AdrState:
        """Move the boundaries whose probes have all ended.

        Args:
            state: Of N robots, leading axis N.
            counts: What the robots on all devices have added (see `count`), (3, D, 2).
        """
        probes, complete, share = cohorts.gathered(state.probes, counts, self.episodes)
        move = jnp.where(share >= self.widen, self.step, jnp.where(share <= self.narrow, -self.step, 0.0))
        widths = jnp.clip(state.widths[0] + jnp.where(complete, move, 0.0), 0.0, 1.0)
        return AdrState(jnp.broadcast_to(widths, state.widths.shape), cohorts.anew(probes, complete))

    def metrics(self, state: AdrState) -> dict[str, jax.Array]:
        """Return the widths by name, and their mean; of N robots, leading axis N."""
        widths = state.widths[0].ravel()
        each = {f"adr/{name}": widths[place] for name, place in self.boundaries.items()}
        return {**each, "adr/mean": jnp.mean(jnp.stack(list(each.values())))}


def bounds(
    state: AdrState, place: int, nominal: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the two ends of dimension `place` in this episode: both the same where it is the one that is probed."""
    width = state.widths[place]
    low, high = nominal + width[0] * (low - nominal), nominal + width[1] * (high - nominal)
    at_low, at_high = state.probes.place == 2 * place, state.probes.place == 2 * place + 1
    return jnp.where(at_high, high, low), jnp.where(at_low, low, high)


def dimensions_of(parts: Any) -> tuple[Dimension, ...]:
    """Return the ranges that grow with "adr" in (nested) data, in order of their names.

    Raises:
        ConfigError: Two different ranges have one name.
    """
    found: dict[str, Range] = {}
    for span in _ranges(parts):
        if found.setdefault(span.name, span) != span:
            raise ConfigError(f'two different ranges grow with "adr" under the name {span.name!r}; rename one of them')
    dimensions = (_dimension(found[name]) for name in sorted(found))
    return tuple(dimension for dimension in dimensions if dimension.sides)


def _dimension(span: "Range") -> Dimension:
    ends = span.training or (span.low, span.high)
    nominal = 0.5 * (ends[0] + ends[1]) if span.nominal is None else span.nominal
    sides = tuple(side for side, end in enumerate(ends) if end != nominal)
    return Dimension(span.name, span.start, sides)


def _ranges(part: Any) -> Iterator["Range"]:
    if getattr(part, "grows", None) == "adr":
        yield part
    elif dataclasses.is_dataclass(part):
        for entry in dataclasses.fields(part):
            yield from _ranges(getattr(part, entry.name))
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _ranges(value)
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for value in part:
            yield from _ranges(value)
