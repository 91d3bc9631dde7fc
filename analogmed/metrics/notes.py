"""Notes of the values of the results table: what was empty, and a batch that was made smaller."""

import re

MISSED = "missed structure"
SPURIOUS = "spurious structure"
SPURIOUS_IN_SOME = "spurious in some images"
BOTH_EMPTY = "both empty"
ABSENT = (SPURIOUS, BOTH_EMPTY)
"""Notes of structures that the reference of the whole case does not have."""
RESULT_NOTES = ("", MISSED, SPURIOUS_IN_SOME, *ABSENT)
"""All notes of computed values; any other note is that of an error."""
SMALLER_BATCH = re.compile(r"(?:^|; )out of memory, batch_size \d+$")
"""End of a note of a value that was computed with a smaller batch than the one requested."""


def note_with_batch(note: str, batch_size: int) -> str:
    """Mark the note of a value that was computed with a smaller batch after memory ran out.

    Example:
        >>> note_with_batch("", 4), note_with_batch("missed structure", 4)
        ('out of memory, batch_size 4', 'missed structure; out of memory, batch_size 4')
    """
    return "; ".join(part for part in (note, f"out of memory, batch_size {batch_size}") if part)
