"""Napari's writers of layers whose place is known: results, and images that we opened.

They take several layers at once, so for endings that napari's own writers know too,
npe2 asks those first: ours write such files where the user chose them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError
from napari_medvlseg.core.io.dicom_seg import Findings
from napari_medvlseg.core.io.formats import IN_DICOM
from napari_medvlseg.core.io.placed import (
    KINDS,
    LABELS,
    Group,
    Item,
    kind_of,
    write_group,
)
from napari_medvlseg.plugin.saved_layer import SavedLayer, saved_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.plugin.saved_layer import LayerData

_UNSAFE = re.compile(r"[^\w.-]+")
_MOST_NAME_CHARACTERS = 60


def write_nifti(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write layers as NIfTI, on the grid and with the header's forms of their image.

    Parameters
    ----------
    path : str
        Of one layer or one map, its file. Of several, ``STEM_labels``,
        ``STEM_probability`` and so on are written, with the same ending. An ending
        that we write decides the format, whatever writer was asked.
    layers : sequence of layer data
        Results of this plugin, images that it opened, or labels that lie on one.

    Returns
    -------
    list of str
        The files, the JSON of each result after its own.

    Raises
    ------
    MedVLSegError
        If a layer's place is not known, a format cannot hold it, a file is in the way,
        or the disk refuses.
    """
    return _write(path, layers, ".nii.gz")


def write_nrrd(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write layers as NRRD; the rest as `write_nifti`."""
    return _write(path, layers, ".nrrd")


def write_picture(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write layers as TIFF, or pictures as PNG; the rest as `write_nifti`."""
    return _write(path, layers, ".tif")


def write_dicom_seg(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write masks and probabilities as DICOM-SEG; the rest as `write_nifti`.

    Of several layers, maps that DICOM-SEG cannot hold become NIfTI beside it.
    """
    return _write(path, layers, ".dcm")


def _write(path: str, layers: Sequence[LayerData], default: str) -> list[str]:
    """Write layers to files; those of one run share a JSON."""
    place = Path(path).expanduser()
    ending = _ending(place) or default
    stem = place.name[: -len(ending)] if _ending(place) else place.name
    folder = place.parent
    near = [*layers, *_layers_on_screen()]
    saved = [saved_layer(one, near, as_picture=ending == ".png") for one in layers]
    runs: dict[str, list[SavedLayer]] = {}
    for number, one in enumerate(saved):
        runs.setdefault(one.run or f"layer {number}", []).append(one)
    groups = {key: _stacked(run) for key, run in runs.items()}
    if len(saved) == 1 or sum(map(len, groups.values())) == 1:
        ((_, items),) = groups.items()
        file = {folder / f"{stem}{ending}": items[0].item}
        report = folder / f"{stem}.json"
        return _told(write_group(_group(items), file, report, overwrite=True))
    written: list[Path] = []
    stems = _stems(stem, list(groups.values()))
    for own, items in zip(stems, groups.values(), strict=True):
        files = _named(folder, own, items, ending)
        report = folder / f"{own}.json"
        written += write_group(_group(items), files, report, overwrite=False)
    return _told(written)


def _stacked(run: Sequence[SavedLayer]) -> list[SavedLayer]:
    """Return a run's layers, the maps of one kind but several prompts as one."""
    kinds: dict[str, list[SavedLayer]] = {}
    for one in run:
        kinds.setdefault(one.item.kind, []).append(one)
    return [_stack(alike) for alike in kinds.values()]


def _stack(alike: Sequence[SavedLayer]) -> SavedLayer:
    """Return maps of one kind as one, in the order of the run's prompts."""
    first = alike[0]
    if len(alike) == 1:
        return first
    asked = list(first.provenance.get("prompts", ()))
    ordered = sorted(
        {one.item.prompts: one for one in alike}.values(),
        key=lambda one: (
            asked.index(one.item.prompts[0])
            if one.item.prompts[0] in asked
            else len(asked)
        ),
    )
    item = Item(
        kind=first.item.kind,
        values=np.stack([one.item.values for one in ordered]),
        prompts=tuple(prompt for one in ordered for prompt in one.item.prompts),
    )
    return replace(first, item=item)


def _group(items: Sequence[SavedLayer]) -> Group:
    """Say how what is saved together was found."""
    first = items[0]
    for one in items[1:]:
        if one.grid.shape != first.grid.shape:
            msg = (
                f"{one.name}: expected layers of one shape in a result, got "
                f"{one.grid.shape} beside {first.grid.shape}; save them one by one"
            )
            raise GeometryError(msg)
    masks = [one.item for one in items if one.item.kind == LABELS]
    prompts = masks[0].prompts if masks else first.item.prompts
    if masks and masks[0].values.dtype.kind == "u":
        highest = int(masks[0].values.max())
        prompts += tuple(f"label {n}" for n in range(len(prompts) + 1, highest + 1))
    is_edited = any(one.is_edited for one in items)
    person = "SEMIAUTOMATIC" if first.provenance else "MANUAL"
    return Group(
        grid=first.grid,
        findings=Findings(
            prompts,
            first.provenance,
            first.threshold,
            by=person if is_edited else "AUTOMATIC",
        ),
        told=first.told,
    )


def _named(
    folder: Path, stem: str, items: Sequence[SavedLayer], ending: str
) -> dict[Path, Item]:
    """Return the file of each array, named as `medvlseg segment` does."""
    files = {}
    for one in items:
        holds = ending != ".dcm" or one.item.kind in IN_DICOM
        name = f"{stem}_{one.item.kind}" if one.run else stem
        files[folder / f"{name}{ending if holds else '.nii.gz'}"] = one.item
    return files


def _stems(stem: str, groups: Sequence[Sequence[SavedLayer]]) -> list[str]:
    """Return what the names of each group begin with, no two alike."""
    stems: list[str] = []
    for items in groups:
        own = stem
        if not items[0].run:
            called = _UNSAFE.sub("_", items[0].name).strip("_.")
            own = f"{stem}_{called[:_MOST_NAME_CHARACTERS] or items[0].item.kind}"
        name, number = own, 1
        while name in stems:
            number += 1
            name = f"{own}-{number}"
        stems.append(name)
    return stems


def _ending(path: Path) -> str:
    """Return the ending that tells a format, as it is spelt; nothing if none does."""
    if not kind_of(path):
        return ""
    name = path.name.lower()
    return next(path.name[-len(end) :] for end in KINDS if name.endswith(end))


def _layers_on_screen() -> list[LayerData]:
    """Return the viewer's layers: labels of napari's own lie on one of them."""
    import napari

    viewer: Any = napari.current_viewer()
    if viewer is None:
        return []
    return [layer.as_layer_data_tuple() for layer in viewer.layers]


def _told(paths: Sequence[Path]) -> list[str]:
    """Return paths as npe2 wants them."""
    return [str(path) for path in paths]
