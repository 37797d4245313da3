import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import mujoco
import numpy as np
import pytest

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.terrain import Terrain, make_grid
from jaxloco.visual import plots, render
from jaxloco.visual.plots import plot_curves, plot_terrain
from jaxloco.visual.render import Renderer, render_image, render_video, rendering_available

SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1"/>
    <geom type="plane" size="5 5 0.1" rgba="0.2 0.2 0.8 1"/>
    <camera name="side" pos="0 -2 0.5" xyaxes="1 0 0 0 0 1"/>
    <body pos="0 0 0.5">
      <freejoint/>
      <geom type="box" size="0.2 0.2 0.2" rgba="0.1 0.8 0.1 1"/>
    </body>
  </worldbody>
</mujoco>
"""

METRICS = {
    "time/total_timesteps": np.linspace(1e4, 1e6, 40),
    "rollout/ep_rew_mean": np.linspace(0, 100, 40),
    "rollout/ep_rew_std": np.linspace(30, 5, 40),
    "rollout/ep_len_mean": np.linspace(100, 2000, 40),
    "train/approx_kl": np.full(40, 0.01),
    "train/value_loss": np.geomspace(10, 0.1, 40),
    "train/std": np.linspace(1, 0.3, 40),
    "time/fps": np.full(40, 3e4),
    "reward/upright": np.linspace(0, 1, 40),
    "reward/effort": np.linspace(0, -0.1, 40),
    "terrain/level": np.linspace(0, 6, 40),
    "terrain/level_gaps": np.linspace(0, 5, 40),
    "terrain/past_middle": np.linspace(0, 0.8, 40),
}


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE)


@pytest.fixture
def graphics() -> None:
    available, reason = rendering_available()
    if not available:
        pytest.skip(f"this machine cannot render: {reason}")


@pytest.fixture
def no_graphics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MUJOCO_GL", "off")
    rendering_available.cache_clear()
    yield
    rendering_available.cache_clear()


def read_video(path: Path, size: tuple[int, int]) -> tuple[str, np.ndarray]:
    """Return ffmpeg's description of a video, and its frames."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, size[1], size[0], 3)
    return done.stderr.decode().partition("Output #0")[0], frames


def reddish(picture: np.ndarray) -> int:
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return int(np.sum((red > 100) & (red > 2 * green) & (red > 2 * blue)))


@pytest.mark.parametrize("rows", [0, 1, 2, 40])
def test_curves_are_drawn_from_any_number_of_rows(tmp_path: Path, rows: int) -> None:
    metrics = {name: values[:rows] for name, values in METRICS.items()}
    path = plot_curves(metrics, tmp_path / "curves.png", control_dt=0.005, title="run")
    picture = matplotlib.image.imread(path)
    assert picture.ndim == 3
    assert picture.std() > 0.01


@pytest.mark.parametrize("missing", ["time/total_timesteps", "rollout/ep_rew_std", "rollout/ep_rew_mean", "time/fps"])
def test_curves_do_without_any_metric(tmp_path: Path, missing: str) -> None:
    metrics = {name: values for name, values in METRICS.items() if name != missing}
    assert plot_curves(metrics, tmp_path / "curves.png").exists()


def test_curves_leave_gaps_where_values_are_missing(tmp_path: Path) -> None:
    holes = np.full(40, np.nan)
    some = holes.copy()
    some[[10, 39]] = [50.0, 90.0]
    metrics = {**METRICS, "train/std": holes, "train/approx_kl": some}
    assert plot_curves(metrics, tmp_path / "curves.png").exists()


def test_a_constant_term_does_not_flatten_the_others_and_what_has_no_weight_is_not_among_them() -> None:
    from matplotlib.figure import Figure

    steps, ramp = np.linspace(1e4, 1e6, 40), np.linspace(0.0, 0.02, 40)
    metrics = {"time/total_timesteps": steps, "reward/alive": np.full(40, 2.0), "reward/a": ramp, "reward/b": -ramp}
    measured = {"reward/error": np.zeros(40), "reward_raw/error": ramp + 0.1}
    axis = Figure().subplots()
    plots._draw_rewards(axis, {**metrics, **measured})
    _, bottom, top = (axis.transAxes.inverted().transform(axis.transData.transform((1e6, y)))[1] for y in (0, 0, 0.02))
    assert top - bottom > 0.15  # of the panel's height, and 0.005 on a linear scale
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"alive", "a", "b"}
    titles = [title for title, _ in plots._panels({**metrics, **measured}, None)]
    assert titles == ["measured, without a weight", "reward terms (weighted)"]


