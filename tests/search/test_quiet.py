import io
import logging
import sys
from contextlib import redirect_stderr

import pytest
from tqdm import tqdm

from analogmed.search.quiet import without_progress
from analogmed.training.log import LOGGER


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bar():
    for _ in tqdm(range(2), disable=None):
        pass


def test_no_bar_is_drawn_in_a_terminal():
    with redirect_stderr(Terminal()) as terminal:
        with without_progress():
            bar()
        assert terminal.getvalue() == ""
        bar()
    assert "2/2" in terminal.getvalue()


def test_what_is_written_is_told():
    with redirect_stderr(Terminal()) as terminal, without_progress():
        print("a warning", file=sys.stderr)
    assert terminal.getvalue() == "a warning\n"


def test_epochs_are_not_told_until_the_end_even_by_an_error(caplog):
    logger = logging.getLogger(LOGGER)
    with caplog.at_level(logging.INFO, LOGGER):
        with pytest.raises(KeyError), without_progress():
            logger.info("epoch 1")
            logger.warning("the loss is large")
            raise KeyError
        logger.info("epoch 2")
    assert caplog.messages == ["the loss is large", "epoch 2"]
