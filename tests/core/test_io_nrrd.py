from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nrrd
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.nrrd import write_nrrd
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]

VOXELS = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)  # i, j, k
STEPS = np.array([[0.5, 0, 0], [0, 0.7, 0.1], [0, -0.2, 2.5]])  # of i, j, k
ORIGIN = np.array([10.0, -20, 30])
NONE = [np.nan] * 3
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "case.nrrd"


def save(path: Path, voxels: Array = VOXELS, **fields: Any) -> None:
    header = {name.replace("_", " "): value for name, value in fields.items()}
    nrrd.write(str(path), voxels, header)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".NRRD"])
@pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")
def test_voxels_are_read_as_stored_slices_first(
    tmp_path: Path, suffix: str, encoding: str, order: str
) -> None:
    path = tmp_path / f"case{suffix}"
    for dtype in DTYPES:
        save(path, VOXELS.astype(order + dtype), encoding=encoding)
        image = read(path)
        assert np.array_equal(image.voxels, VOXELS.T)
        assert image.voxels.dtype == np.dtype(dtype)
        assert image.voxels.flags.writeable
        assert (image.name, image.ndim, image.slice_axis) == ("case", 3, 0)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("3D-right-handed", (-1, -1, 1)),
    ],
)
def test_every_space_becomes_ras_plus(
    path: Path, space: str, signs: tuple[int, ...]
) -> None:
    save(path, space=space, space_directions=STEPS, space_origin=ORIGIN)
    image = read(path)
    corner = image.affine @ [4, 3, 2, 1]
    assert corner[:3] == pytest.approx((ORIGIN + STEPS.T @ [2, 3, 4]) * signs)
    assert image.units == "mm"
    assert image.slice_axis == 0
    assert image.spacing_mm == pytest.approx(np.linalg.norm(STEPS[::-1], axis=1))


def test_a_left_handed_grid_stays_left_handed(path: Path) -> None:
    flipped = STEPS * [[1], [-1], [1]]
    save(path, space="LPS", space_directions=flipped, space_origin=ORIGIN)
    sign = np.sign(np.linalg.det(read(path).affine[:3, :3]))
    assert sign == np.sign(np.linalg.det(flipped[::-1]))  # LPS to RAS is a turn


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1), ("cm", 10), ("µm", 1e-3), ("m", 1000)]
)
def test_other_units_become_mm(path: Path, unit: str, factor: float) -> None:
    save(path, space="RAS", space_directions=STEPS, space_units=["UNIT"] * 3)
    text = path.read_bytes().replace(b"UNIT", unit.encode())
    path.write_bytes(text)
    assert read(path).affine[:3, 2] == pytest.approx(STEPS[0] * factor)


def test_an_unknown_unit_is_not_called_mm(path: Path) -> None:
    save(path, space="RAS", space_directions=STEPS, space_units=["pixel"] * 3)
    assert read(path).spacing_mm is None


def test_spacings_alone_are_directions_of_their_own(path: Path) -> None:
    save(path, spacings=[0.5, 0.7, 2.5])
    image = read(path)
    assert image.spacing_mm == pytest.approx((2.5, 0.7, 0.5))
    assert image.facts["orientation"] == "unknown"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"spacings": [np.nan, 1, 1]},
        {"space": "LPS", "space_directions": np.eye(3)},
    ],
)
def test_an_unknown_spacing_is_not_called_mm(
    path: Path, fields: dict[str, Any]
) -> None:
    save(path, **fields)
    assert read(path).units == "pixel"


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize("kind", ["vector", "RGB-color", "???"])
def test_values_of_a_voxel_are_colours(path: Path, kind: str, place: int) -> None:
    voxels = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=place).astype(np.uint8)
    kinds, steps = ["domain"] * 3, STEPS.tolist()
    kinds.insert(place, kind)
    steps.insert(place, NONE)
    save(path, voxels, kinds=kinds, space="RAS", space_directions=np.array(steps))
    image = read(path)
    assert (image.rgb, image.spatial_shape) == (True, (5, 4, 3))
    assert np.array_equal(image.voxels[..., 2], VOXELS.T + 2)
    assert image.affine[:3, 2] == pytest.approx(STEPS[0])


def test_a_picture_has_rows_first(path: Path) -> None:
    picture = VOXELS[:, :, 0]
    save(path, picture, space_dimension=2, space_directions=STEPS[:2, :2])
    image = read(path)
    assert np.array_equal(image.voxels, picture.T)
    assert np.allclose(image.affine[:3, :2], [[0.0, -0.5], [-0.7, 0.0], [0.0, 0.0]])
    save(path, picture, space="RAS", space_directions=STEPS[:2])
    assert read(path).affine[:3, 0] == pytest.approx(STEPS[1])