def test_a_terrain_is_drawn_with_its_levels_and_kinds(tmp_path: Path) -> None:
    terrain = Terrain(("stairs_up", "flat"), levels=3, tile=4.0, border=1.0)
    picture = matplotlib.image.imread(plot_terrain(terrain, make_grid(terrain), tmp_path / "terrain.png"))
    purple = (picture[..., 2] > picture[..., 1] + 0.1) & (picture[..., 2] > picture[..., 0])  # pits of stairs
    rows, columns = np.nonzero(purple & (np.arange(picture.shape[1]) < 0.85 * picture.shape[1]))
    assert len(rows) > 10_000 and rows.min() > 0.4 * picture.shape[0]  # the first kind is at the bottom
    assert np.ptp(columns) > 0.5 * picture.shape[1]  # on every level


def test_importing_the_pictures_imports_no_drawing_library() -> None:
    code = """
    import sys
    import jaxloco.visual.plots, jaxloco.visual.render
    heavy = {"matplotlib", "mujoco", "imageio_ffmpeg", "jax"} & set(sys.modules)
    assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_plotting_leaves_the_users_backend_alone(tmp_path: Path) -> None:
    code = """
    import sys
    import numpy as np
    from jaxloco.visual.plots import plot_curves
    plot_curves({"train/std": np.ones(3)}, sys.argv[1])
    assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "c.png")], check=True)


@pytest.mark.usefixtures("graphics")
def test_a_video_has_its_frames_size_rate_and_a_format_that_browsers_play(
    model: mujoco.MjModel, tmp_path: Path
) -> None:
    qpos = np.tile(model.qpos0, (12, 1))
    qpos[:, 2] = np.linspace(0.3, 1.0, 12)
    path = render_video(model, qpos, tmp_path / "v.mp4", 25, width=321, height=180, camera="side")
    assert path == tmp_path / "v.mp4"
    facts, frames = read_video(path, (320, 180))
    for word in ("Video: h264", "yuv420p", "320x180", "25 fps"):
        assert word in facts
    assert len(frames) == 12
    heights = [np.nonzero((frame[..., 1] > 90) & (frame[..., 0] < 90))[0].mean() for frame in frames]
    assert heights[0] > heights[-1] + 30  # the box rises, so its rows come closer to the top
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.usefixtures("graphics")
def test_a_push_is_drawn_while_it_acts_and_fades(model: mujoco.MjModel, tmp_path: Path) -> None:
    qpos = np.tile(model.qpos0, (20, 1))
    push, point = np.zeros((20, 3)), np.zeros((20, 3))
    push[5:7], point[5:7] = [300.0, 0.0, 0.0], [0.2, 0.0, 0.5]
    path = render_video(model, qpos, tmp_path / "v.mp4", 25, camera="side", push=push, push_point=point)
    assert path is not None
    red = [reddish(frame) for frame in read_video(path, (640, 360))[1]]
    assert red[4] == 0
    assert red[5] > 50
    assert red[6] > 50
    assert red[19] == 0


@pytest.mark.usefixtures("graphics")
def test_a_picture_shows_the_robot_the_right_way_up_and_its_text(model: mujoco.MjModel, tmp_path: Path) -> None:
    picture = render_image(model, model.qpos0, tmp_path / "p.png", width=320, height=240, camera="side")
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((240, 320, 3), np.uint8)
    green, blue = picture[..., 1].astype(int), picture[..., 2].astype(int)
    assert np.nonzero(green > blue + 20)[0].mean() < np.nonzero(blue > green + 20)[0].mean()
    np.testing.assert_allclose(matplotlib.image.imread(tmp_path / "p.png")[..., :3], picture / 255, atol=1 / 255)
    with_text = render_image(model, model.qpos0, width=320, height=240, camera="side", overlay="hello")
    assert with_text is not None
    changed = np.nonzero((with_text != picture).any(-1))
    assert 0 < changed[0].max() < 60
    assert changed[1].max() < 160


@pytest.mark.usefixtures("graphics")
def test_a_quick_picture_has_the_size_that_is_asked_for_and_shows_the_robot_in_the_same_place(
    model: mujoco.MjModel,
) -> None:
    seen = []
    for best in (True, False):
        with contextlib.closing(Renderer(width=320, height=240, camera="side", best=best)) as renderer:
            picture = renderer.draw(model, model.qpos0)
        assert picture is not None and picture.shape == (240, 320, 3) and picture.flags.owndata
        seen.append(np.nonzero(picture[..., 1].astype(int) > picture[..., 2].astype(int) + 20))
    (rows, columns), (quick_rows, quick_columns) = seen
    assert len(quick_rows) == pytest.approx(len(rows), rel=0.1)
    assert (quick_rows.mean(), quick_columns.mean()) == pytest.approx((rows.mean(), columns.mean()), abs=1.5)


