"""Optuna study of a search: its storage, and checks that it belongs to this search."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study

from analogmed.foundation.credentials import masked
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import file_digest
from analogmed.foundation.settings.difference import (
    changed_members,
    compare_settings,
    format_differences,
)
from analogmed.foundation.settings.plain import to_plain
from analogmed.search.settings import SearchConfig
from analogmed.search.supernet.settings import SUPERNET
from analogmed.search.trials.database import database
from analogmed.search.trials.journal_lock import JournalLock

LOG = "study.log"
FILES = (LOG, JournalLock(Path(LOG)).path.name)
"""Files of a study in a run folder."""
CONFIGURATION = "configuration"
"""Attribute of a study: the settings of its search."""

PATIENTS = "patients"
"""Attribute of a study: patients by split, ``train``, ``validation`` and ``test`` of candidates,
and ``final_test`` of the winner."""

SUPERNETS = "supernets"
"""Attribute of a study: digests of the weights of its supernetworks by task."""

MAY_DIFFER = (
    "out", "engine", "budget", "proposals", "final_epochs", "study", "storage", "device",
    "task.root",
)  # fmt: skip
"""Settings that may change when a search is resumed, because its networks stay the same."""


def open_study(config: SearchConfig) -> Study:
    """Open the study of a search, or create it; its sampler remains to be set.

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
            f"{masked(where)} is damaged, or no storage of a study: {error}; give "
            "another --out or --storage"
        ) from error
    except Exception as error:  # database drivers have their own errors
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"storage {masked(where)} cannot be used: {first}") from error
    _refuse_other_configuration(study, config)
    return study


def _made_or_loaded(config: SearchConfig) -> Study:
    """Return the study; one with wrong settings, with which no search has begun, is recreated."""
    storage = _storage(config)

    def load() -> Study:
        return optuna.create_study(
            storage=storage,
            study_name=config.study,
            directions=config.goal.directions,
            load_if_exists=True,
        )

    study = load()
    if not has_begun(config) and not study.get_trials(deepcopy=False):
        optuna.delete_study(study_name=config.study, storage=storage)
        return load()
    return study


def has_begun(config: SearchConfig) -> bool:
    """Return whether a process may have begun the search, so that its settings are fixed."""
    return config.storage is not None or (config.folder / "locks").exists()


def is_without_patients(study: Study) -> bool:
    """Return whether no search has stored its patients, as in a new study."""
    return PATIENTS not in study.user_attrs


def refuse_other_patients(study: Study, patients: Mapping[str, list[str]]) -> None:
    """Store the patients of a new study, and compare those of an existing one.

    Args:
        study: study of the search.
        patients: patients by split, ``train``, ``validation``, ``test`` and ``final_test``.

    Raises:
        DataError: names the patients that are new, missing, or in another split.
    """
    stored = study.user_attrs.get(PATIENTS)
    if stored is None:
        study.set_user_attr(PATIENTS, dict(patients))
        return
    if found := changed_members(stored, patients):
        raise DataError(
            f"task: the patients differ from those that study '{study.study_name}' began with "
            f"({found}); expected the same patients in the same splits, because its "
            "networks are compared on them and the winner is tested on patients that no network "
            "has used. Restore the data, or give another --out or --study for a new search"
        )


def refuse_other_supernets(study: Study, folders: Mapping[str, Path]) -> None:
    """Store digests of the supernetworks of a new study, and compare those of an existing one.

    Args:
        study: study of the search.
        folders: run folders of trained supernetworks, by task.

    Raises:
        ConfigError: names a supernetwork whose weights have changed.
    """
    digests = {task: file_digest(folder / SUPERNET) for task, folder in folders.items()}
    stored = study.user_attrs.get(SUPERNETS)
    if stored is None:
        study.set_user_attr(SUPERNETS, digests)
        return
    for task, folder in folders.items():
        if stored.get(task) != digests[task]:
            raise ConfigError(
                f"supernets: the weights in {folder} differ from those that study "
                f"'{study.study_name}' began with; expected the same ones, because its networks "
                "are ranked by them. Restore them, or give another --out or --study"
            )


def _storage(config: SearchConfig) -> BaseStorage:
    if config.storage is not None:
        return database(config.storage)
    path = config.folder / LOG
    lock: Any = JournalLock(path)  # has the interface of Optuna's private base class
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _refuse_other_configuration(study: Study, config: SearchConfig) -> None:
    """Store the settings of a new study, and compare those of an existing one.

    A setting that did not exist when the study began counts as its default.

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
    refused = compare_settings(kept, own, defaults=_as_kept(SearchConfig()), may_differ=MAY_DIFFER)
    if refused:
        raise ConfigError(
            f"study '{config.study}' has another configuration:\n"
            f"{format_differences(refused)}\nset these back to resume it, or give another "
            "--out or --study for a new search"
        )


def _as_kept(config: SearchConfig) -> Any:
    return json.loads(json.dumps(to_plain(config)))
