"""Tables of a training run."""

from analogmed.tables.table import Columns, Table

LOG = Table(
    "log",
    Columns(numbers=("epoch", "loss", "learning_rate", "dice"), key=("epoch",), can_be_empty=True),
)
