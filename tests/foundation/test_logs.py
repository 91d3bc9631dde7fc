import io
import logging
import sys
from contextlib import redirect_stderr

import pytest
from tqdm import tqdm

from analogmed.foundation.logs import without_progress
from analogmed.training.log import LOGGER


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bar():
    for _ in tqdm(range(2), disable=None):
        pass


def test_no_bar_is_drawn_in_a_terminal():
    with redirect_stderr(Terminal()) as terminal:
        with without_progress(LOGGER):
            bar()
        assert terminal.getvalue() == ""
        bar()
    assert "2/2" in terminal.getvalue()


def test_what_is_written_is_told():
    with redirect_stderr(Terminal()) as terminal, without_progress(LOGGER):
        print("a warning", file=sys.stderr)
    assert terminal.getvalue() == "a warning\n"


def test_epochs_are_not_told_until_the_end_even_by_an_error(caplog):
    logger = logging.getLogger(LOGGER)
    with caplog.at_level(logging.INFO, LOGGER):
        with pytest.raises(KeyError), without_progress(LOGGER):
            logger.info("epoch 1")
            logger.warning("the loss is large")
            raise KeyError
        logger.info("epoch 2")
    assert caplog.messages == ["the loss is large", "epoch 2"]
