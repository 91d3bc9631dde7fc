"""Notes of the values of the results table: empty masks, undefined scores, smaller batches."""

import re

MISSED = "missed structure"
SPURIOUS = "spurious structure"
SPURIOUS_IN_SOME = "spurious in some images"
BOTH_EMPTY = "both empty"
ABSENT = (SPURIOUS, BOTH_EMPTY)
"""Notes of structures that are absent in the reference of the whole case."""
NO_POSITIVE = "no positive case"
NO_NEGATIVE = "no negative case"
ONE_CASE_POSITIVE = "positives in one case only"
ONE_CASE_NEGATIVE = "negatives in one case only"
NO_VALUE = "undefined without one of the cases"
UNDEFINED = (NO_POSITIVE, NO_NEGATIVE, ONE_CASE_POSITIVE, ONE_CASE_NEGATIVE, NO_VALUE)
"""Notes of classes whose scores are undefined on the cases of a task."""
APART = "in no mean over classes"
"""Note of values of a class that the task scores on its own."""
RESULT_NOTES = ("", MISSED, SPURIOUS_IN_SOME, *ABSENT, *UNDEFINED, APART)
"""All notes of computed values; any other note is that of an error."""
SMALLER_BATCH = re.compile(r"(?:^|; )out of memory, batch_size \d+$")
"""End of the note of a value that was computed with a smaller batch than requested."""


def note_with_batch(note: str, batch_size: int) -> str:
    """Append to a note that the batch was reduced because memory ran out.

    Example:
        >>> note_with_batch("", 4), note_with_batch("missed structure", 4)
        ('out of memory, batch_size 4', 'missed structure; out of memory, batch_size 4')
    """
    return "; ".join(part for part in (note, f"out of memory, batch_size {batch_size}") if part)
