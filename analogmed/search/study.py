"""The Optuna study of a search: where it is kept, and that it is this search's."""

import json
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study

from analogmed.config import to_plain
from analogmed.errors import ConfigError, DataError
from analogmed.search.config import SearchConfig
from analogmed.search.locks import JournalLock
from analogmed.settings_difference import different_settings, listed

LOG = "study.log"
CONFIGURATION = "configuration"
"""Attribute of a study: the settings of its search."""

MAY_DIFFER = (
    "out", "engine", "budget", "proposals", "final_epochs", "study", "storage", "device",
    "task.root",
)  # fmt: skip
"""Settings that a search may go on with although they are others: its networks are the same."""


def open_study(config: SearchConfig) -> Study:
    """The study of a search; made, if it is not there yet. Its sampler is still to be set.

    Raises:
        ConfigError: the storage cannot be reached, or the study is that of another search.
        DataError: the storage is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    where = config.storage or str(config.folder / LOG)
    try:
        study = _made_or_loaded(config)
    except (ValueError, json.JSONDecodeError, KeyError) as error:
        raise DataError(
            f"{_without_password(where)} is damaged, or no storage of a study: {error}; give "
            "another --out or --storage"
        ) from error
    except Exception as error:  # drivers of databases have errors of their own
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"storage {_without_password(where)} cannot be used: {first}") from error
    _refuse_other_configuration(study, config)
    return study


def _made_or_loaded(config: SearchConfig) -> Study:
    """The study; one of wrong settings, with which no search ever began, is made anew."""
    storage = _storage(config)

    def load() -> Study:
        return optuna.create_study(
            storage=storage,
            study_name=config.study,
            directions=config.goal.directions,
            load_if_exists=True,
        )

    study = load()
    began = config.storage is not None or (config.folder / "locks").exists()
    if not began and not study.get_trials(deepcopy=False):
        optuna.delete_study(study_name=config.study, storage=storage)
        return load()
    return study


def _storage(config: SearchConfig) -> BaseStorage:
    if config.storage is not None:
        return RDBStorage(config.storage)
    path = config.folder / LOG
    lock: Any = JournalLock(path)  # has what Optuna's own base class, which is private, asks for
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _refuse_other_configuration(study: Study, config: SearchConfig) -> None:
    """Keep the settings of a new study, and compare those of an old one.

    A setting that there was not yet when the study began counts as its default.

    Raises:
        ConfigError: lists each setting that differs, as ``name: old -> new``.
    """
    own = _as_kept(config)
    kept = study.user_attrs.get(CONFIGURATION)
    if kept is None:
        if study.get_trials(deepcopy=False):
            raise ConfigError(f"study '{config.study}' was not made by analogmed.search")
        study.set_user_attr(CONFIGURATION, own)
        return
    refused = different_settings(
        kept, own, defaults=_as_kept(SearchConfig()), may_differ=MAY_DIFFER
    )
    if refused:
        raise ConfigError(
            f"study '{config.study}' is of another configuration:\n{listed(refused)}\nset these "
            "back to go on with it, or give another --out or --study for a new search"
        )


def _as_kept(config: SearchConfig) -> Any:
    return json.loads(json.dumps(to_plain(config)))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":...@") if parts.password else url
