"""How a program ends: errors that a user can act on are told in a sentence, without a traceback."""

import sys
from collections.abc import Callable

from analogmed.errors import AnalogmedError, ConfigError


def told(program: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a program.

    Returns:
        exit status: 0, 1 for an error of the data or the computation, 2 for a setting.
    """
    try:
        program(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (AnalogmedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
