"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Lend a hidden folder beside a folder's place, and move it there at the end.

    An earlier folder is replaced; after an error it is still there and nothing else is.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            earlier = partial.with_name(f"{partial.name}-old")
            folder.rename(earlier)
            partial.rename(folder)
            shutil.rmtree(earlier, ignore_errors=True)
        else:
            partial.rename(folder)
    except OSError as error:
        msg = f"{folder}: expected to write here, the disk refused ({error})"
        raise OutputError(msg) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
