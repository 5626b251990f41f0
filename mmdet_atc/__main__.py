"""The tools without a clone: ``python -m mmdet_atc train CONFIG``, ``test``, ``demo``."""

from __future__ import annotations

import runpy
import sys

from .shipped import SCRIPTS, shipped


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command not in SCRIPTS:
        sys.exit(f'usage: python -m mmdet_atc {{{",".join(SCRIPTS)}}} ARGUMENTS (or --help)')
    sys.argv[:2] = [str(shipped(SCRIPTS[command]))]
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
