"""Run the command line: ``medvlseg`` or ``python -m napari_medvlseg``."""

import sys

from napari_medvlseg.cli_interrupts import INTERRUPTED, interrupts, tell_interrupted


def main() -> int:
    """Run a command; a signal while its modules are imported is heard too."""
    with interrupts(process_ends=True) as ignore_signals:
        try:
            from napari_medvlseg.cli import main as run_command

            return run_command()
        except KeyboardInterrupt as stop:
            ignore_signals()
            tell_interrupted(stop)
            return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
