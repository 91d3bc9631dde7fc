"""`python -m analogmed.hardware`: what networks cost on a chip; the program is analogmed.cost."""

import sys
from importlib import import_module

if __name__ == "__main__":
    # by name: this package knows neither networks nor reports
    sys.exit(import_module("analogmed.cost").main())
