"""What the user sees while a command runs: stages with their seconds, a bar, the main metrics, a summary.

On a terminal the display is live and refreshed by a thread, so that a compilation, which blocks the main
thread, still shows how long it has taken. In a pipe, a log file or a notebook it is plain lines now and then.
"""

import atexit
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self, TextIO, cast

from jaxloco.streams import never_fail

MAIN_METRICS = (
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "train/std",
    "train/approx_kl",
    "train/explained_variance",
    "train/value_loss",
    "train/learning_rate",
)
WEIGHTED = "reward/"
RAW = "reward_raw/"
REFRESH_PER_SECOND = 5
PLAIN_INTERVAL = 5.0
RATE_WINDOW = 20


class Progress:
    """The silent display; the others write in `message` and in the methods that begin with `_show`."""

    _stage: tuple[str, float] | None = None
    _pace: "_Pace | None" = None
    _metrics: Mapping[str, Any] = {}

    def begin(self, text: str) -> None:
        """Begin a stage, such as "importing JAX"; what ran before ends."""
        self._settle()
        self._stage = (text, time.monotonic())
        self._show_begun(f"{text} ...")

    def end(self, failed: bool = False) -> None:
        """End the stage, if one is running."""
        if self._stage is not None:
            (text, begun), self._stage = self._stage, None
            self._show_stage(text, time.monotonic() - begun, failed)

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Run the body as a stage, shown with the seconds it takes."""
        self.begin(text)
        try:
            yield
        except BaseException:
            self.end(failed=True)
            raise
        self.end()

    def header(self, facts: Mapping[str, Any]) -> None:
        """Show what is about to run, one fact a line: task, robot, physics engine, device, ..."""
        self._settle()
        self._show_facts(facts)

    def training(self, total_timesteps: int, start: int = 0) -> None:
        """Begin the training bar.

        Args:
            total_timesteps: Environment steps at which training ends.
            start: Environment steps done in an earlier run that this one resumes.
        """
        self._settle()
        self._metrics, self._pace = {}, _Pace(total_timesteps, start)
        resumed = f" from {si(start)}" if start else ""
        self._show_begun(f"training for {si(total_timesteps)} env steps{resumed} ...")

    def update(self, total_timesteps: int, metrics: Mapping[str, Any]) -> None:
        """Show progress; without a bar nothing.

        Args:
            total_timesteps: Environment steps done.
            metrics: Scalars by Stable-Baselines3's names, `reward/<term>` (weighted) and `reward_raw/<term>`.
        """
        if self._pace is not None:
            self._pace.update(total_timesteps)
            self._metrics = dict(metrics)
            self._show_training(self._pace, running=True)

    def message(self, text: str) -> None:
        """Show one line."""

    def summary(self, facts: Mapping[str, Any]) -> None:
        """Show the results, at the end."""
        self.header(facts)

    def close(self) -> None:
        """Leave the terminal as it was; a second call does nothing."""
        self._settle()

    def _settle(self) -> None:
        """End whatever is running, its last numbers shown."""
        self.end()
        if self._pace is not None:
            pace, self._pace = self._pace, None
            self._show_training(pace, running=False)

    def _show_begun(self, text: str) -> None:
        """A stage, or the training, begins."""

    def _show_stage(self, text: str, seconds: float, failed: bool) -> None:
        """A stage has ended."""

    def _show_training(self, pace: "_Pace", running: bool) -> None:
        """There are new metrics, or the training has ended."""

    def _show_facts(self, facts: Mapping[str, Any]) -> None:
        """Show facts, one a line."""

    def __enter__(self) -> Self:
        """Return the display."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the display."""
        self.close()


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """Return the display that fits.

    Args:
        quiet: Show nothing.
        stream: Where to write; standard output if absent.

    Returns:
        A live display on a terminal, plain lines elsewhere.
    """
    if quiet:
        return Progress()
    stream = cast(TextIO, _Lasting(never_fail(stream or sys.stdout)))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveProgress(stream)
    return PlainProgress(stream)


