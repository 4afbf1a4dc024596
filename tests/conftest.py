"""What every test may ask for; and no test may ask for the network."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture

from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.types import Image
from tests.dicom_files import write_dicom_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pydicom

    from napari_medvlseg.core.predictor import Predictor

GUARD = Path(__file__).parent / "no_network"

with contextlib.suppress(ImportError):
    # Where OpenGL is up already, importing triton (timm does) ends the process.
    importlib.import_module("triton")


def pytest_configure(config: pytest.Config) -> None:
    """Forbid the network, here and in child processes, before anything is imported."""
    log = Path(config.rootpath, ".pytest_cache", f"network-{os.getpid()}.log")
    log.parent.mkdir(exist_ok=True)
    log.write_text("", encoding="utf-8")
    os.environ["NO_NETWORK_LOG"] = str(log)
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), inherited]))
    spec = importlib.util.spec_from_file_location(
        "no_network", GUARD / "sitecustomize.py"
    )
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def pytest_unconfigure() -> None:
    """Leave no log behind."""
    Path(os.environ["NO_NETWORK_LOG"]).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def network_log(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Fail the test that reached for the network, even if something hid the error."""
    log = Path(os.environ["NO_NETWORK_LOG"])
    if request.node.get_closest_marker("loopback"):
        monkeypatch.setenv("NO_NETWORK_LOOPBACK", "1")
    yield log
    attempts = log.read_text(encoding="utf-8")
    log.write_text("", encoding="utf-8")
    if attempts:
        pytest.fail(f"the test reached for the network: {attempts.strip()}")


@pytest.fixture
def phantom() -> Image:
    """Return a bright ball in noise: 16 x 20 x 12 voxels on an oblique grid in mm."""
    shape = (16, 20, 12)
    center = np.array([8, 9, 5]).reshape(3, 1, 1, 1)
    inside = ((np.indices(shape) - center) ** 2).sum(axis=0) <= 4**2
    noise = np.random.default_rng(0).normal(0, 0.05, shape)
    affine = np.eye(4)
    affine[:3, :3] = [[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0], [0.0, 0.0, 2.5]]
    affine[:3, 3] = [-12.0, 7.0, 30.0]
    voxels = (inside + noise).astype(np.float32)
    return Image(voxels, affine, units="mm", slice_axis=2, name="phantom")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of labelled images; skip where this machine has none."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip("no labelled images here; set MEDVLSEG_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a set named Kvasir: four training pictures and one to validate with."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for split, count in (("Train", 4), ("Val", 1)):
        folder = root / "Kvasir" / f"{split}_Folder"
        (folder / "img").mkdir(parents=True)
        (folder / "label").mkdir()
        for index in range(count):
            picture = generator.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            label = np.zeros((40, 48), np.uint8)
            label[5:20, 5 + 5 * index : 20 + 5 * index] = 255
            picture[label > 0] += 100
            Picture.fromarray(picture).save(folder / "img" / f"{index}.png")
            Picture.fromarray(label).save(folder / "label" / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., pydicom.Dataset]:
    """Return a function that writes a DICOM file."""
    return write_dicom_file


@pytest.fixture(scope="session")
def _models() -> dict[tuple[str, str, str], Predictor]:
    return {}


@pytest.fixture
def loaded_once(
    monkeypatch: pytest.MonkeyPatch, _models: dict[tuple[str, str, str], Predictor]
) -> None:
    """Let the commands of many tests share a loaded model, which forgets its images."""
    from napari_medvlseg.core.predictor import Predictor

    load = Predictor.load

    def shared(
        model: str = "compact", *, device: str = "auto", precision: str = "auto"
    ) -> Predictor:
        key = (model, device, precision)
        if key not in _models:
            _models[key] = load(model, device=device, precision=precision)
        _models[key].forget()
        return _models[key]

    monkeypatch.setattr(Predictor, "load", shared)
