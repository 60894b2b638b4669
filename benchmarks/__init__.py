"""What a paywall costs, measured as ratios within one run: ``make bench``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the servers that the tests run on
