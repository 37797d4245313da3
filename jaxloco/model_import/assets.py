"""The files of a model: meshes, textures and height fields are found, and copied into a robot folder."""

import filecmp
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import mujoco

from jaxloco.model_import.asset_faults import MISSING, Fault, Lost, file_fault, read_ascii, trial_fault
from jaxloco.model_import.draft import Notes

_FACES = 6
"""Pictures of a cube texture."""


def find_files(spec: mujoco.MjSpec, source: Path, folders: Iterable[Path], notes: Notes) -> None:
    """Make the files of a model absolute paths; leave out those that are not there, or that cannot be read.

    They are looked for in the model's folder and in `folders`, those of the files that it is made of.
    """
    places = list(dict.fromkeys([source.parent, *folders]))
    faults = {asset.name: fault for asset in spec.meshes if (fault := _locate(asset, spec, places) or _ascii(asset))}
    faults |= {asset.name: fault for asset in spec.hfields if (fault := _locate(asset, spec, places))}
    pictures = {asset.name: fault for asset in spec.textures if (fault := _locate(asset, spec, places))}
    _drop(spec, faults, pictures, notes)
    for skin in list(spec.skins):
        spec.delete(skin)
    for asset in [*spec.meshes, *spec.hfields, *spec.textures]:  # of attached models too
        asset.compiler.meshdir = asset.compiler.texturedir = ""
    spec.strippath = False


def drop_broken(spec: mujoco.MjSpec, notes: Notes) -> bool:
    """Leave out the meshes, height fields and textures that MuJoCo cannot read; return whether there were any."""
    touching = {geom.meshname for geom in spec.geoms if geom.contype or geom.conaffinity}
    meshes = [mesh for mesh in spec.meshes if mesh.file or len(mesh.uservert)]
    fields = [field for field in spec.hfields if field.file]
    faults = {
        asset.name: fault
        for asset in [*meshes, *fields]
        if (fault := trial_fault(asset, touches=asset.name in touching))
    }
    textures = [texture for texture in spec.textures if texture.file or any(texture.cubefiles)]
    pictures = {asset.name: fault for asset in textures if (fault := trial_fault(asset, touches=False))}
    _drop(spec, faults, pictures, notes)
    return bool(faults or pictures)


def _locate(asset: Any, spec: mujoco.MjSpec, places: Sequence[Path]) -> Fault | None:
    """Make the files of an asset absolute; return what is wrong with one of them."""
    texture = isinstance(asset, mujoco.MjsTexture)
    folder = asset.compiler.texturedir if texture else asset.compiler.meshdir
    files = [asset.file, *(asset.cubefiles[i] for i in range(_FACES))] if texture else [asset.file]
    if not asset.name and asset.file:
        asset.name = PureWindowsPath(asset.file).stem
    for i, file in enumerate(files):
        path = _search(file, folder, places)
        if not file:
            continue
        if path is None:
            return MISSING
        if i:
            asset.cubefiles[i - 1] = str(path)
        else:
            asset.file = str(path)
        if not isinstance(asset, mujoco.MjsHField) and (fault := file_fault(path, texture=texture)):
            return fault
    return None


def _ascii(mesh: Any) -> Fault | None:
    return read_ascii(mesh) if mesh.file else None


def _search(file: str, folder: str, places: Sequence[Path]) -> Path | None:
    """Return where a file is: as it is written, below the model's folder for such files, or by its name alone."""
    written = file.replace("\\", "/")
    names = [Path(folder) / written, Path(written), Path(folder) / Path(written).name]
    paths = (place / name for name in names for place in places)
    return next((path.resolve() for path in paths if file and path.is_file()), None)


def _drop(spec: mujoco.MjSpec, faults: dict[str, Fault], pictures: dict[str, Fault], notes: Notes) -> None:
    """Delete meshes and height fields with their geoms, and textures, by their names."""
    lost, assets = Lost(), {asset.name: asset for asset in [*spec.meshes, *spec.hfields] if asset.name in faults}
    for geom in list(spec.geoms):
        name = geom.meshname or geom.hfieldname
        if name in faults:
            touches = bool(geom.contype or geom.conaffinity) and geom.parent.name != spec.worldbody.name
            file = PureWindowsPath(assets[name].file).name or name
            lost.shape(faults[name], file, geom.parent.name, notes, touches=touches)
            spec.delete(geom)
    for asset in assets.values():
        spec.delete(asset)
    for material in spec.materials:
        for role, texture in enumerate(material.textures):
            material.textures[role] = "" if texture in pictures else texture
    for texture in [texture for texture in spec.textures if texture.name in pictures]:
        lost.picture(pictures[texture.name], PureWindowsPath(texture.file).name or texture.name)
        spec.delete(texture)
    lost.note(notes)


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
