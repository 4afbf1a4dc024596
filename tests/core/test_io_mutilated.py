"""A hundred mutilated files: each is one clear error, or an image of its true shape."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import subprocess
import sys
import textwrap
import zlib
from typing import TYPE_CHECKING, Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs
import tifffile
from PIL import Image as Pillow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHAPE = (12, 20, 28)
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE, dtype=np.int16)
SECONDS, BYTES = 5, 10**9
ABSURD = 30_000
MEBIBYTE = 2**20

READ_ALL = """
    import json, resource, sys, time
    from pathlib import Path
    import numpy as np
    from napari_medvlseg.core.errors import UnsupportedFormatError
    from napari_medvlseg.core.io.open import open_image
    from napari_medvlseg.core.io.read import read
    ways = {"read": read, "open": lambda path: open_image(path)}
    for path in Path(sys.argv[1]).glob("whole*"):
        for way in ways.values():
            np.asarray(way(path).voxels)  # what is imported then stays
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {}
    for path in sorted(Path(sys.argv[1]).glob("damaged*")):
        for name, way in ways.items():
            start = time.process_time()
            try:
                outcome = list(np.asarray(way(path).voxels).shape)
            except UnsupportedFormatError as error:
                outcome = str(error)
            except Exception as error:
                outcome = {"bug": f"{type(error).__name__}: {error}"}
            told[f"{name} {path.name}"] = [outcome, time.process_time() - start]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"bytes": (after - before) * unit, "files": told}))