class _Lasting:
    """A stream of which whatever cannot be written is dropped: a lost terminal or a full disk does not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Pace:
    """Environment steps per second, and the remaining time."""

    def __init__(self, total_timesteps: int, start: int) -> None:
        self.total = max(total_timesteps, 1)
        self.done = start
        self.begun = time.monotonic()
        self._points: deque[tuple[float, int]] = deque([(self.begun, start)], maxlen=RATE_WINDOW)

    def update(self, done: int) -> None:
        self.done = done
        self._points.append((time.monotonic(), done))

    @property
    def rate(self) -> float:
        """Environment steps per second over the latest updates; NaN before the first."""
        (before, first), (now, last) = self._points[0], self._points[-1]
        return (last - first) / (now - before) if now > before else math.nan

    @property
    def remaining(self) -> float:
        """Estimated time to the end, s; NaN before the first rate."""
        since = time.monotonic() - self._points[-1][0]
        return max((self.total - self.done) / self.rate - since, 0.0) if self.rate > 0 else math.nan

    @property
    def fraction(self) -> float:
        return min(self.done / self.total, 1.0)


class PlainProgress(Progress):
    """Lines of text, for logs, pipes and notebooks; one line of metrics every `interval` seconds at most."""

    def __init__(self, stream: TextIO, interval: float = PLAIN_INTERVAL) -> None:
        self._stream, self._interval, self._shown = stream, interval, -math.inf
        self._pending = False

    def message(self, text: str) -> None:
        """Print the text."""
        print(text, file=self._stream, flush=True)

    def _show_begun(self, text: str) -> None:
        self.message(text)

    def _show_stage(self, text: str, seconds: float, failed: bool) -> None:
        self.message(f"{text}: {'failed after' if failed else 'done in'} {seconds:.1f} s")

    def _show_training(self, pace: "_Pace", running: bool) -> None:
        self._pending |= running
        if self._pending and (not running or time.monotonic() - self._shown >= self._interval):
            self.message(_metrics_line(pace, self._metrics))
            self._shown, self._pending = time.monotonic(), False

    def _show_facts(self, facts: Mapping[str, Any]) -> None:
        width = max((len(name) for name in facts), default=0)
        for name, value in facts.items():
            self.message(f"  {name:<{width}}  {_text(value)}")


class LiveProgress(Progress):
    """A display on a terminal that a thread redraws in place, several times a second."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = Console(file=stream, highlight=False)
        plain = "utf" not in (self._console.encoding or "").lower()
        self._good, self._bad = ("+", "x") if plain else ("✓", "✗")
        self._spinner = Spinner("line" if plain else "dots", style="cyan")
        options: Any = {"refresh_per_second": REFRESH_PER_SECOND, "transient": True}
        self._live = Live(get_renderable=self._render, console=self._console, **options)
        self._live.start()
        atexit.register(self.close)

    def message(self, text: str) -> None:
        """Show the text above the live part."""
        from rich.text import Text

        self._print(Text(text))

    def close(self) -> None:
        """Stop drawing; the last numbers stay on the screen."""
        super().close()
        self._live.stop()
        atexit.unregister(self.close)

    def _show_begun(self, text: str) -> None:
        self._live.refresh()

    def _show_stage(self, text: str, seconds: float, failed: bool) -> None:
        self._print(self._stage_line(text, seconds, failed))

    def _show_training(self, pace: "_Pace", running: bool) -> None:
        if not running:  # else at the next refresh
            self._print(self._training_view(pace, running))

    def _show_facts(self, facts: Mapping[str, Any]) -> None:
        self._print(_facts_table(facts))

    def _print(self, renderable: Any) -> None:
        """Print above the live part, which is brought up to date first, so that nothing stale stays."""
        self._live.refresh()
        self._console.print(renderable)

    def _render(self) -> Any:
        """Return what is live now; called by the drawing thread."""
        from rich.text import Text

        stage, pace = self._stage, self._pace
        if stage is not None:
            return self._stage_line(stage[0], time.monotonic() - stage[1], None)
        if pace is not None:
            return self._training_view(pace, running=True)
        return Text("")

    def _stage_line(self, text: str, seconds: float, failed: bool | None) -> Any:
        """Return a stage's line; `failed` is None while it runs."""
        from rich.table import Table
        from rich.text import Text

        mark: Any = self._spinner
        if failed is not None:
            mark = Text(self._bad, style="bold red") if failed else Text(self._good, style="green")
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, Text(text), Text(f"{seconds:.1f} s", style="dim"))
        return line

    def _training_view(self, pace: _Pace, running: bool) -> Any:
        """Return the bar and, once there are any, the metrics below it."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        elapsed = time.monotonic() - pace.begun
        complete = pace.done >= pace.total
        mark: Any = self._spinner if running else Text(self._good if complete else self._bad, style="green")
        timing = f"{clock(elapsed)} elapsed, {clock(pace.remaining)} left" if running else f"in {clock(elapsed)}"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            mark,
            Text("training"),
            ProgressBar(total=1.0, completed=pace.fraction, width=min(max(self._console.width - 70, 8), 40)),
            Text(f"{100 * pace.fraction:3.0f}%"),
            Text(f"{si(pace.done)}/{si(pace.total)} env steps", style="bold"),
            Text(f"{si(_rate(pace, self._metrics))}/s", style="cyan"),
            Text(timing, style="dim"),
        )
        if not self._metrics:
            return bar
        return Group(bar, Padding(_metrics_tables(self._metrics), (0, 0, 0, 2)))


def si(number: float) -> str:
    """Return a number to three digits with an SI prefix.

    >>> si(36_812), si(1_000_000), si(512)
    ('36.8k', '1M', '512')
    """
    if not math.isfinite(number):
        return "-"
    for exponent, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 0.9995 * 10**exponent:
            return f"{number / 10**exponent:.3g}{prefix}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if need be.

    >>> clock(75.2), clock(3_700)
    ('1:15', '1:01:40')
    """
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate(pace: _Pace, metrics: Mapping[str, Any]) -> float:
    return float(metrics.get("time/fps", pace.rate))


