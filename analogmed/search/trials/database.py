"""Database of a study that several processes create and use at the same time."""

import random
import time
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

_TRIES = 8
_FIRST_PAUSE_S = 0.1
_LOCKED_S = 60
_RACE = ("exist", "locked", "duplicate", "unique")
"""Words in database errors that occur while another process is creating the tables."""


def database(url: str) -> RDBStorage:
    """Connect to a database, and create its tables where they are missing.

    Databases do not create tables atomically; if another process was faster, this one connects
    again. A SQLite file is locked by its writers: each waits up to a minute for the others.

    Args:
        url: URL of the database, in SQLAlchemy's format.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be used.
    """
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    options: dict[str, Any] = {"connect_args": {"timeout": _LOCKED_S}} if is_sqlite else {}
    for number in range(_TRIES):
        try:
            return RDBStorage(url, engine_kwargs=options or None)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            raced = any(word in str(error).lower() for word in _RACE)
            if not raced or number == _TRIES - 1:
                raise
        time.sleep(_FIRST_PAUSE_S * 2**number * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")