@pytest.mark.parametrize("kind", ["time", "list", "domain", "vector"])
def test_a_series_says_what_to_do_and_a_series_of_one_is_a_volume(
    path: Path, kind: str
) -> None:
    steps = np.vstack([STEPS, NONE])
    for count in (5, 1):
        voxels = np.stack([VOXELS] * count, axis=-1)
        save(path, voxels, kinds=[*["domain"] * 3, kind], space_directions=steps)
        if count == 1:
            assert np.array_equal(read(path).voxels, VOXELS.T)
            continue
        with pytest.raises(UnsupportedFormatError, match="save one time point"):
            read(path)


def test_detached_voxels_that_are_absent_or_several_say_what_to_do(
    tmp_path: Path,
) -> None:
    path = tmp_path / "case.nhdr"
    save(path)
    (tmp_path / "case.raw.gz").unlink()
    with pytest.raises(UnsupportedFormatError, match="copy both files together"):
        read(path)
    text = path.read_text("ascii")
    path.write_text(text.replace("case.raw.gz", "slice%03d.raw 1 5 1"), "ascii")
    with pytest.raises(UnsupportedFormatError, match=r"save the image as one \.nrrd"):
        read(path)


@pytest.mark.parametrize("skip", [7, -1])
def test_bytes_before_raw_voxels_are_skipped(path: Path, skip: int) -> None:
    save(path, encoding="raw")
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(head + f"\nbyte skip: {skip}\n\n".encode() + b"7 bytes" + voxels)
    assert np.array_equal(read(path).voxels, VOXELS.T)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sizes: 3 4 5", b"sizes: 3 4 4"),
        (b"sizes: 3 4 5", b"sizes: 3 4 6"),
        (b"sizes: 3 4 5", b"sizes: 30000 30000 30000"),
        (b"sizes: 3 4 5", b"sizes: 3 -4 5"),
        (b"dimension: 3", b"dimension: 2"),
        (b"type: int16", b"type: block"),
        (b"endian: little", b"endian: middle"),
        (b"encoding: gzip", b"encoding: hex"),
        (b"NRRD0005", b"NRRD9999"),
        (b"(0.5,0", b"(0.0,0"),
    ],
)
def test_a_damaged_header_is_one_clear_error(
    path: Path, old: bytes, new: bytes
) -> None:
    save(path, space="LPS", space_directions=STEPS)
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))
    with pytest.raises(UnsupportedFormatError, match=r"case\.nrrd: .*damaged"):
        read(path)


def test_facts_are_words_of_the_format_and_never_of_a_person(path: Path) -> None:
    save(path, space="LPS", space_directions=STEPS, content="Doe^Jane")
    text = path.read_bytes().replace(
        b"\n\n", b"\nDICOM_0010_0010_PatientName:=Doe^Jane\n\n", 1
    )
    path.write_bytes(text)
    facts = read(path).facts
    assert "Doe" not in repr(facts)
    assert facts == {
        "format": "NRRD",
        "encoding": "gzip",
        "datatype": "int16",
        "spacing_mm": pytest.approx([2.50798724, 0.707106781, 0.5]),
        "orientation": "SPL",
    }


@pytest.mark.parametrize("prompts", [None, 1, 3])
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_written_lies_where_itk_says(
    path: Path, ndim: int, prompts: int | None
) -> None:
    spatial = (5, 4, 3)[-ndim:]
    shape = spatial if prompts is None else (prompts, *spatial)
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    affine = np.eye(4)
    affine[:2, :2] = [[0, -0.5], [-0.7, 0]]
    affine[:2, 3] = [10, -20]
    if ndim == 3:
        affine[:3, :3] = STEPS[::-1].T @ np.diag([1, 1, -1])
    write_nrrd(path, values, affine, ndim=ndim, units="mm")
    if prompts is None:
        assert np.allclose(read(path).affine, affine, atol=1e-12)
        back = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(back), values)
        index = [2, 3, 4][:ndim]
        told = np.zeros(3)
        told[:ndim] = back.TransformContinuousIndexToPhysicalPoint(index)
        ours = affine @ [*index[::-1], *[0] * (3 - ndim), 1]
        if ndim == 2:
            assert told * [-1, -1, 1] == pytest.approx(ours[:3], abs=1e-9)
    else:
        stored, header = nrrd.read(str(path))
        assert header["kinds"] == [*["domain"] * ndim, "list"]
        assert np.array_equal(stored.T, values)


def test_a_picture_in_space_keeps_its_place(path: Path) -> None:
    affine = np.eye(4)[[2, 1, 0, 3]]
    affine[:3, 3] = ORIGIN
    write_nrrd(path, np.zeros((4, 5), np.uint8), affine, ndim=2, units="mm")
    assert np.allclose(read(path).affine[:, [0, 1, 3]], affine[:, [0, 1, 3]])
