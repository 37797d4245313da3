"""The files of a model: meshes, textures and height fields are found, and copied into a robot folder."""

import filecmp
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import mujoco
import numpy as np

from jaxloco.doctor.model_checks import MESHES
from jaxloco.model_import.draft import Notes, few

_FACES = 6
"""Pictures of a cube texture."""


def find_files(spec: mujoco.MjSpec, source: Path, folders: Iterable[Path], notes: Notes) -> None:
    """Make the files of a model absolute paths; leave out those that only drawing needs and that are not there.

    They are looked for in the model's folder and in `folders`, those of the files that it is made of.
    """
    places = list(dict.fromkeys([source.parent, *folders]))
    lost = {mesh.name: mesh for mesh in spec.meshes if not _locate(mesh, spec, places, "meshdir")}
    for field in spec.hfields:
        if not _locate(field, spec, places, "meshdir"):
            lost[field.name] = field
    _drop_shapes(spec, lost, notes)
    for mesh in spec.meshes:
        _read_ascii(mesh)
    textures = [texture for texture in spec.textures if not _locate(texture, spec, places, "texturedir")]
    notes.add("the textures {} are not there", "they are left out", of=[t.name or t.file for t in textures])
    names = {texture.name for texture in textures}
    for material in spec.materials:
        for role, texture in enumerate(material.textures):
            material.textures[role] = "" if texture in names else texture
    for texture in textures:
        spec.delete(texture)
    for skin in list(spec.skins):
        spec.delete(skin)
    for asset in [*spec.meshes, *spec.hfields, *spec.textures]:  # of attached models too
        asset.compiler.meshdir = asset.compiler.texturedir = ""
    spec.strippath = False


def _locate(asset: Any, spec: mujoco.MjSpec, places: Sequence[Path], key: str) -> bool:
    """Make the files of an asset absolute; return whether all are there and MuJoCo can read them."""
    folder = getattr(asset.compiler, key)
    files = [asset.file, *(asset.cubefiles[i] for i in range(_FACES))] if hasattr(asset, "cubefiles") else [asset.file]
    found = [_search(file, folder, places) for file in files]
    if not asset.name and asset.file:
        asset.name = PureWindowsPath(asset.file).stem
    for i, (file, path) in enumerate(zip(files, found, strict=True)):
        if file and path is None:
            return False
        if file and i:
            asset.cubefiles[i - 1] = str(path)
        elif file:
            asset.file = str(path)
    return not isinstance(asset, mujoco.MjsMesh) or not asset.file or Path(asset.file).suffix.lower() in MESHES


def _search(file: str, folder: str, places: Sequence[Path]) -> Path | None:
    """Return where a file is: as it is written, below the model's folder for such files, or by its name alone."""
    written = file.replace("\\", "/")
    names = [Path(folder) / written, Path(written), Path(folder) / Path(written).name]
    paths = (place / name for name in names for place in places)
    return next((path.resolve() for path in paths if file and path.is_file()), None)


def _drop_shapes(spec: mujoco.MjSpec, lost: dict[str, Any], notes: Notes) -> None:
    """Delete the geoms of meshes and height fields that cannot be read."""
    dropped: dict[bool, list[str]] = defaultdict(list)
    for geom in list(spec.geoms):
        name = geom.meshname or geom.hfieldname
        if name in lost:
            touches = bool(geom.contype or geom.conaffinity) and geom.parent.name != spec.worldbody.name
            dropped[touches].append(Path(lost[name].file).name)
            if touches:
                notes.bare[geom.parent.name] = dropped[touches][-1]
            spec.delete(geom)
    for asset in lost.values():
        spec.delete(asset)
    for touches, files in dropped.items():
        what = f"there is no file {few(files)}, or MuJoCo cannot read it"
        done = "their bodies lose these shapes that touch" if touches else "only drawing needs them"
        notes.add(what, f"left out: {done}", "warning")


def _read_ascii(mesh: Any) -> None:
    """Read a mesh that MuJoCo cannot: an STL in ASCII."""
    if mesh.file and Path(mesh.file).suffix.lower() == ".stl":
        content = Path(mesh.file).read_bytes()
        if content.lstrip()[:5].lower() == b"solid" and b"vertex" in content[:1000]:
            corners = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", content)
            points, faces = np.unique(np.array(corners, float), axis=0, return_inverse=True)
            mesh.uservert, mesh.userface, mesh.file = points.ravel(), faces.ravel(), ""


def copy_files(spec: mujoco.MjSpec, place: Path, folder: Path) -> None:
    """Copy the files of a model below `place`, and let the model name those; those of `folder` will stay."""
    taken: dict[Path, Path] = {}
    assets = [("meshes", asset) for asset in [*spec.meshes, *spec.hfields]]
    for kind, asset in [*assets, *(("textures", asset) for asset in spec.textures)]:
        if asset.file:
            asset.file = _copy(Path(asset.file), kind, place, folder, taken)
        for i in range(_FACES if hasattr(asset, "cubefiles") else 0):
            if asset.cubefiles[i]:
                asset.cubefiles[i] = _copy(Path(asset.cubefiles[i]), kind, place, folder, taken)
    spec.modelfiledir = str(place)


def _copy(file: Path, kind: str, place: Path, folder: Path, taken: dict[Path, Path]) -> str:
    """Copy a file; one of a name that is taken goes into a folder named after its own, so both names stay."""
    names = [Path(kind) / file.name, Path(kind) / file.parent.name / file.name]
    names += [Path(kind) / f"{file.stem}_{number}{file.suffix}" for number in range(2, 1000)]
    for name in names:
        there = folder / name
        if taken.get(name, file) == file and (not there.exists() or filecmp.cmp(there, file, shallow=False)):
            break
    if name not in taken:
        taken[name] = file
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / name)
    return name.as_posix()
