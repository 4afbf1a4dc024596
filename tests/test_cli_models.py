"""`medvlseg models` from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture

from napari_medvlseg.cli import main
from tests.small_checkpoint import (
    isolate,
    save_checkpoint,
    save_vocabulary,
    serve_hub,
    state_of,
)

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "medclipseg-unimedclip-busi"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


def _models(*arguments: str) -> int:
    return main(["models", *arguments])


def test_the_list_tells_of_the_24_and_of_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        _models("import", str(save_checkpoint(tmp_path / "x.pth")), "--name", MODEL)
        == 0
    )
    assert "copy vocab.txt" in capsys.readouterr().err
    assert _models("list", "--json") == 0
    told = {each["model"]: each for each in json.loads(capsys.readouterr().out)}
    assert len(told) == 27
    for ours in ("compact", "hippocampus-3d", "cardiac-3d"):
        assert told[ours]["state"] == "bundled"
    assert told[MODEL]["state"] == "incomplete"
    other = told["medclipseg-unimedclip-eus-25"]
    assert other["state"] == "to fetch"
    assert (other["data"], other["share"], other["organ"]) == (
        "EUS",
        "25 %",
        "Pancreas",
    )
    assert (other["modality"], other["size"]) == ("Ultrasound", "0.9 GB")
    assert "research" in other["licence"].lower()
    assert _models("list") == 0
    table = capsys.readouterr().out
    assert all(model in table for model in told)
    assert _models("list", "--installed", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_a_checkpoint_is_imported_verified_exported_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of() | {"extra": state_of()["logit_scale"]}
    path = str(save_checkpoint(tmp_path / "x.pth", state))
    words = str(save_vocabulary(tmp_path / "bert"))
    assert _models("import", path, "--name", "a", "--tokenizer", words) == 0
    captured = capsys.readouterr()
    assert "use it with --model a" in captured.out
    assert "left out: extra (unexpected)" in captured.err
    assert _models("verify") == 0
    assert "a: whole" in capsys.readouterr().out
    assert _models("export", "a", "--output", "stick/a.zip") == 0
    assert _models("remove", "a") == 0
    assert _models("import", "stick/a.zip") == 0
    assert _models("show", "a") == 0
    shown = capsys.readouterr().out
    assert "UniMedCLIP" in shown
    assert "its owner knows: ask for that" in shown  # it names nothing
    weights = tmp_path / "cache" / "models" / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert _models("verify") == 2
    captured = capsys.readouterr()
    assert "damaged" in captured.err
    assert "compact: whole" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "absent.pth"), "found none"),
        (("import", "text.pth"), "PyTorch checkpoint"),
        (("import", "empty", "--tokenizer", "."), "has its own"),
        (("remove", "compact"), "comes with the package"),
        (("export", "compact", "--output", "x.zip", "--blend", "b"), "a run's folder"),
        (
            ("export", "compact", "--output", "x.zip", "--words-noise", "1,1,9"),
            "a run's folder",
        ),
        (("fetch", "compact"), "id of a released model"),
        (("verify", "nothing"), "expected a model id"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert _models(*arguments) == 2
    errors = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("medvlseg: error: ")
    ]
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.loopback
def test_a_model_is_fetched_from_the_hub_that_the_environment_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "BUSI/trained_models/seed666/MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"
    with serve_hub() as hub:
        path = save_checkpoint(tmp_path / "x.pth")
        hub.files[f"TahaKoleilat/MedCLIPSeg/{name}"] = path.read_bytes()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        assert _models("fetch", MODEL) == 0
    captured = capsys.readouterr()
    assert f"installed {MODEL}" in captured.out
    assert "copy vocab.txt" in captured.err


FORBIDDEN = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"a socket was opened: {event} {arguments}")

sys.addaudithook(refuse)
from napari_medvlseg.cli import main
for line in sys.argv[1:]:
    code = main(line.split())
    if code:
        sys.exit(code)
"""


def test_a_bundle_from_a_stick_works_where_every_socket_is_forbidden(
    tmp_path: Path,
) -> None:
    assert _models("export", "compact", "--output", "stick/compact.zip") == 0
    picture = np.full((40, 40, 3), 90, np.uint8)
    Picture.fromarray(picture).save(tmp_path / "image.png")
    lines = (
        "models import stick/compact.zip --name mine",
        "models verify",
        "models list",
        "segment image.png --prompt polyp --model mine --samples 1 --device cpu",
    )
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, *lines],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "no-cache")},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "medvlseg-output" / "image.json").read_text())
    assert report["provenance"]["model"] == "mine"
