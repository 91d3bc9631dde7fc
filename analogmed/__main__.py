"""`analogmed VERB ...` and `python -m analogmed VERB ...`: the programs by name."""

import importlib
import sys

from analogmed.foundation.text import nearest
from analogmed.program_start import install

_VERBS = {
    "eval": "what each network loses on an analog chip",
    "sensitivity": "which layers and noise sources it loses it to; which to leave digital",
    "uncertainty": "how sure networks are on chips, and how right they are; mitigations",
    "report": "what run folders hold, as one page",
    "train": "train a network, digitally or hardware-aware",
    "search": "networks that keep their Dice on the chip, and cost little",
    "hardware": "tiles, time and energy of networks on a chip",
    "data": "verify, generate or download a data set",
}
_OWN_PARSER = {
    "data": "analogmed.data.__main__",
    "hardware": "analogmed.cost",
    "report": "analogmed.report.__main__",
}


def main() -> int:
    """Hand over to the program that the first argument names."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print("usage: analogmed VERB [options]\n")
        print("\n".join(f"  {name:13}{what}" for name, what in _VERBS.items()))
        print("\nanalogmed VERB --help tells the options of each.")
        return 0
    if verb not in _VERBS:
        print(f"error: unknown verb '{verb}'; {nearest(verb, _VERBS)}", file=sys.stderr)
        return 2
    if verb in _OWN_PARSER:
        return importlib.import_module(_OWN_PARSER[verb]).main(sys.argv[2:])
    home = f"analogmed.{verb}.__main__" if verb == "search" else f"analogmed.{verb}"
    install()
    program = importlib.import_module(home)
    return importlib.import_module("analogmed.cli").run(program.main, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
