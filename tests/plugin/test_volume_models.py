"""The dock with a 3D model: offered for volumes, classes by name, colours, sessions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError, PromptError
from napari_medvlseg.core.io.class_sheet import read_class_sheet
from napari_medvlseg.core.pipeline import segment_steps
from napari_medvlseg.core.preprocess.resample import ModelGrid
from napari_medvlseg.plugin.command import shell_command
from napari_medvlseg.plugin.findings import Findings, hints
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.reader import read_layers
from napari_medvlseg.plugin.segment_widget import SegmentWidget
from napari_medvlseg.plugin.volume_ask import job_of
from tests.plugin.conftest import WAIT_MS, disc, run_and_wait
from tests.volume_models import GreyNetwork, grey_predictor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.run import Step
    from napari_medvlseg.core.types import Image
    from napari_medvlseg.plugin.settings import Settings


def grey_steps(
    image: Image, prompts: Sequence[str], _model: str, config: SegmentConfig
) -> Iterator[Step]:
    """Run the grey network of the core's tests: a real 3D run."""
    return segment_steps(image, prompts, grey_predictor(), config)


@pytest.fixture
def dock(viewer: Any, card: ModelCard, settings: Settings) -> SegmentWidget:
    """Dock the widget with a model of pictures and one of volumes, the chosen one."""
    models = [card, grey_predictor().card]
    widget = SegmentWidget(viewer, steps=grey_steps, models=models, settings=settings)
    viewer.window.add_dock_widget(widget, name="Segment")
    widget.options.samples.setValue(2)
    widget.options.model.setCurrentIndex(widget.options.model.findData("grey"))
    return widget


def _volume() -> Any:
    voxels = np.full((6, 10, 12), -1.0, np.float32)
    voxels[1:4, 2:8, 3:9] = 1.0
    return voxels


def _cell(dock: SegmentWidget, row: int, column: int) -> Any:
    return dock.classes.table.item(row, column)


def _is_offered(dock: SegmentWidget) -> bool:
    model: Any = dock.options.model.model()
    row = dock.options.model.findData("grey")
    return bool(model.item(row).isEnabled())


def test_a_3d_model_is_offered_for_volumes_and_says_why_not_for_pictures(
    viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(disc(), name="picture")
    assert not _is_offered(dock)
    row = dock.options.model.findData("grey")
    why = dock.options.model.itemData(row, Qt.ItemDataRole.ToolTipRole)
    assert why.startswith("Not for pictures")
    assert why in dock.options.summary.text()
    dock.prompt.set_text("all")
    with pytest.raises(ImageError, match="expected a grey volume for grey, got a pict"):
        dock.job()
    viewer.add_image(_volume(), name="volume")
    dock.image.choose(viewer.layers["volume"])
    assert _is_offered(dock)
    assert why not in dock.options.summary.text()
    assert dock.options.is_whole
    assert not dock.options.slice.isEnabled()
    assert len(dock.job().cut.kept) == 3
    dock.options.model.setCurrentIndex(dock.options.model.findData("blobs"))
    assert dock.options.slice.isChecked()  # as it was before
    assert not dock.classes.isVisibleTo(dock)


def test_classes_are_named_and_coloured_and_share_their_entropies(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(_volume(), name="volume")
    assert run_and_wait(qtbot, dock, "dark blob, bright blob")
    names = {layer.name for layer in viewer.layers}
    both = "Dark blob, Bright blob · volume"
    assert names == {
        *("volume", f"mask · {both}"),
        *(f"probability · {name} · volume" for name in ("Dark blob", "Bright blob")),
        *(f"predictive entropy · {both}", f"mutual information · {both}"),
        f"expected entropy · {both}",
    }
    mask = viewer.layers[f"mask · {both}"]
    assert list(mask.features["prompt"]) == ["background", "Dark blob", "Bright blob"]
    np.testing.assert_allclose(mask.get_color(1)[:3], [0, 1, 0])  # its own, of the card
    np.testing.assert_allclose(mask.get_color(2)[:3], [1, 0, 0])
    np.testing.assert_array_equal(mask.data, np.where(_volume() > 0, 2, 1))
    assert "#00ff00" in dock.results.legend.text()
    for kind in ("predictive entropy", "mutual information", "expected entropy"):
        limits = viewer.layers[f"{kind} · {both}"].contrast_limits
        np.testing.assert_allclose(limits, (0, np.log(3)))  # and the background
    limit = dock.results._limits["predictive_entropy"]
    assert limit.text() == "to 1.1 nats"
    assert "the classes and the background: ln 3" in limit.toolTip()
    assert not dock.results.threshold.isEnabled()
    viewer.cursor.position = (2, 4, 5)
    dock._on_cursor_moved()
    assert "Bright blob: probability 0.9" in dock.results.read_out.text()
    dock.results.set_findings(None)
    assert limit.text() == "to 0.69 nats"
    assert dock.results._limits["probability"].text() == "to 1"


def test_a_corrected_name_is_told(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(_volume(), name="volume")
    assert run_and_wait(qtbot, dock, "brihgt blob")
    assert "'brihgt blob' was read as 'Bright blob'" in dock.progress.status.text()
    mask = viewer.layers["mask · Bright blob · volume"]
    assert list(mask.features["prompt"]) == ["background", "Bright blob"]
    entropy = viewer.layers["predictive entropy · Bright blob · volume"]
    np.testing.assert_allclose(entropy.contrast_limits[1], np.log(3))  # not ln 2


def test_a_model_of_several_channels_says_how_to_run_it(viewer: Any) -> None:
    viewer.add_image(_volume(), name="volume")
    cut = cut_layer(viewer.layers["volume"], viewer.dims, whole=True)
    card = grey_predictor(channels=4).card
    with pytest.raises(ImageError, match="expected 4 volumes of one place"):
        job_of(cut, card, ["all"], SegmentConfig())


def test_an_unknown_class_is_told_with_the_known_ones(
    viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(_volume(), name="volume")
    dock.prompt.set_text("liver")
    dock.run()
    assert "'Bright blob'" in dock.progress.status.text()
    assert not dock.session.is_running


def test_the_classes_can_be_worded_anew_imported_and_exported(
    viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    viewer.add_image(_volume(), name="volume")
    table = dock.classes.table
    assert dock.classes.isVisibleTo(dock)
    assert table.rowCount() == 2
    assert dock.classes.class_texts == ""
    _cell(dock, 0, 0).setText("Lamp")
    _cell(dock, 0, 1).setText("round, bright")
    dock.prompt.set_text("lamp")
    job = dock.job()
    assert job.prompts == ("Lamp",)
    assert job.colors == ("#ff0000",)
    assert '"shape": "round, bright"' in job.config.class_texts
    assert "--class-texts" in shell_command(job, "scan.nii.gz")
    dock.classes.export_to(tmp_path / "sheet.csv")
    assert read_class_sheet(tmp_path / "sheet.csv") == dock.classes.sheet()
    dock.classes.reset.click()
    assert dock.classes.class_texts == ""
    dock.classes.import_from(tmp_path / "sheet.csv")
    assert dock.job().prompts == ("Lamp",)
    _cell(dock, 1, 0).setText("lamp")
    with pytest.raises(PromptError, match="names differ"):
        dock.job()
    short = tmp_path / "short.csv"
    lines = (tmp_path / "sheet.csv").read_text(encoding="utf-8").splitlines()
    short.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    with pytest.raises(PromptError, match="the model's 2 classes"):
        dock.classes.import_from(short)


def test_long_names_of_classes_are_shown_whole(dock: SegmentWidget) -> None:
    """On as many lines as they take in the column, however wide that is made."""
    table, cell = dock.classes.table, _cell(dock, 0, 0)
    line = table.rowHeight(0)
    names = "Myocardium of the left ventricle in an MR image"
    cell.setText(names)
    metrics, wide = table.fontMetrics(), table.columnWidth(0)
    assert metrics.horizontalAdvance(names) > wide  # it does not fit on one line
    assert table.rowHeight(0) >= line + metrics.lineSpacing()
    assert table.rowHeight(1) == line
    rows = sum(table.rowHeight(row) for row in range(table.rowCount()))
    assert table.height() > rows + metrics.lineSpacing()  # the headings are in it
    table.setColumnWidth(0, 2 * metrics.horizontalAdvance(names))
    assert table.rowHeight(0) == line


def test_a_session_with_classes_comes_back(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    viewer.add_image(_volume(), name="volume")
    _cell(dock, 0, 0).setText("Lamp")
    assert run_and_wait(qtbot, dock, "lamp; dark blob")
    texts = dock.classes.class_texts
    before = {layer.name: np.asarray(layer.data) for layer in viewer.layers}
    colours = viewer.layers["mask · Lamp, Dark blob · volume"].get_color(1)
    with qtbot.waitSignal(dock.workspace.told, timeout=WAIT_MS):
        dock.workspace.save_requested.emit(tmp_path / "session")
    viewer.layers.clear()
    dock.classes.reset.click()
    dock.workspace.open_from(tmp_path / "session")
    qtbot.waitUntil(lambda: len(viewer.layers) == len(before), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: bool(dock.results.legend.text()), timeout=WAIT_MS)
    assert {layer.name for layer in viewer.layers} == set(before)
    for layer in viewer.layers:
        np.testing.assert_array_equal(layer.data, before[layer.name])
    mask = viewer.layers["mask · Lamp, Dark blob · volume"]
    np.testing.assert_allclose(mask.get_color(1), colours)
    assert dock.classes.class_texts == texts
    (result,) = dock.session.results
    assert result.segmentation is not None
    assert result.segmentation.exclusive
    assert result.job.exclusive
    assert result.job.max_entropy == pytest.approx(np.log(3))


def test_a_model_that_is_asked_in_words_takes_sentences() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(_volume())
    cut = cut_layer(layer, viewer.dims, whole=True)
    card = grey_predictor(GreyNetwork(exclusive=False)).card
    typed = ["the dark blob in an MRI; Bright blob", "the bright blob"]
    job = job_of(cut, card, typed, SegmentConfig())
    assert job.prompts == (
        "the dark blob in an MRI",
        "Bright blob",
        "the bright blob",
    )
    assert job.colors[:2] == ("#00ff00", "#ff0000")
    assert len(set(job.colors)) == 3
    assert not job.exclusive
    segmentation = list(grey_asked(cut.read(), job.prompts))[-1].snapshot()
    assert segmentation.prompts == job.prompts
    assert segmentation.colors == job.colors
    with pytest.raises(PromptError, match="got 'kidney'"):
        job_of(cut, card, ["kidney"], SegmentConfig())


def grey_asked(image: Image, prompts: Sequence[str]) -> Iterator[Step]:
    """Run the grey network as one that is asked in words."""
    predictor = grey_predictor(GreyNetwork(exclusive=False))
    return segment_steps(image, prompts, predictor, SegmentConfig(num_samples=1))


def test_a_volume_of_unknown_spacing_keeps_the_axes_of_its_file(tmp_path: Path) -> None:
    """As on the command line: a 3D model sees it as it saw the ones of training."""
    voxels = np.random.default_rng(0).normal(size=(7, 9, 5)).astype(np.float32)
    path = tmp_path / "heart.nii.gz"
    volume = nib.Nifti1Image(voxels, np.eye(4))
    volume.header.set_xyzt_units("unknown")
    nib.save(volume, path)
    (data,) = read_layers(str(path))
    viewer = ViewerModel()
    layer = viewer.add_layer(Layer.create(*data))
    cut = cut_layer(layer, viewer.dims, whole=True)
    spec = grey_predictor().spec
    job = job_of(cut, grey_predictor().card, ["all"], SegmentConfig())
    image = job.cut.read()
    assert image.units == "pixel"
    seen = ModelGrid.for_spec(image, spec).to_model(image.voxels)
    np.testing.assert_array_equal(seen, voxels)


def test_what_dock_and_core_both_say_of_a_prompt_is_told_once() -> None:
    segmentation: Any = SimpleNamespace(provenance={"hints": ["one", "two"]})
    told = hints(Findings(segmentation, ()), ("one",))
    assert told == ["One.", "Two."]
