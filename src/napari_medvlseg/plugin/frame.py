"""Where a result layer lies: the same place as the image layer that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import CompositeAffine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import napari.layers
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class LayerFrame:
    """A layer's transforms, units, axis labels and metadata, copied when a run starts.

    D is the layer's number of axes without colour.

    Parameters
    ----------
    scale, translate : (D,)
        World units per voxel, and the world position of the first voxel.
    rotate : (D, D)
        Rotation matrix.
    shear : (D * (D - 1) / 2,)
        Upper triangle of the shear matrix.
    affine : (D + 1, D + 1)
        Applied after the others.
    units, axis_labels : D each
        Of the world.
    metadata : mapping
        The image layer's own.
    """

    scale: npt.NDArray[np.float64]
    translate: npt.NDArray[np.float64]
    rotate: npt.NDArray[np.float64]
    shear: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, layer: napari.layers.Layer) -> LayerFrame:
        """Copy a layer's frame."""
        return cls(
            scale=layer.scale.copy(),
            translate=layer.translate.copy(),
            rotate=layer.rotate.copy(),
            shear=layer.shear.copy(),
            affine=layer.affine.affine_matrix.copy(),
            units=tuple(layer.units),
            axis_labels=tuple(layer.axis_labels),
            metadata=dict(layer.metadata),
        )

    def at(
        self, offset: Sequence[int], stretch: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return a new layer's keywords, so that its voxel 0 lies at `offset` here.

        The offset is in voxels, so it passes through scale, shear and rotation before
        it is added to the translation.

        Parameters
        ----------
        offset : D indices
        stretch : D sizes, optional
            How many voxels from `offset` on each voxel of the new layer covers.
        """
        size = np.ones(len(self.scale)) if stretch is None else np.asarray(stretch)
        middle = np.asarray(offset) + (size - 1) / 2
        to_physical = CompositeAffine(
            self.scale, self.translate, rotate=self.rotate, shear=self.shear
        )
        return {
            "scale": self.scale * size,
            "translate": to_physical(middle),
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }
