"""Run the command line: ``python -m napari_medvlseg``."""

import sys

from napari_medvlseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
