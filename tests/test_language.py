"""Phrases that no reader of the field uses are in no document, message, docstring or page."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TEXTS = {".md", ".py", ".j2", ".html", ".js"}
PLACES = ("README.md", "CONTRIBUTING.md", "docs", "analogmed", "experiments", "benchmarks")
AVOIDED = r"""
\btold apart\b|\bnot told\b|\btells? [a-z' ]{0,40}\bapart\b
\b(cannot|can|could) be told\b
\.md tells\b|--help tells\b|\btells (in|of|how|little)\b
\b(is|are|was|were) (only )?told (in|after|before|by|with)\b
\b(does|do|can|cannot) not tell\b|\bcannot tell\b
\b[Ll]ent\b
\b(is|are|be) worth([,.]|$| (as|by|in|to|most|infinitely))|\bworth (nothing|something|praise)\b
\bstands? (beside|behind|there|twice|at|on)\b|\bstands? in (a|two|more|one|the)\b
\bshall\b
\b[Ww]ho (computes|evaluates|proposes|listens|ends|tells|feel|is last|is at work)\b
\b[Nn]obody\b|\b[Ss]omebody\b
\b(gain|interval|difference|[Ee]very interval) (that )?holds? 0\b
\bleaves? (out 0|0 out)\b|\boutside the interval\b
\b(A|programmed) chip holds\b|\bis held[ ,]
\bnothing (is|was) found\b|\bof which nothing\b|\bbrings? (nothing|anything)\b
\blook(s|ed) at\b
\bgo(es|ing)? on (after|where|from|with|beyond|inwards)\b|\bcommand goes on\b
\b[Aa]new\b
\bin work\b|\bits kin\b|\bbuys?\b|\bpromised?\b
\b[Ss]urer\b|\b[Hh]ow sure\b
\bbeside (an?|the|its?|that|those|them|their|our|each|other|forward|passes|image|what|Dice)\b
\bdealt (to|in|evenly)\b|\b[Ww]hat disturbs\b|\bin company\b|\bby a hair\b
\b[Ww]hat (is|was) left of\b|\bwhat was found\b|\bThe found network\b
\bless (that of|this one|random search|U-Net|aihwkit's)\b|\bas long( \||'|\*)
\b(no|its|the|skip and) way up\b|\bthe way (there|back)\b|\bon the way down\b|\binwards\b
\b[Tt]akes? down\b|\bdoes not know (the|what)\b|\b[Bb]y what\b|\b(was|as|width) asked( for)?\b
\bsays? nothing of\b|\bwhich is said\b|\bthis is said\b
^ *r?\"\"\"(What|Who|Says|See that)\b
"""
PATTERNS = [re.compile(line) for line in AVOIDED.split("\n") if line]


def texts() -> Iterator[Path]:
    for place in PLACES:
        path = REPOSITORY / place
        yield from [path] if path.is_file() else sorted(path.rglob("*"))


def found(text: str) -> list[str]:
    return [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if any(pattern.search(line) for pattern in PATTERNS)
    ]


def test_no_text_has_a_phrase_to_avoid():
    hits = {
        str(path.relative_to(REPOSITORY)): lines
        for path in texts()
        if path.suffix in TEXTS and (lines := found(path.read_text(encoding="utf-8")))
    }
    assert hits == {}


@pytest.mark.parametrize("line", ["which is better cannot be told", "the chip is programmed anew"])
def test_phrases_are_found(line):
    assert found(f"A network.\n{line}\n") == [f"line 2: {line}"]
