"""`medvlseg` with a 3D model: segment, evaluate, models."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_medvlseg.cli import main
from napari_medvlseg.core import evaluate_volumes
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.io.labels import read_labels
from tests.volume_models import write_tiny_bundle, write_tiny_run

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medvlseg.core.types import Image

SHAPE = (14, 12, 10)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny-3d")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write a volume in mm, and the same with labels as a set to validate with."""
    voxels = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 2:9, 2:8], label[7:12, 2:9, 2:8] = 1, 2
    for kind, array in (("images", voxels), ("labels", label)):
        folder = tmp_path / "set" / f"{kind}Val"
        folder.mkdir(parents=True)
        volume = nib.Nifti1Image(array, np.diag([-1.0, 1.0, 2.0, 1.0]))
        volume.header.set_xyzt_units("mm")
        nib.save(volume, folder / "scan.nii.gz")
    return tmp_path / "set" / "imagesVal" / "scan.nii.gz"


def _load(path: Path) -> Any:
    return nib.load(path)


def test_segment_writes_classes_maps_and_a_sidecar(
    bundle: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", str(scan), "--model", str(bundle), "--samples", "2"]
    out = tmp_path / "out" / "OUT.nii.gz"
    names = "anterior hippocampus, posterior hippocampus"
    assert main([*words, "--prompt", names, "-o", str(out)]) == 0
    maps = ("predictive_entropy", "mutual_information", "expected_entropy")
    expected = {f"OUT_{n}.nii.gz" for n in ("labels", "probability", *maps)}
    assert {p.name for p in out.parent.iterdir()} == {*expected, "OUT.json"}
    labels = _load(out.parent / "OUT_labels.nii.gz")
    assert labels.shape == SHAPE
    np.testing.assert_array_equal(labels.affine, _load(scan).affine)
    probability = _load(out.parent / "OUT_probability.nii.gz").get_fdata()
    assert probability.shape == (*SHAPE, 2)
    for name in maps:  # one for all classes
        assert _load(out.parent / f"OUT_{name}.nii.gz").shape == SHAPE
    told = json.loads((out.parent / "OUT.json").read_text(encoding="utf-8"))
    assert told["exclusive"] is True
    first, second = told["prompts"]
    assert first["prompt"] == "Anterior hippocampus"
    assert (first["label"], first["color"]) == (1, "#56b4e9")
    assert second["color"] == "#e69f00"
    counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=3)
    assert [first["pixels"], second["pixels"]] == counts[1:].tolist()
    assert told["provenance"]["asked"] == [names]
    assert '"Anterior hippocampus"' in capsys.readouterr().out
    assert main([*words, "--prompt", names, "-o", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_an_unknown_class_and_a_picture_are_told_in_a_line(
    bundle: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", "--model", str(bundle), "-o", str(tmp_path / "out")]
    assert main([*words, str(scan), "--prompt", "liver"]) == 2
    assert "the nearest are" in capsys.readouterr().err
    from PIL import Image

    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(picture)
    assert main([*words, str(picture), "--prompt", "all"]) == 2
    assert "expected a whole grey volume for tiny-3d" in capsys.readouterr().err
    both = [*words[:-1], str(tmp_path / "x.nii.gz"), str(scan), str(picture)]
    assert main([*both, "--prompt", "all"]) == 2
    assert "expected a folder as --output of 2 images" in capsys.readouterr().err


def test_evaluate_tells_each_class(
    bundle: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["evaluate", "--model", str(bundle), "--samples", "1"]
    data = ["--data", str(scan.parent.parent)]
    assert main([*words, *data, "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    assert "Posterior hippocampus" in shown
    assert "HD95" in shown
    assert "Spearman, mutual information and error" in shown
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert (told["set"], told["n"], told["units"]) == ("set", 1, "mm")
    anterior = told["classes"]["Anterior hippocampus"]
    assert {"dsc", "nsd", "hd95", "sensitivity", "specificity"} < set(anterior)
    assert 0 <= anterior["pooled"]["f1"] <= 1
    assert "sens." in shown
    believed = told["reliability"]
    assert 0 <= believed["brier"]["union"] <= 1
    assert believed["cases"]["ece"]["mean"] == pytest.approx(believed["ece"]["union"])
    assert main([*words, *data, *data, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text(encoding="utf-8"))["n"] == 1  # the same set
    assert main([*words, *data, "--prompts", "class_name"]) == 2
    assert "--prompts belongs to models of pictures" in capsys.readouterr().err
    assert main([*words, *data, "--sample-counts", "2"]) == 2
    assert "from 1 to the 1 of --samples, got 2" in capsys.readouterr().err
    assert main([*words, *data, "--out-of-domain", "other"]) == 2
    assert "to name one of the sets (set), got 'other'" in capsys.readouterr().err
    assert main([*words, *data, "--split", "test"]) == 2
    assert "labelled volumes of the test split" in capsys.readouterr().err


def test_everything_that_evaluate_tells_of_volumes_is_written(
    bundle: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(scan.parent.parent, other)
    words = ["evaluate", "--model", str(bundle), "--samples", "3"]
    data = ["--data", str(scan.parent.parent), "--data", str(other)]
    asked = ["--sample-counts", "1,2", "--out-of-domain", "other"]
    files = ["--csv", str(out / "a.csv"), "--json", str(out / "a.json")]
    plots = ["--figures", str(out / "plots")]
    assert main([*words, *data, *asked, *files, *plots]) == 0
    pictures = {"reliability.png", "uncertainty.png", "samples.png"}
    assert {path.name for path in (out / "plots").iterdir()} == pictures
    assert {path.name for path in out.iterdir()} == {
        *("a.csv", "a_cases.csv", "a.json", "plots")
    }
    told = json.loads((out / "a.json").read_text("utf-8"))
    assert [one["samples"] for one in told["sample_counts"]] == [1, 2, 3]
    assert told["domains"]["in"]["dsc"] == told["sets"][0]["dsc"]["mean"]
    with (out / "a_cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2  # sets, counts and classes
    assert [row["samples"] for row in rows[:6]] == [*"112233"]
    last = told["sets"][0]["cases"][0]["classes"]["Anterior hippocampus"]
    assert float(rows[4]["sensitivity"]) == last["sensitivity"]
    assert (rows[4]["target"], rows[4]["units"]) == ("Anterior hippocampus", "mm")
    with (out / "a.csv").open(encoding="utf-8", newline="") as file:
        kinds = [row["row"] for row in csv.DictReader(file)]
    classes = ["class", "class"]
    of_set = ["set", *classes, *["sample count", *classes] * 3]
    means = ["mean of sets", "in domain", "out of domain", "harmonic mean"]
    assert kinds == [*of_set, *of_set, *means * 4]
    shown = capsys.readouterr().out
    assert "harmonic mean" in shown
    assert "Samples" in shown


class Read:
    """Reads labels, remembers whose, and may be interrupted after the first."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_cut_off = True
        self._read = read_labels

    def __call__(self, path: Path, image: Image) -> Any:
        if self.names and self.is_cut_off:
            raise KeyboardInterrupt
        self.names.append(path.name.removesuffix(".nii.gz"))
        return self._read(path, image)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    counted = Read()
    monkeypatch.setattr(evaluate_volumes, "read_labels", counted)
    return counted


@pytest.fixture
def cut_off(
    bundle: Path,
    scan: Path,
    tmp_path: Path,
    read: Read,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    """Interrupt an evaluation of two volumes after the first; return its command."""
    for kind in ("images", "labels"):
        folder = scan.parent.parent / f"{kind}Val"
        shutil.copyfile(folder / "scan.nii.gz", folder / "two.nii.gz")
    data = ["--data", str(scan.parent.parent), "--samples", "2"]
    out = ["--json", str(tmp_path / "out" / "a.json"), "--sample-counts", "1"]
    command = ["evaluate", "--model", str(bundle), *data, *out]
    assert main(command) == 130
    assert "results of 1 volumes are kept" in capsys.readouterr().err
    (left,) = (tmp_path / "out").iterdir()
    assert left.name.startswith(".a.json.set-")
    read.names.clear()
    return command


def test_an_interrupted_evaluation_of_volumes_goes_on_where_it_was(
    cut_off: list[str], read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read.is_cut_off = False
    assert main(cut_off) == 0
    assert "set: goes on after 1 finished volumes" in capsys.readouterr().err
    assert read.names == ["two"]
    file = tmp_path / "out" / "a.json"
    assert list(file.parent.iterdir()) == [file]
    told = [json.loads(file.read_text("utf-8"))]
    assert main([*cut_off, "--no-resume"]) == 0
    told.append(json.loads(file.read_text("utf-8")))
    for each in told:
        for timed in (each, *each["cases"], *each["sample_counts"]):
            timed.pop("seconds", None)
    assert told[0] == told[1]


def test_results_of_other_settings_or_another_model_are_not_mixed_in(
    cut_off: list[str], read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*cut_off, "--seed", "3"]) == 130
    told = capsys.readouterr().err
    assert "begins anew; the unfinished run there had seed 0, not 3" in told
    assert read.names == ["scan"]
    read.names.clear()
    twin = write_tiny_bundle(tmp_path / "models" / "tiny-3d", heads=1)
    assert main([*cut_off, "--model", str(twin)]) == 130  # of the same name
    assert "goes on after" not in capsys.readouterr().err
    assert read.names == ["scan"]


def test_channels_come_from_several_files_or_from_four_axes(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_tiny_bundle(tmp_path / "models" / "two-3d", channels=2))
    voxels = np.random.default_rng(0).normal(100, 20, (*SHAPE, 2)).astype(np.float32)
    data = tmp_path / "set"
    for kind in ("imagesVal", "labelsVal"):
        (data / kind).mkdir(parents=True)
    named = {
        "imagesVal/scan_0000": voxels[..., 0],
        "imagesVal/scan_0001": voxels[..., 1],
        "labelsVal/scan": (voxels[..., 0] > 100).astype(np.uint8),
        "../whole": voxels,
    }
    for name, array in named.items():
        nib.save(nib.Nifti1Image(array, np.eye(4) * 2), data / f"{name}.nii.gz")
    words = ["--model", model, "--samples", "1"]
    first, second = (str(data / f"imagesVal/scan_000{n}.nii.gz") for n in (0, 1))
    ask = ["segment", *words, "--prompt", "all", "-o", str(tmp_path / "out")]
    assert main([*ask, first, "--channel", second]) == 0
    assert main([*ask, str(tmp_path / "whole.nii.gz")]) == 0
    apart, whole = (
        _load(tmp_path / "out" / f"{name}_probability.nii.gz").get_fdata()
        for name in ("scan_0000", "whole")
    )
    np.testing.assert_array_equal(apart, whole)
    assert _load(tmp_path / "out" / "whole_labels.nii.gz").shape == SHAPE
    assert main(["evaluate", *words, "--data", str(data)]) == 0
    capsys.readouterr()
    ask[-1] = str(tmp_path / "other")
    assert main([*ask, first]) == 2
    assert "volume of 2 channels for two-3d, got 1" in capsys.readouterr().err
    other = ["segment", "--model", str(bundle), "--prompt", "all"]
    assert main([*other, first, "--channel", second, "-o", str(tmp_path / "x")]) == 2
    assert "--channel belongs to 3D models" in capsys.readouterr().err
    assert main([*ask, first, second, "--channel", second]) == 2
    assert "expected one image beside --channel" in capsys.readouterr().err


def test_several_sets_are_averaged_and_a_twin_is_asked_on_flips(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose draws are all alike is asked once a view."""
    twin = write_tiny_bundle(tmp_path / "models" / "twin-3d", text="none")
    other = tmp_path / "other"
    shutil.copytree(scan.parent.parent, other)
    figures = tmp_path / "figures.json"
    words = ["evaluate", "--model", str(twin), "--flips", "RA"]
    data = ["--data", str(scan.parent.parent), "--data", str(other)]
    assert main([*words, *data, "--json", str(figures)]) == 0
    told = json.loads(figures.read_text(encoding="utf-8"))
    one, two = told["sets"]
    assert (one["samples"], one["flips"]) == (4, "RA")
    assert one["dsc"]["mean"] == two["dsc"]["mean"] == told["mean"]["dsc"]["mean"]
    brier = one["reliability"]["brier"]["union"]
    assert told["mean"]["brier"] == {"mean": brier, "std": 0.0}
    shown = capsys.readouterr().out
    assert main([*words, *data[:2], "--sample-counts", "1"]) == 0
    assert "--sample-counts tells nothing" in capsys.readouterr().err
    assert "4 samples, flips RA" in " ".join(shown.split())  # the title may be broken
    assert "mean of sets" in shown
    assert main([*words[:-1], "X", *data]) == 2
    assert "flips must be none, or some of the letters RAS" in capsys.readouterr().err


def test_a_run_is_exported_with_its_figures_and_the_model_is_listed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path))
    run = write_tiny_run(tmp_path / "run")
    spread = {"mean": 0.5, "std": None}
    of_class = {"dsc": spread, "nsd": spread, "hd95": {"mean": None, "std": None}}
    told = {
        "set": "Hippocampus",
        "split": "val",
        "n": 3,
        "samples": 30,
        "nsd_tolerance": 1.0,
        "units": "mm",
        "classes": {"A": of_class},
        **of_class,
    }
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(told), encoding="utf-8")
    folder = tmp_path / "models" / "mine-3d"
    words = ["models", "export", str(run), "--output", str(folder)]
    assert main([*words, "--figures", str(figures)]) == 0
    capsys.readouterr()
    assert main(["models", "list", "--installed", "--json"]) == 0
    entry = next(
        each
        for each in json.loads(capsys.readouterr().out)
        if each["model"] == "mine-3d"
    )
    assert entry["modality"] == "MR volume"
    assert entry["organ"] == "Anterior hippocampus, Posterior hippocampus"
    assert main(["models", "show", "mine-3d"]) == 0
    assert "| Hippocampus | A | 0.500 | 0.500 | - |" in capsys.readouterr().out
    assert main([*words, "--blend", "compact"]) == 2
    assert main([*words, "--pixels-noise", "1,1,2"]) == 2
    packed = str(tmp_path / "mine.zip")
    assert main(["models", "export", "mine-3d", "--output", packed]) == 0
    assert main(["models", "import", packed, "--name", "again"]) == 0
    assert model_card("again").volume == model_card("mine-3d").volume


def test_bench_tells_seconds_and_how_many_times_faster(
    bundle: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(scan), "--model", str(bundle), "--repeats", "1"]
    assert main([*words, "--samples", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"] == list(SHAPE)
    assert told["one"]["cpu_s"] > 0
    assert told["speedup"]["wall_s"] > 0
    assert main([*words, "--samples", "2"]) == 0
    shown = capsys.readouterr().out
    assert "times faster, 2" in shown
    assert "of the processor" in shown
