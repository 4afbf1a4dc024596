"""Pictures that show nothing of what any set marks: slices of other volumes.

Without them a model that has only seen eight kinds of pictures finds a "brain tumor"
in a slice of a heart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.io.read import is_readable, read
from napari_medvlseg.core.preprocess.pixels import to_network_range, value_range
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.core.targets import targets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

FOLDER = "imagesTr"
MARGIN = 0.25
"""Share of a volume's slices at either end that often show nothing at all."""


def slices_of(
    root: Path, sets: Sequence[str], per_volume: int
) -> Iterator[tuple[Case, Picture]]:
    """Cut slices from the training volumes of other sets, as the network sees them.

    Parameters
    ----------
    root : Path
        The folder that may hold the sets; those that are not there are left out.
    sets : sequence of str
        Folders with ``imagesTr``.
    per_volume : int
        Slices to take, evenly spaced about the middle.

    Yields
    ------
    case : Case
        Of a question about something that is absent.
    picture : (H, W, 3) uint8
    """
    for name in sets:
        folder = root / name / FOLDER
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if not is_readable(path) or path.name.startswith("."):
                continue
            image = read(path)
            slices = choose_slices(image, None, None)
            case = Case(
                dataset=name,
                image_path=path,
                label_path=path,
                target="nothing",
                info=targets_of(name)[0],
                prompt=None,
                absent=True,
            )
            limits = value_range(image.voxels)
            for share in np.linspace(MARGIN, 1 - MARGIN, per_volume + 2)[1:-1]:
                index = int(share * len(slices.indices))
                picture = slices.picture(image.voxels, index)
                pixels = (to_network_range(picture, limits) + 1) * 127.5
                seen = pixels.round().byte().permute(1, 2, 0).numpy()
                yield case, np.ascontiguousarray(seen)
