"""Terrain: one grid of heights, made of tiles, one row per level of difficulty and one column per kind.

Levels go along x, kinds along y; around the tiles lies a level border. The outline of every tile is at height 0, so
that neighbours fit. A robot starts in the middle of a square tile, or at the low end of a strip, whose obstacles lie
across its way along x. Imports NumPy, not JAX: `jaxloco.envs.ground` does.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jaxloco.errors import ConfigError, unknown_name

Span = tuple[float, float]

MAX_CELLS = 16_000_000
"""A larger grid takes more than 64 MB, and is in the memory of every compiled program."""

RIM = 0.3
"""Width of the level outline of tiles with steps, obstacles or holes, m."""

BANK = 0.3
"""Width of the level ground between the platform and the first gap, m."""

PAUSE = (0.9, 1.4)
"""Level ground between two obstacles of a strip, m."""

HURDLE = 0.2
"""Depth of a hurdle at its foot, m; its top is two cells shorter."""

STONE_WIDTH = 1.6
"""Width of the tilted stones of a strip, m; the rest of the strip is as deep as the gaps between them."""

WAY = 1.25
"""Distance of the waypoints of a strip along x, about, m."""

SWAY = 0.3
"""Largest distance of a waypoint from the middle line of its strip, m."""

EDGE = 0.05
"""How near an edge counts as on it, m (Cheng et al. 2024, arXiv:2309.14341)."""


@dataclass(frozen=True)
class Terrain:
    """Options of the terrain. Pairs are the values at the first and at the last level.

    Attributes:
        kinds: Kinds of tiles, one column each: rough, stairs_up, stairs_down, obstacles, stones, gaps, slopes, flat;
            or of strips: gap_strip, step_strip, hurdle_strip, tilted_strip, flat_strip; with none the floor is level
            and has no end.
        levels: Levels of difficulty, one row each.
        tile: Side length of a tile, or length of a strip, m.
        width: Width of a strip, m.
        cell: Side length of a cell of the height grid, m.
        border: Width of the level border, m.
        platform: Side length of the level square in the middle of a tile where a robot starts, or length of the level
            ground at both ends of a strip, m.
        slope: Rise over run of slopes; they lead up from the middle at even levels, down at odd ones. Tilt of the
            stones of a strip, alternately to the left and to the right.
        roughness: Largest height of random rough ground above and below its mean, m.
        step: Height of a step of stairs, m.
        step_depth: Depth of a step of stairs, m.
        obstacle: Height (and depth) of discrete obstacles; height of hurdles, m.
        stone: Side length of stepping stones, or length of tilted ones, m, half of the two walls included.
        stone_gap: Gap between stones, m, from the middle of one wall to that of the other: a cell wider at the top.
        gap: Width of gaps, m: of a strip from brim to brim, of tiles as `stone_gap`.
        depth: Depth of gaps, and between stepping stones, m.
        seed: Seed of the terrain's random shapes.
        up: Fraction of the commanded distance that a robot must walk to go a level up.
        down: Fraction of the commanded distance below which it goes a level down.
        start_level: Highest level at the beginning of a training; each robot begins at a random one up to it.
        evaluation_level: Level of all robots in an evaluation; -1 for a random level per robot.
        particles: Levels of each kind at a time, which a particle filter moves to where 50 to 90 % of the episodes pass
            (Lee et al. 2020: 10); 0 to move each robot's level by its own episodes.
    """

    kinds: tuple[str, ...] = ()
    levels: int = 10
    tile: float = 8.0
    width: float = 3.0
    cell: float = 0.05
    border: float = 4.0
    platform: float = 1.5
    slope: Span = (0.05, 0.4)
    roughness: Span = (0.01, 0.06)
    step: Span = (0.02, 0.12)
    step_depth: float = 0.35
    obstacle: Span = (0.02, 0.12)
    stone: Span = (0.7, 0.35)
    stone_gap: Span = (0.05, 0.15)
    gap: Span = (0.05, 0.25)
    depth: Span = (0.05, 0.4)
    seed: int = 0
    up: float = 0.7
    down: float = 0.5
    start_level: int = 0
    evaluation_level: int = -1
    particles: int = 0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in _MAKERS:
                raise unknown_name("kind of terrain", kind, _MAKERS)
        if not self.is_strips and STRIPS.keys() & set(self.kinds):
            raise ConfigError(
                f"terrain.kinds {self.kinds}: strips and square tiles cannot be mixed; write one or other"
            )
        if len(set(self.kinds)) != len(self.kinds):
            raise ConfigError(f"terrain.kinds {self.kinds}: each kind may stand once")
        self._check_numbers()
        self._check_sizes()
        for kind in self.kinds:
            self._check_kind(kind)
        self._check_levels()

    def _check_numbers(self) -> None:
        for name, low in _LOWEST.items():
            value, high = getattr(self, name), _HIGHEST.get(name, math.inf)
            values = value if isinstance(value, tuple) else (value,)
            kind = numbers.Integral if name in _WHOLE else numbers.Real
            fits = all(isinstance(v, kind) and math.isfinite(v) and low <= float(v) <= high for v in values)
            if len(values) != (2 if name in _SPANS else 1) or not fits:
                what = "two numbers" if name in _SPANS else "a whole number" if name in _WHOLE else "a number"
                most = f" and at most {high:g}" if name in _HIGHEST else ""
                raise ConfigError(f"terrain.{name} {value}: {what} of at least {low:g}{most} is needed")

    def _check_sizes(self) -> None:
        coarsest = 0.5 * min(self.step_depth, *self.stone)
        if self.cell > coarsest:
            raise ConfigError(
                f"terrain.cell {self.cell:g} m is too coarse for steps of {self.step_depth:g} m and stones of "
                f"{min(self.stone):g} m; write at most {coarsest:.6g}, such as 0.05"
            )
        for name in ("tile", "width") if self.is_strips else ("tile",):
            side = getattr(self, name)
            if abs(side / self.cell - round(side / self.cell)) > 1e-6:
                good = self.cell * max(1, round(side / self.cell))
                raise ConfigError(
                    f"terrain.{name} {side:g} m is no multiple of terrain.cell {self.cell:g} m; write {good:g}"
                )
        if self.platform + 2.0 * (RIM + self.step_depth) > self.tile:
            raise ConfigError(
                f"terrain.tile {self.tile:g} m has no room for a platform of {self.platform:g} m and a step of stairs "
                f"around it; write terrain.tile {math.ceil(self.platform + 2.0 * (RIM + self.step_depth))} at least"
            )
        x, y = (round(side / self.cell) for side in self.extent)
        if x * y > MAX_CELLS:
            fits = self._fitting_cell()
            coarser = f"terrain.cell {fits:.6g}, or " if fits <= coarsest else ""
            raise ConfigError(
                f"terrain of {self.levels} levels × {len(self.kinds)} kinds of {self.tile:g} m has {x * y / 1e6:.0f} "
                f"million cells of {self.cell:g} m ({x * y * 4 / 1e6:.0f} MB), but at most {MAX_CELLS / 1e6:.0f} "
                f"million fit; write {coarser}fewer levels, or a smaller tile"
            )

    def _fitting_cell(self) -> float:
        """Return the smallest cell that divides a tile, and of which so many fit, m."""
        for parts in range(math.floor(self.tile / self.cell), 0, -1):
            border = 2 * math.ceil(self.border * parts / self.tile)
            across = math.ceil(parts * self.sides[1] / self.tile)
            if (self.levels * parts + border) * (len(self.kinds) * across + border) <= MAX_CELLS:
                return self.tile / parts
        return math.inf

    def _check_kind(self, kind: str) -> None:
        """What a kind is made of must be there, and fit between the platform and the rim."""
        for name in _MADE_OF.get(kind, ()):
            if max(getattr(self, name)) == 0.0:
                raise ConfigError(
                    f"terrain.{name} {getattr(self, name)}: with nothing but 0, {kind!r} is level ground; write 'flat' "
                    "in terrain.kinds if that is meant"
                )
        if kind.startswith("stairs") and max(self.step) > self.step_depth:
            raise ConfigError(
                f"terrain.step {self.step}: stairs steeper than 45° are ladders; write at most terrain.step_depth, "
                f"{self.step_depth:g} m"
            )
        if kind in STRIPS:
            self._check_strip(kind)
        if kind == "gaps":
            self._check_room("gap", BANK + max(self.gap))
        if kind == "stones":
            self._check_room("stone_gap", max(map(sum, zip(self.stone, self.stone_gap, strict=True))))

    def _check_room(self, name: str, needed: float) -> None:
        room = 0.5 * (self.tile - self.platform) - RIM
        if needed > room:
            raise ConfigError(
                f"terrain.{name} {getattr(self, name)}: that takes {needed:.3g} m between the platform and the rim of "
                f"a tile, but terrain.tile {self.tile:g} m and terrain.platform {self.platform:g} m leave {room:.3g} m"
            )

    def _check_strip(self, kind: str) -> None:
        """An obstacle must fit between the ends of a strip, and a hole must be wider than its own two walls."""
        stone = max(map(sum, zip(self.stone, self.stone_gap, strict=True)))
        longest = {"gap_strip": max(self.gap), "step_strip": 4 * self.step_depth, "tilted_strip": stone}
        room, needed = self.tile - 2.0 * self.platform, longest.get(kind, 0.0)
        if needed > room:
            raise ConfigError(
                f"{kind}: an obstacle of {needed:.3g} m does not fit on a strip of terrain.tile {self.tile:g} m "
                f"between its ends of terrain.platform {self.platform:g} m; write terrain.tile "
                f"{math.ceil(needed + 2 * self.platform)} at least"
            )
        if kind == "gap_strip" and min(self.gap) < 2.0 * self.cell - 1e-9:
            raise ConfigError(
                f"terrain.gap {self.gap}: the two walls of a gap take a cell each; write at least {2 * self.cell:g}, "
                "or a smaller terrain.cell"
            )

    def _check_levels(self) -> None:
        if not self.down <= self.up <= 1.0:
            raise ConfigError(f"terrain.up {self.up:g} and terrain.down {self.down:g}: 0 ≤ down ≤ up ≤ 1 is needed")
        if self.start_level >= self.levels:
            raise ConfigError(f"terrain.start_level {self.start_level}: there are levels 0 to {self.levels - 1}")
        if self.evaluation_level >= self.levels:
            raise ConfigError(
                f"terrain.evaluation_level {self.evaluation_level}: there are levels 0 to {self.levels - 1}, "
                "and -1 for a random one"
            )

    @property
    def extent(self) -> tuple[float, float]:
        """Size of the whole grid along x and y, border included, m."""
        counts = (self.levels, len(self.kinds))
        x, y = (round(count * side / self.cell) for count, side in zip(counts, self.sides, strict=True))
        border = 2 * math.ceil(self.border / self.cell)
        return (x + border) * self.cell, (y + border) * self.cell

    @property
    def is_strips(self) -> bool:
        """Whether its tiles are strips."""
        return bool(self.kinds) and all(kind in STRIPS for kind in self.kinds)

    @property
    def sides(self) -> tuple[float, float]:
        """Sides of a tile along x and y, m."""
        return self.tile, self.width if self.is_strips else self.tile

    def centre(self, level: int, kind: int) -> tuple[float, float]:
        """Return the middle of a tile in the world, m; the middle of the whole terrain is the origin."""
        x, y = self.sides
        return (level + 0.5 - 0.5 * self.levels) * x, (kind + 0.5 - 0.5 * len(self.kinds)) * y

    def start(self, level: int, kind: int) -> tuple[float, float]:
        """Return where robots start on a tile, m: in its middle, or in that of the first platform of a strip."""
        x, y = self.centre(level, kind)
        return (x - 0.5 * (self.tile - self.platform) if self.is_strips else x), y

    def difficulty(self, level: int) -> float:
        """Return how far a level is from the first (0) to the last (1)."""
        return level / (self.levels - 1) if self.levels > 1 else 1.0


_SPANS = ("slope", "roughness", "step", "obstacle", "stone", "stone_gap", "gap", "depth")
_WHOLE = ("levels", "seed", "start_level", "evaluation_level", "particles")
_LOWEST = {
    "levels": 1,
    "tile": 1.0,
    "width": 1.0,
    "cell": 0.01,
    "border": 0.5,
    "platform": 0.0,
    "step_depth": 0.05,
    "up": 0.0,
    "down": 0.0,
    "seed": 0,
    "start_level": 0,
    "evaluation_level": -1,
    "particles": 0,
    **dict.fromkeys(_SPANS, 0.0),
}
_HIGHEST = {
    **dict.fromkeys(
        ("levels", "tile", "width", "cell", "border", "platform", "step_depth", "stone", "stone_gap", "gap"), 1000.0
    ),
    **{"slope": 1.0, "roughness": 1.0, "step": 1.0, "obstacle": 1.0, "depth": 2.0},
    **{"up": 1.0, "down": 1.0, "seed": 2**63, "particles": 1000},
}
"""Sides of 1 km; 45°, beyond which friction of 1 does not hold a robot; heights, m, that no robot with legs of 1 m gets
over."""

_MADE_OF = {
    "rough": ("roughness",),
    "stairs_up": ("step",),
    "stairs_down": ("step",),
    "obstacles": ("obstacle",),
    "stones": ("stone_gap", "depth"),
    "gaps": ("gap", "depth"),
    "slopes": ("slope",),
    "gap_strip": ("gap", "depth"),
    "step_strip": ("step",),
    "hurdle_strip": ("obstacle",),
    "tilted_strip": ("stone_gap", "depth"),
}
"""Kind → options that make it what it is."""


@dataclass(frozen=True, eq=False)
class HeightGrid:
    """Heights on a regular grid; between its points each cell is two triangles, as MuJoCo collides with it.

    Attributes:
        heights: Height of each grid point, m, float32, (ny, nx): rows go along y, columns along x.
        cell: Distance of grid points, m.
        origin: Where `heights[0, 0]` is, x and y, m.
    """

    heights: np.ndarray
    cell: float
    origin: tuple[float, float]

    def window(self, low: np.ndarray, high: np.ndarray) -> "HeightGrid":
        """Return the part between two corners (x, y), m, as far as the grid goes (at least one cell)."""
        count = np.array(self.heights.shape[::-1])
        first = np.floor((np.asarray(low) - self.origin) / self.cell).astype(int).clip(0, count - 2)
        last = np.ceil((np.asarray(high) - self.origin) / self.cell).astype(int).clip(first + 1, count - 1)
        part = self.heights[first[1] : last[1] + 1, first[0] : last[0] + 1]
        x, y = (np.asarray(self.origin) + self.cell * first).tolist()
        return HeightGrid(part, self.cell, (x, y))


def make_grid(terrain: Terrain) -> HeightGrid:
    """Build the heights of a terrain; deterministic.

    Raises:
        ConfigError: It has no kinds, so there is nothing to build.
    """
    if not terrain.kinds:
        raise ConfigError(f"a terrain without kinds has no heights; known kinds: {', '.join(_MAKERS)}")
    nx, ny = (round(side / terrain.cell) for side in terrain.sides)
    border = math.ceil(terrain.border / terrain.cell)
    columns, rows = terrain.levels * nx + 2 * border + 1, len(terrain.kinds) * ny + 2 * border + 1
    heights = np.zeros((rows, columns), np.float32)
    for level in range(terrain.levels):
        for kind, name in enumerate(terrain.kinds):
            y, x = border + kind * ny, border + level * nx
            heights[y : y + ny + 1, x : x + nx + 1] = make_tile(terrain, name, level)
    heights.setflags(write=False)
    half = 0.5 * terrain.cell
    return HeightGrid(heights, terrain.cell, (-half * (columns - 1), -half * (rows - 1)))


def make_tile(terrain: Terrain, kind: str, level: int) -> np.ndarray:
    """Return the heights of one tile, m, (ny + 1, nx + 1); its outline is at 0."""
    counts = (round(side / terrain.cell) for side in terrain.sides)
    x_line, y_line = (terrain.cell * (np.arange(n + 1) - 0.5 * n) for n in counts)
    y, x = np.meshgrid(y_line, x_line, indexing="ij")
    rng = np.random.default_rng((terrain.seed, level, *kind.encode()))
    heights = _MAKERS[kind](_Tile(terrain, level, x, y, rng))
    heights[[0, -1], :] = heights[:, [0, -1]] = 0.0
    return heights


@dataclass(frozen=True, eq=False)
class _Tile:
    """One tile while it is being made; x and y of its points from its middle, m."""

    terrain: Terrain
    level: int
    x: np.ndarray
    y: np.ndarray
    rng: np.random.Generator

    def at_level(self, span: Span) -> float:
        return span[0] + self.terrain.difficulty(self.level) * (span[1] - span[0])

    def cells(self, span: Span) -> int:
        """Return a width at this level in cells, at least one."""
        return max(1, round(self.at_level(span) / self.terrain.cell))

    @property
    def ring(self) -> np.ndarray:
        """Distance from the middle along the larger of x and y, m."""
        return np.maximum(np.abs(self.x), np.abs(self.y))

    @property
    def half(self) -> float:
        return 0.5 * self.terrain.tile

    @property
    def open(self) -> np.ndarray:
        """Where neither the platform nor the rim is."""
        slack = 1e-6
        return (self.ring > 0.5 * self.terrain.platform + slack) & (self.ring < self.half - RIM - slack)


def _flat(tile: _Tile) -> np.ndarray:
    return np.zeros_like(tile.x)


def _slopes(tile: _Tile) -> np.ndarray:
    sign = -1.0 if tile.level % 2 == 0 else 1.0
    run = tile.half - np.maximum(tile.ring, 0.5 * tile.terrain.platform)
    return sign * tile.at_level(tile.terrain.slope) * run


def _rough(tile: _Tile) -> np.ndarray:
    """Random heights 0.2 m apart, and straight lines between them."""
    amplitude = tile.at_level(tile.terrain.roughness)
    coarse = max(2, math.ceil(tile.terrain.tile / 0.2) + 1)
    noise = tile.rng.uniform(-amplitude, amplitude, (coarse, coarse))
    places = np.linspace(0.0, coarse - 1.0, len(tile.x))
    along_x = np.array([np.interp(places, np.arange(coarse), row) for row in noise])
    both = np.array([np.interp(places, np.arange(coarse), column) for column in along_x.T]).T
    return both * np.clip((tile.half - tile.ring) / RIM, 0.0, 1.0)


def _stairs(tile: _Tile, sign: float) -> np.ndarray:
    platform, depth = 0.5 * tile.terrain.platform, tile.terrain.step_depth
    count = math.floor((tile.half - RIM - platform) / depth + 1e-6)
    taken = np.clip(np.ceil((tile.ring - platform) / depth - 1e-6), 0, count)
    return sign * tile.at_level(tile.terrain.step) * (taken - count)


def _stairs_up(tile: _Tile) -> np.ndarray:
    return _stairs(tile, 1.0)


def _stairs_down(tile: _Tile) -> np.ndarray:
    return _stairs(tile, -1.0)


def _obstacles(tile: _Tile) -> np.ndarray:
    """Random boxes and pits of 0.4 to 1.2 m, of half and of full height."""
    height = tile.at_level(tile.terrain.obstacle)
    heights = np.zeros_like(tile.x)
    for _ in range(round(0.6 * tile.terrain.tile**2)):
        x, y = tile.rng.uniform(-tile.half, tile.half, 2)
        width, length = tile.rng.uniform(0.2, 0.6, 2)
        value = height * tile.rng.choice([-1.0, -0.5, 0.5, 1.0])
        heights[(np.abs(tile.x - x) <= width) & (np.abs(tile.y - y) <= length)] = value
    return np.where(tile.open, heights, 0.0)


def _stones(tile: _Tile) -> np.ndarray:
    """Square stones in rows, each row shifted, on uneven heights, with holes between them."""
    size, gap = tile.cells(tile.terrain.stone), tile.cells(tile.terrain.stone_gap)
    pitch, place = size + gap, np.arange(len(tile.x))
    row = (place // pitch)[:, None]
    shift = tile.rng.integers(0, pitch, row.max() + 1)[row]
    column = (place[None] + shift) // pitch
    inside = ((place % pitch) < size)[:, None] & ((place[None] + shift) % pitch < size)
    uneven = tile.rng.uniform(-0.02, 0.02, (row.max() + 1, column.max() + 1))[row, column]
    return np.where(tile.open, np.where(inside, uneven, -tile.at_level(tile.terrain.depth)), 0.0)


def _gaps(tile: _Tile) -> np.ndarray:
    """Square trenches around the platform, with a metre to stand on between them; none that the rim would cut."""
    width, bank = tile.cells(tile.terrain.gap), round(1.0 / tile.terrain.cell)
    first = 0.5 * tile.terrain.platform + BANK
    beyond = np.rint((tile.ring - first) / tile.terrain.cell).astype(int)
    number, within = np.divmod(beyond, width + bank)
    end = first + (number * (width + bank) + width) * tile.terrain.cell
    trench = (number >= 0) & (within < width) & (end <= tile.half - RIM + 1e-6)
    return np.where(trench, -tile.at_level(tile.terrain.depth), 0.0)


def _along(tile: _Tile, length: int) -> Iterator[int]:
    """Yield where obstacles of a length begin, in cells from the low end: after random pauses, up to the last platform.

    Points between the first and the last cell boundary of an obstacle are its own: its walls are a cell wide and lie
    within its length.
    """
    cell, count = tile.terrain.cell, tile.x.shape[1] - 1
    at = free = round(tile.terrain.platform / cell)
    while at + length <= count - free:
        yield at
        at += length + round(tile.rng.uniform(*PAUSE) / cell)


def _across(tile: _Tile, length: int, height: float) -> np.ndarray:
    heights = np.zeros_like(tile.x)
    for at in _along(tile, length):
        heights[:, at + 1 : at + length] = height
    return heights


def _gap_strip(tile: _Tile) -> np.ndarray:
    """Gaps over the whole width, as wide at the top as the option says."""
    return _across(tile, tile.cells(tile.terrain.gap), -tile.at_level(tile.terrain.depth))


def _hurdle_strip(tile: _Tile) -> np.ndarray:
    length = max(2, round(HURDLE / tile.terrain.cell))
    return _across(tile, length, tile.at_level(tile.terrain.obstacle))


def _step_strip(tile: _Tile) -> np.ndarray:
    """Two steps up, two down, again and again, each as deep as `step_depth`."""
    cell, count = tile.terrain.cell, tile.x.shape[1] - 1
    depth, free = (round(size / cell) for size in (tile.terrain.step_depth, tile.terrain.platform))
    whole = (count - 2 * free) // (4 * depth) * 4 * depth
    beyond = np.arange(count + 1) - free
    taken = np.where((beyond > 0) & (beyond < whole), np.array([1, 2, 1, 0])[(np.maximum(beyond, 0) // depth) % 4], 0)
    return np.broadcast_to(tile.at_level(tile.terrain.step) * taken, tile.x.shape).copy()


def _tilted_strip(tile: _Tile) -> np.ndarray:
    """Stones in a row, tilted alternately to the left and to the right, with holes between and beside them."""
    size, gap = tile.cells(tile.terrain.stone), tile.cells(tile.terrain.stone_gap)
    count, free = tile.x.shape[1] - 1, round(tile.terrain.platform / tile.terrain.cell)
    number, within = np.divmod(np.arange(count + 1) - free, size + gap)
    tilt = np.where(number % 2 == 0, 1.0, -1.0) * tile.at_level(tile.terrain.slope)
    on_stone = (within >= gap)[None] & (np.abs(tile.y) <= 0.5 * STONE_WIDTH)
    stones = np.where(on_stone, tilt[None] * tile.y, -tile.at_level(tile.terrain.depth))
    middle = np.abs(tile.x) < 0.5 * (tile.terrain.tile - 2 * tile.terrain.platform) - 1e-6
    return np.where(middle, stones, 0.0)


TILES: dict[str, Callable[[_Tile], np.ndarray]] = {
    "rough": _rough,
    "stairs_up": _stairs_up,
    "stairs_down": _stairs_down,
    "obstacles": _obstacles,
    "stones": _stones,
    "gaps": _gaps,
    "slopes": _slopes,
    "flat": _flat,
}
"""Kinds of tiles; directions are those of a robot that walks away from the middle."""

STRIPS: dict[str, Callable[[_Tile], np.ndarray]] = {
    "gap_strip": _gap_strip,
    "step_strip": _step_strip,
    "hurdle_strip": _hurdle_strip,
    "tilted_strip": _tilted_strip,
    "flat_strip": _flat,
}
"""Kinds of strips, which robots walk along x, from waypoint to waypoint (after Cheng et al. 2024, arXiv:2309.14341)."""

_MAKERS = {**TILES, **STRIPS}

SOLID_TILES = tuple(kind for kind in TILES if kind not in ("stones", "gaps"))
"""Kinds without holes: what a robot that does not see the ground can learn to cross."""


def waypoints(terrain: Terrain) -> np.ndarray:
    """Return where the way along each strip leads, in order, m, (levels, kinds, W, 2); the last is on its far platform.

    Raises:
        ConfigError: Its tiles are no strips.
    """
    if not terrain.is_strips:
        raise ConfigError(f"terrain.kinds {terrain.kinds}: only strips have waypoints; write {' '.join(STRIPS)}")
    count = max(1, round((terrain.tile - terrain.platform) / WAY))
    ahead = (1.0 + np.arange(count)) * (terrain.tile - terrain.platform) / count
    rng = np.random.default_rng((terrain.seed, count))
    found = np.array([[terrain.start(i, k) for k in range(len(terrain.kinds))] for i in range(terrain.levels)])
    aside = rng.uniform(-SWAY, SWAY, (*found.shape[:2], count))
    return found[:, :, None] + np.stack(np.broadcast_arrays(ahead, aside), axis=-1)


def edges(grid: HeightGrid) -> np.ndarray:
    """Return which points of a grid are on high ground within `EDGE` of a wall steeper than 45°, bool, (ny, nx)."""
    found = np.zeros(grid.heights.shape, bool)
    for axis in (0, 1):
        rise = np.diff(grid.heights, axis=axis)
        low, high = ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))
        first, second = (low, high) if axis else (low[::-1], high[::-1])
        found[first] |= rise < -grid.cell - 1e-6
        found[second] |= rise > grid.cell + 1e-6
    for _ in range(round(EDGE / grid.cell)):
        padded = np.pad(found, 1)
        found = padded[1:-1, :-2] | padded[1:-1, 2:] | padded[:-2, 1:-1] | padded[2:, 1:-1] | found
    return found
