import re
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from analogmed.analog import versions
from analogmed.analog.versions import check_versions
from analogmed.foundation.errors import ConfigError


def test_the_installed_pair_is_a_tested_one_and_is_reported():
    assert check_versions() == {"torch": version("torch"), "aihwkit": version("aihwkit")}


def test_an_untested_pair_warns_with_both_versions(monkeypatch):
    monkeypatch.setattr(versions, "TESTED", set())
    pair = f"torch {version('torch')} and aihwkit {version('aihwkit')}"
    with pytest.warns(UserWarning, match=re.escape(pair)):
        check_versions()


def test_an_aihwkit_that_does_not_import_is_an_error_that_names_both(monkeypatch):
    monkeypatch.setitem(sys.modules, "aihwkit.simulator.configs", None)  # import now fails
    with pytest.raises(ConfigError, match="do not fit each other") as caught:
        check_versions()
    assert version("torch") in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_missing_package_is_an_error(monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(ConfigError, match="torch is not installed"):
        check_versions()
