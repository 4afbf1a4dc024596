"""Build the wheel and install it, alone, beside the packages of this environment.

Usage: ``python scripts/install_wheel.py FOLDER``. In FOLDER/env lies then a virtual
environment with the wheel of this project (installed with ``--no-deps``) that sees
every package of the environment which runs this script, but its editable copy of us.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = "napari_medvlseg"


def main() -> None:
    """Build, make the environment, borrow the packages, install."""
    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    wheel = build_wheel(folder / "dist")
    environment = folder / "env"
    venv.create(environment, with_pip=True)
    borrow_packages(environment, folder / "borrowed")
    run(environment / "bin" / "python", "-m", "pip", "install", "--no-deps", wheel)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, installed")


def build_wheel(folder: Path) -> Path:
    """Return the wheel, built the way that an installer would build it."""
    python = Path(sys.executable)
    run(python, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(python: Path, *arguments: str | Path) -> None:
    """Run a Python program; stop where it fails."""
    subprocess.run([python, *arguments], check=True)  # noqa: S603 only our own words


def borrow_packages(environment: Path, folder: Path) -> None:
    """Let the new environment see the packages of this one, us excepted."""
    folder.mkdir(parents=True)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if OURS not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{folder}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
