"""Results lie on a layer that the user moved, and are saved in the file's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medvlseg.core.io.opened import Opened
from napari_medvlseg.core.orientation import EdgeLetters
from napari_medvlseg.plugin.layer_space import camera_of, patient_affine, spatial_shape
from napari_medvlseg.plugin.opened_layer import to_layer_data
from napari_medvlseg.plugin.orientation_marks import letters_for
from tests.plugin.test_places import noise, run

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
AFFINE = np.array([[-0.5, 0, 0, 9], [0, 0.8, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1.0]])
QUARTER_TURN = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)


@pytest.fixture
def viewer() -> Any:
    """Return a viewer with a volume (x, y, z) that its user has moved."""
    viewer = ViewerModel()
    opened = Opened(voxels=noise((4, 5, 6)), affine=AFFINE, units="mm", slice_axis=2)
    data, choices, _ = to_layer_data(opened, Path("ct.nii"))
    layer = viewer.add_image(data, **choices)
    layer.translate = np.add(layer.translate, (3, -20, 11))
    layer.rotate = QUARTER_TURN
    layer.affine = np.array(
        [[1, 0, 0, 2], [0, 0.6, -0.8, 0], [0, 0.8, 0.6, 0], [0, 0, 0, 1.0]]
    )
    return viewer


@pytest.mark.parametrize("whole", [True, False])
def test_results_lie_on_the_moved_image_and_in_the_files_place(
    viewer: Any, *, whole: bool
) -> None:
    (image,) = viewer.layers
    viewer.dims.set_current_step(0, 2)
    result = run(viewer, image, whole=whole)
    first = np.array(result.job.cut.offset)
    for layer in result.layers:
        known = patient_affine(layer.metadata, spatial_shape(layer))
        assert known is not None
        for index in ((0, 0, 0), (0, 3, 2), (0, 4, 3)):
            there = first + index
            np.testing.assert_allclose(
                layer.data_to_world(index), image.data_to_world(there), atol=1e-9
            )
            z, y, x = there  # the file's axes, which the reader turned
            in_file = AFFINE @ [x, 4 - y, 5 - z, 1]
            np.testing.assert_allclose(known @ [*index, 1], in_file, atol=1e-9)


def test_what_is_saved_has_the_files_affine(viewer: Any) -> None:
    (image,) = viewer.layers
    cut = run(viewer, image, whole=True).job.cut
    moved_back = ViewerModel()
    opened = Opened(voxels=noise((4, 5, 6)), affine=AFFINE, units="mm", slice_axis=2)
    data, choices, _ = to_layer_data(opened, Path("ct.nii"))
    still = moved_back.add_image(data, **choices)
    np.testing.assert_array_equal(
        cut.affine, run(moved_back, still, whole=True).job.cut.affine
    )
    assert cut.units == "mm"


def test_letters_turn_with_the_layer(viewer: Any) -> None:
    (image,) = viewer.layers
    image.affine = np.eye(4)
    upright = EdgeLetters(left="R", right="L", top="A", bottom="P")
    turned = EdgeLetters(left="A", right="P", top="L", bottom="R")
    assert letters_for(viewer.layers, viewer.dims, camera_of(viewer)) == turned
    image.rotate = np.eye(3)
    assert letters_for(viewer.layers, viewer.dims, camera_of(viewer)) == upright
