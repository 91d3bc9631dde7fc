"""One table, written for a terminal, Markdown and LaTeX; numbers as text."""

from operator import itemgetter

import pytest

from analogmed.report.text import format_number, format_quantity, in_lines
from analogmed.report.text_table import (
    Cell,
    Column,
    TextTable,
    estimate_cell,
    markdown,
    network_cell,
    terminal,
)

COLUMNS = (
    Column("who", itemgetter("who"), is_text=True),
    Column("how\nmuch", lambda row: estimate_cell(row["value"], row["low"], row["high"])),
    Column("tiles", itemgetter("tiles")),
)
ROWS = (
    {"who": "x|y_1 [red]", "value": 0.5, "low": 0.25, "high": 0.75, "tiles": 3},
    {"who": "50 %", "value": -0.0001, "low": float("nan"), "high": float("nan"), "tiles": 12},
)


@pytest.fixture
def table():
    return TextTable.of("A & B", COLUMNS, ROWS, caption="<note>")


def test_the_terminal_aligns_numbers_to_the_right(table):
    assert terminal(table, width=60).splitlines() == [
        "A & B",
        "",
        "                                   how",
        "  who                             much   tiles",
        " " + 46 * "\u2500",
        "  x|y_1 [red]   0.500 (0.250 to 0.750)       3",
        "  50 %                           0.000      12",
        "",
        "<note>",
    ]


def test_a_stacked_table_has_the_interval_in_a_line_below():
    table = TextTable.of("", COLUMNS, ROWS[:1], stacked=True)
    assert [line.split() for line in terminal(table, width=60).splitlines()[-2:]] == [
        ["x|y_1", "[red]", "0.500", "3"],
        ["0.250", "to", "0.750"],
    ]


def test_no_line_is_wider_than_the_terminal(table):
    for width in (30, 40):
        assert max(map(len, terminal(table, "a text " * 20, width=width).splitlines())) <= width


def test_markdown_is_a_pipe_table_with_escaped_cells(table):
    assert markdown("Before [it]", table).splitlines() == [
        r"Before \[it\]",
        "",
        "**A & B**",
        "",
        "| who | how much | tiles |",
        "| --- | ---: | ---: |",
        "| x\\|y\\_1 \\[red\\] | 0.500 (0.250 to 0.750) | 3 |",
        "| 50 % | 0.000 | 12 |",
        "",
        r"\<note\>",
    ]


def test_latex_has_the_rules_of_booktabs_and_escaped_cells(table):
    text = table.latex
    assert r"\begin{tabular}{lrr}" in text and r"\toprule" in text
    assert r"x\textbar{}y\_1 [red] & 0.500 (0.250 to 0.750) & 3 \\" in text
    assert r"50 \% & 0.000 & 12 \\" in text
    assert r"\caption{A \& B. \textless{}note\textgreater{}}" in text
    assert r"\caption{note}" in TextTable.of("", COLUMNS, ROWS, caption="note").latex


def test_text_columns_are_those_before_the_first_number(table):
    assert table.text_columns == 1
    assert TextTable.of("", (COLUMNS[2], COLUMNS[0]), ROWS).text_columns == 0


def test_the_second_part_of_a_cell_is_left_out_of_a_line_where_it_is_unknown():
    unknown = estimate_cell(0.5, float("nan"), 0.75, unknown="\u2013")
    assert unknown.second == "\u2013" and str(unknown) == "0.500"
    assert str(network_cell("unet", "hwa")) == "U-Net, hardware-aware"
    assert str(Cell("a", "b")) == "a (b)"


@pytest.mark.parametrize(
    ("low", "dash", "expected"),
    [
        (0.0, True, "0.000\u20131.000"),
        (0.0, False, "0.000 to 1.000"),
        (-1.0, True, "-1.000 to 1.000"),
    ],
)
def test_limits_are_separated_by_a_dash_only_where_none_is_negative(low, dash, expected):
    assert estimate_cell(0.5, low, 1.0, dash=dash).second == expected


def test_small_numbers_are_powers_of_ten_and_large_ones_have_no_decimals():
    assert [format_number(value) for value in (0.0004, 0.0006, 0.0)] == [
        "4.0e-04",
        "0.001",
        "0.000",
    ]
    found = [format_quantity(value) for value in (12_345.678, 1_234.567, 3, "pcm", None)]
    assert found == ["12,346", "1,235", "3", "pcm", "\u2013"]


def test_no_line_ends_inside_an_interval_or_before_a_per_cent_sign():
    wide = (
        Column("class", itemgetter("who"), is_text=True),
        *(Column(f"time {n}", lambda _: estimate_cell(-0.5, -0.75, 0.25)) for n in range(3)),
    )
    row = {"who": "a class with a long name of five words"}
    texts = [
        TextTable.of("", wide, [row]).terminal(80),
        *(terminal(f"{'x' * n} -0.5 (95 % interval -0.75 to 0.25)", width=40) for n in range(40)),
        *(in_lines(f"{'x' * n} -0.5 (95 % interval -0.75 to 0.25)", 40) for n in range(40)),
    ]
    assert texts[0].count("(-0.750 to 0.250)") == 3
    for text in texts[1:]:
        assert "-0.75 to 0.25" in text and "95 %" in text
        assert max(map(len, text.splitlines())) <= 40
