"""The house keeps its own rules: see `docs/development.md`."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp
import npe2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import napari_medvlseg

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "napari_medvlseg"
ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / PACKAGE
MANIFEST = SOURCE / "napari.yaml"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
GUI = ("napari", "qtpy", "superqt", "magicgui", "vispy", "PyQt6", "PySide6")
HEAVY = ("torch", "torchvision", "monai", "timm", "transformers", "open_clip")
MAX_LINES = 400


def _contributed_objects() -> set[str]:
    """Return the ``module:name`` of each command in the manifest."""
    commands = npe2.PluginManifest.from_file(MANIFEST).contributions.commands or []
    return {str(command.python_name) for command in commands if command.python_name}


def _imported_by_name() -> set[str]:
    """Return the modules that are imported late, by a name in a text."""
    files = sorted(SOURCE.glob("cli*.py"))
    commands = "".join(path.read_text(encoding="utf-8") for path in files)
    public = {f"core.{home}" for home in napari_medvlseg._HOMES.values()}
    late = {*re.findall(r'"(cli_\w+):\w+"', commands), *public}
    return {f"{PACKAGE}.{name}" for name in late}


def _python_files() -> list[Path]:
    """Return every Python file that we wrote."""
    folders = (ROOT / "src", ROOT / "tests", ROOT / "scripts")
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def _run(code: str, *arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_module_is_reached_from_an_entry_point() -> None:
    graph = grimp.build_graph(PACKAGE)
    contributed = {name.partition(":")[0] for name in _contributed_objects()}
    programs = {f"{PACKAGE}.__main__", f"{PACKAGE}.plugin.demo", *_imported_by_name()}
    entries = contributed | programs | {PACKAGE}
    reached = {m for entry in entries for m in graph.find_upstream_modules(entry)}
    packages = {module for module in graph.modules if graph.find_children(module)}
    assert graph.modules - reached - packages - entries == set()


@pytest.mark.parametrize(
    "path", _python_files(), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_file_is_at_most_400_lines_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_core_and_the_command_line_import_without_any_gui() -> None:
    _run(
        """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # importing it now raises ModuleNotFoundError
import napari_medvlseg.cli
import napari_medvlseg.core as core
for module in pkgutil.walk_packages(core.__path__, core.__name__ + "."):
    importlib.import_module(module.name)
""",
        *GUI,
    )


def test_importing_the_plugin_imports_no_deep_learning_library() -> None:
    code = f"""
import importlib, sys
import napari_medvlseg
for name in sorted({_contributed_objects()!r}):
    module, _, attribute = name.partition(":")
    getattr(importlib.import_module(module), attribute)
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
    assert _run(code, *HEAVY).split() == []


def test_importing_the_plugin_costs_a_running_napari_under_a_second() -> None:
    code = f"""
import importlib, time
import napari, napari.layers, napari.qt
start = time.process_time()
for name in sorted({_contributed_objects()!r}):
    importlib.import_module(name.partition(":")[0])
print(time.process_time() - start)
"""
    assert float(_run(code)) < 1.0


def test_importing_the_package_imports_no_gui_and_no_numpy() -> None:
    code = """
import sys
import napari_medvlseg
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
    assert _run(code, *GUI, *HEAVY, "numpy").split() == []


def test_what_is_imported_is_declared() -> None:
    declared = {
        canonicalize_name(Requirement(line).name)
        for line in PROJECT["project"]["dependencies"]
    }
    declared |= {
        canonicalize_name(Requirement(line).name)
        for line in PROJECT["project"]["optional-dependencies"]["train"]
    }
    providers = importlib.metadata.packages_distributions()
    imported = {name for path in SOURCE.rglob("*.py") for name in _imports(path)}
    foreign = imported - set(sys.stdlib_module_names) - {PACKAGE}
    undeclared = {
        name
        for name in foreign
        if not declared & {canonicalize_name(dist) for dist in providers.get(name, [])}
    }
    assert undeclared == set()


def test_no_qt_binding_is_required() -> None:
    bindings = re.compile(r"^(pyqt|pyside)", re.IGNORECASE)
    assert [d for d in PROJECT["project"]["dependencies"] if bindings.match(d)] == []


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"""["']MEDVLSEG_""", path.read_text(encoding="utf-8"))
    }
    assert readers == {"core/config.py"}


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert napari_medvlseg.__version__ == version
    assert f"## [{version}]" in changelog


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = ROOT / "napari.yaml"
    if not top.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert top.resolve() == MANIFEST.resolve()


def test_a_hidden_attempt_to_reach_the_network_is_seen(network_log: Path) -> None:
    with pytest.raises(RuntimeError, match=r"192\.0\.2\.1"), socket.socket() as probe:
        probe.connect(("192.0.2.1", 80))
    assert "socket.connect" in network_log.read_text(encoding="utf-8")
    network_log.write_text("", encoding="utf-8")


def test_a_child_process_cannot_reach_the_network(network_log: Path) -> None:
    code = """
import socket
try:
    socket.getaddrinfo("localhost", 80)
except RuntimeError as error:
    print(error)
"""
    assert "localhost" in _run(code)
    assert "socket.getaddrinfo" in network_log.read_text(encoding="utf-8")
    network_log.write_text("", encoding="utf-8")


@pytest.mark.loopback
def test_loopback_is_there_for_a_test_that_asks() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            assert client.getpeername() == server.getsockname()
