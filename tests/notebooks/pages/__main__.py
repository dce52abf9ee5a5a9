"""Write lessons as pages: one HTML file each, with sliders that need neither a kernel nor a network, and an index.

    DIFFTUNING_FRAMES=on python -m tests.notebooks.runner notebooks/04_timestep_weights.ipynb -o runs/pages
    python -m tests.notebooks.pages runs/pages/04_timestep_weights.ipynb -o pages

`make pages` does both for all lessons.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.notebooks.pages.write import write_pages


def main() -> int:
    parser = argparse.ArgumentParser(description="Write executed lessons as pages.")
    parser.add_argument("notebooks", nargs="+", type=Path, help="executed copies, in the order of the lessons")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the pages")
    options = parser.parse_args()
    for path in write_pages(options.notebooks, options.output):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