def _text(value: Any) -> str:
    """Return a fact or metric for display: four digits of a float, the rest as it is."""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e6 else f"{number:.4g}"


def _metrics_line(pace: _Pace, metrics: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{_last(name)} {_text(metrics[name])}" for name in MAIN_METRICS if name in metrics)
    done = f"  {si(pace.done)}/{si(pace.total)} env steps ({100 * pace.fraction:.0f}%)"
    return f"{done}, {si(_rate(pace, metrics))}/s, {clock(pace.remaining)} left" + (f" | {shown}" if shown else "")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _facts_table(facts: Mapping[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row("", Text(name, style="dim"), Text(_text(value)))
    return table


def _metrics_tables(metrics: Mapping[str, Any]) -> Any:
    """Return the main metrics and, beside them, the reward terms."""
    from rich.table import Table

    def table(first: str, *numbers: str) -> Table:
        made = Table(box=None, padding=(0, 1), header_style="dim")
        made.add_column(first)
        for name in numbers:
            made.add_column(name, justify="right", min_width=9)
        return made

    main = table("metric", "value")
    for name in MAIN_METRICS:
        if name in metrics:
            main.add_row(_last(name), _text(metrics[name]))
    terms = [name.removeprefix(WEIGHTED) for name in metrics if name.startswith(WEIGHTED)]
    raw = any(RAW + term in metrics for term in terms)
    rewards = table("reward term", *(["raw"] if raw else []), "weighted")
    for term in terms:
        cells = [_text(metrics.get(RAW + term, ""))] if raw else []
        rewards.add_row(term, *cells, _text(metrics[WEIGHTED + term]))
    both = Table.grid(padding=(0, 3))
    both.add_row(main, *([rewards] if terms else []))
    return both