@pytest.mark.usefixtures("graphics")
@pytest.mark.parametrize("camera", ["track", "free", "side"])
def test_every_camera_sees_the_robot_wherever_it_is(model: mujoco.MjModel, camera: str) -> None:
    qpos = model.qpos0.copy()
    qpos[0] = 100.0 if camera == "track" else 0.0
    picture = render_image(model, qpos, width=160, height=120, camera=camera)
    assert picture is not None
    assert np.sum(picture[..., 1] > picture[..., 2].astype(int) + 30) > 50


@pytest.mark.usefixtures("graphics")
def test_the_model_is_not_changed(model: mujoco.MjModel, tmp_path: Path) -> None:
    before = (model.vis.global_.offwidth, model.vis.quality.shadowsize, model.vis.quality.offsamples)
    render_video(model, model.qpos0[None], tmp_path / "v.mp4", 25)
    assert (model.vis.global_.offwidth, model.vis.quality.shadowsize, model.vis.quality.offsamples) == before


@pytest.mark.usefixtures("no_graphics")
def test_without_graphics_there_is_a_message_and_no_failure(model: mujoco.MjModel, tmp_path: Path) -> None:
    said: list[str] = []
    assert render_video(model, model.qpos0[None], tmp_path / "v.mp4", 25, report=said.append) is None
    assert render_image(model, model.qpos0, report=said.append) is None
    assert said == [
        "no video: rendering is switched off by MUJOCO_GL=off",
        "no picture: rendering is switched off by MUJOCO_GL=off",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_ends_the_process_is_only_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(render, "_PROBE", "import os; os.abort()")
    rendering_available.cache_clear()
    available, reason = rendering_available()
    rendering_available.cache_clear()
    assert not available
    assert "egl: it ended the process with code -6" in reason
    assert "apt-get install" in reason


def test_an_unknown_library_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    rendering_available.cache_clear()
    available, reason = rendering_available()
    rendering_available.cache_clear()
    assert not available
    assert "vulkan" in reason


@pytest.mark.usefixtures("graphics")
def test_without_an_encoder_there_is_a_message_and_no_failure(
    model: mujoco.MjModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert render_video(model, model.qpos0[None], tmp_path / "v.mp4", 25, report=said.append) is None
    assert len(said) == 1
    assert said[0].startswith("no video: ")
    assert "imageio_ffmpeg" in said[0]


@pytest.mark.usefixtures("graphics")
def test_a_folder_that_cannot_be_written_is_a_message(model: mujoco.MjModel, tmp_path: Path) -> None:
    said: list[str] = []
    assert render_video(model, model.qpos0[None], tmp_path / "no" / "v.mp4", 25, report=said.append) is None
    assert len(said) == 1
    assert said[0].startswith("no video: ")
    assert "No such file or directory" in said[0]


@pytest.mark.usefixtures("graphics")
def test_an_encoder_that_ends_early_is_a_message(
    model: mujoco.MjModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nhead -c 1000 > /dev/null\necho 'No space left' >&2\nexit 28\n")
    program.chmod(0o700)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    said: list[str] = []
    frames = np.tile(model.qpos0, (9, 1))
    assert render_video(model, frames, tmp_path / "v.mp4", 25, report=said.append) is None
    assert said == ["no video: No space left"]
    assert list(tmp_path.iterdir()) == [program]


def test_arrays_of_the_wrong_shape_and_unknown_cameras_are_refused(model: mujoco.MjModel) -> None:
    frames = np.tile(model.qpos0, (3, 1))
    for arguments, message in (
        ({"qpos": model.qpos0}, r"qpos must have the shape \(frames, 7\), not \(7,\)"),
        ({"qpos": frames[:0]}, "qpos must have the shape"),
        ({"overlay": ["a"]}, "one for each of 3 frames, not 1"),
        ({"push": np.zeros((3, 3))}, "go together"),
        ({"push": np.zeros((2, 3)), "push_point": np.zeros((3, 3))}, r"shape \(3, 3\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            render_video(model, **{"qpos": frames, "path": "v.mp4", "fps": 25, **arguments})  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'side'"):
        render_video(model, frames, "v.mp4", 25, camera="sid")


@pytest.mark.usefixtures("graphics")
def test_a_video_drawn_by_the_processor_still_has_shadows(model: mujoco.MjModel, tmp_path: Path) -> None:
    qpos = np.tile(model.qpos0, (2, 1))
    qpos[0, 2], qpos[1, 0] = 1.0, 100.0  # above the floor, then far away
    path = render_video(model, qpos, tmp_path / "v.mp4", 25, camera="free")
    assert path is not None
    with_robot, without = read_video(path, (640, 360))[1].astype(int)
    darker = (without.sum(-1) > 60) & (with_robot.sum(-1) < 0.7 * without.sum(-1)) & (with_robot[..., 1] < 80)
    assert np.sum(darker) > 200
