"""`analogmed VERB ...` and `python -m analogmed VERB ...`: the commands by name."""

import sys

from analogmed.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