"""


def save_nifti(path: Path) -> None:
    nib.save(nib.Nifti1Image(VOXELS, np.diag([1.0, 2, 3, 1])), path)


def save_nrrd(path: Path) -> None:
    steps = np.diag([1.0, 2, 3])
    header = {"space": "LPS", "space directions": steps, "encoding": "gzip"}
    nrrd.write(str(path), VOXELS.T, header)


def save_raw_nrrd(path: Path) -> None:
    nrrd.write(str(path), VOXELS.T, {"spacings": [1, 2, 3], "encoding": "raw"})


def save_metaimage(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))


def save_packed_metaimage(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path), useCompression=True)


def save_png(path: Path) -> None:
    Pillow.fromarray(VOXELS[0].astype(np.uint8)).save(path)


def save_tiff(path: Path) -> None:
    tifffile.imwrite(path, VOXELS, photometric="minisblack")


def save_packed_tiff(path: Path) -> None:
    tifffile.imwrite(path, VOXELS[0], compression="zlib", rowsperstrip=6)


def save_ome_tiff(path: Path) -> None:
    sizes = {"PhysicalSizeX": 2, "PhysicalSizeY": 2, "PhysicalSizeZ": 5}
    tifffile.imwrite(path, VOXELS, ome=True, metadata={"axes": "ZYX", **sizes})


def save_imagej_tiff(path: Path) -> None:
    told = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(path, VOXELS, imagej=True, resolution=(4, 4), metadata=told)


def save_jpeg(path: Path) -> None:
    Pillow.fromarray(VOXELS[0].astype(np.uint8)).save(path)


def save_bzip_nrrd(path: Path) -> None:
    nrrd.write(str(path), VOXELS.T, {"spacings": [1, 2, 3], "encoding": "bzip2"})


SAVERS: list[tuple[str, Callable[[Path], None], tuple[int, ...]]] = [
    ("nii", save_nifti, SHAPE),
    ("nii.gz", save_nifti, SHAPE),
    ("nrrd", save_nrrd, SHAPE),
    ("nrrd", save_raw_nrrd, SHAPE),
    ("mha", save_metaimage, SHAPE),
    ("mha", save_packed_metaimage, SHAPE),
    ("png", save_png, SHAPE[1:]),
    ("tif", save_tiff, SHAPE),
    ("tif", save_packed_tiff, SHAPE[1:]),
    ("tif", save_ome_tiff, SHAPE),
    ("tif", save_imagej_tiff, SHAPE),
    ("nrrd", save_bzip_nrrd, SHAPE),
    ("jpg", save_jpeg, SHAPE[1:]),
]


def cut(whole: bytes, generator: np.random.Generator) -> bytes:
    return whole[: int(generator.integers(1, len(whole)))]


def flip(whole: bytes, generator: np.random.Generator, within: int) -> bytes:
    flipped = bytearray(whole)
    for place in generator.integers(0, min(within, len(whole)), 3):
        flipped[place] ^= int(generator.integers(1, 256))
    return bytes(flipped)


def mutilated(folder: Path, seed: int, rounds: int) -> Iterator[tuple[str, bytes, Any]]:
    """Yield suffix, bytes and the shape that is still right, if any is."""
    generator = np.random.default_rng(seed)
    for suffix, save, shape in SAVERS:
        path = folder / f"whole.{suffix}"
        save(path)
        whole = path.read_bytes()
        for _ in range(rounds):
            yield suffix, cut(whole, generator), shape
            if suffix == "jpg":  # has no checksum: a flipped size is just another
                continue
            yield suffix, flip(whole, generator, within=len(whole)), shape
            yield suffix, flip(whole, generator, within=360), shape


def zeros_gzip(mebibytes: int) -> bytes:
    return gzip.compress(bytes(MEBIBYTE)) * mebibytes


def zeros_zlib(mebibytes: int) -> bytes:
    packer = zlib.compressobj()
    block = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block + again * (mebibytes - 1) + packer.flush()


def zeros_bzip(mebibytes: int) -> bytes:
    return bz2.compress(bytes(MEBIBYTE)) * mebibytes


def laughs() -> bytes:
    """Return a TIFF whose OME-XML would grow to a hundred million words."""
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(8))
    text = (
        f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY l0 "haha">{entities}]>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        "<Image><Description>&l8;</Description></Image></OME>"
    )
    file = io.BytesIO()
    tifffile.imwrite(file, VOXELS[0], description=text, metadata=None)
    return file.getvalue()


def nifti_header(*shape: int) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((1, 1, 1))
    header["dim"][1 : 1 + len(shape)] = shape
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def nrrd_header(*shape: int, encoding: str) -> bytes:
    sizes = " ".join(map(str, shape))
    text = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}"
    return text.encode() + b"\n\n"


def metaimage_header(*shape: int, packed: str) -> bytes:
    sizes = " ".join(map(str, shape))
    return (
        f"NDims = 3\nDimSize = {sizes}\nElementType = MET_UCHAR\n"
        f"CompressedData = {packed}\nElementDataFile = LOCAL\n"
    ).encode()


def png(width: int, height: int, packed: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(width: int, length: int, packed: bytes) -> bytes:
    tags = {256: width, 257: length, 258: 8, 259: 8, 262: 1, 273: 8, 278: length}
    tags[279] = len(packed)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def bombs() -> Iterator[tuple[str, bytes, Any]]:
    """Yield what declares, or expands to, far more than it holds."""
    gzipped, packed = zeros_gzip(2000), zeros_zlib(2000)
    absurd, small, large = (ABSURD,) * 3, (10, 10, 10), (1000, 1000, 2000)
    one = bytes(1000)
    for shape, voxels in [(absurd, one), (absurd, gzipped), (small, gzipped)]:
        yield "nii.gz", gzip.compress(nifti_header(*shape)) + voxels, None
        head = nrrd_header(*shape, encoding="gzip")
        yield "nrrd", head + voxels, None
    for shape, voxels in [(absurd, one), (large, packed), (small, packed)]:
        yield "mha", metaimage_header(*shape, packed="True") + voxels, None
    yield "nii.gz", gzip.compress(nifti_header(*large)) + gzipped, None
    yield "nrrd", nrrd_header(*large, encoding="gzip") + gzipped, None
    yield "nii", nifti_header(*absurd) + one, None
    yield "nrrd", nrrd_header(*absurd, encoding="raw") + one, None
    yield "mha", metaimage_header(*absurd, packed="False") + one, None
    for width, height in [(ABSURD, ABSURD), (12_000, 12_000)]:
        yield "png", png(width, height, packed), None
        yield "tif", tiff(width, height, packed), None
    yield "tif", tiff(10, 10, packed), None
    bzipped = zeros_bzip(2000)
    for shape, voxels in [(absurd, one), (small, bzipped), (large, bzipped)]:
        yield "nrrd", nrrd_header(*shape, encoding="bzip2") + voxels, None
    yield "tif", laughs(), SHAPE[1:]


def outcomes(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ_ALL), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.skipif(sys.platform == "win32", reason="peaks of memory are POSIX")
@pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")
def test_a_hundred_mutilated_files_are_errors_or_images_of_their_shape(
    tmp_path: Path,
) -> None:
    files = [*mutilated(tmp_path, seed=4, rounds=3), *bombs()]
    assert len(files) >= 100
    shapes: dict[str, Any] = {}
    for index, (suffix, content, shape) in enumerate(files):
        name = f"damaged{index:03d}.{suffix}"
        (tmp_path / name).write_bytes(content)
        shapes[name] = shape
    told = outcomes(tmp_path)
    ways = [(way, name) for way in ("read", "open") for name in shapes]
    assert set(told["files"]) == {f"{way} {name}" for way, name in ways}
    for way, name in ways:
        outcome, seconds = told["files"][f"{way} {name}"]
        wanted = shapes[name] and list(shapes[name])
        if way == "open" and ".nii" in name:
            wanted = wanted and wanted[::-1]
        right = wanted is not None and outcome == wanted
        told_in_a_line = isinstance(outcome, str) and "\n" not in outcome
        assert right or told_in_a_line, (way, name, outcome)
        assert seconds < SECONDS, name
    assert told["bytes"] < BYTES
