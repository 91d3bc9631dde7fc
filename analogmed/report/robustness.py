"""Robustness of one network over time as text, as a view of a notebook, and as a page."""

import html
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.time_constants import MONTH_S, TIME_NAMES, time_label, to_seconds
from analogmed.metrics.registry import label_of
from analogmed.report.figures.drop_over_time import has_drops
from analogmed.report.figures.over_time import metric_over_time
from analogmed.report.levels import few_chips, few_patients, low_digital, with_cautions
from analogmed.report.names import capitalised, hardware_name, metric_title
from analogmed.report.page.drops import drop_section
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.provenance import facts_of
from analogmed.report.run import Run
from analogmed.report.tables.class_scores import MEANING, class_table, low_classes
from analogmed.report.text import (
    age,
    count_range,
    format_fixed,
    format_level,
    in_interval,
    in_lines,
)
from analogmed.report.text_table import Cell, Column, TextTable, estimate_cell
from analogmed.report.writer import Chapter, to_html
from analogmed.tables.estimates import changed_chip, drop_word
from analogmed.tables.table import records

_WIDTH = 80
Row = dict[str, Any]


@dataclass(frozen=True)
class Robustness:
    """Score of one network over time with its intervals.

    Attributes:
        curves: rows of one network as in ``curves.csv``: its digital run, and each time on chips.
        lower_is_better: whether lower values of the metric are better.
        notes: limitations of the result.
        settings: arguments of the evaluation: ``hardware``, ``metric``, ``times_s``, ``chips``,
            ``seed``, ``inferer``, ``patients``; ``conversion``, further arguments of ``convert``;
            ``options``, further arguments of ``robustness`` as code; empty where they are unknown.
        chips: drop of each chip at each time, as in ``chip_losses.csv``.
        classes: scores of each class, as in ``class_scores.csv``; empty for a single class.
        names: names of some times, such as those that the user has given.
    """

    curves: pd.DataFrame
    lower_is_better: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    chips: pd.DataFrame | None = None
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    names: Mapping[float, str] = field(default_factory=lambda: TIME_NAMES)

    @cached_property
    def _rows(self) -> list[Row]:
        """Rows of the table: the digital run, then the times on the chip."""
        on_chip = (self.curves["hardware"] != "digital").sort_values(kind="stable")
        return records(self.curves.loc[on_chip.index])

    @property
    def _name(self) -> str:
        return label_of(str(self._rows[0]["metric"]))

    @property
    def _word(self) -> str:
        return drop_word(str(self._rows[0]["metric"]), self.lower_is_better)

    @property
    def _title(self) -> str:
        return metric_title(str(self._rows[0]["metric"]), str(self._rows[0]["unit"]))

    @property
    def _model(self) -> str:
        return str(self._rows[0]["model"])

    @property
    def _sample(self) -> str:
        patients = count_range((row["n_patients"] for row in self._rows), "patient")
        chips = count_range((row["n_chips"] for row in self._rows[1:]), "chip")
        return f"{patients}, {chips}"

    @property
    def _captions(self) -> tuple[str, ...]:
        """Meaning of the columns of numbers, and of a time that may be given in another way."""
        level = format_level(self._rows[0]["level"])
        drop = "on the chip minus digital" if self.lower_is_better else "digital minus on the chip"
        better = "; lower is better" if self.lower_is_better else ""
        return (
            f"{self._title}: mean over {self._sample}{better}; with its {level} confidence "
            "interval from a two-way bootstrap over patients and chips (digital: patients).",
            f"{capitalised(self._word)}: {self._name} {drop}, paired by patient. Where its "
            f"interval includes 0, the {self._word} is not statistically distinguishable from 0.",
            *(["1 month: 30 days."] if self._has_month else []),
            *self._changes_of_chip(),
        )

    def _changes_of_chip(self) -> Iterator[str]:
        """Yield a sentence on the arguments of the chip that are not those of its preset."""
        hardware = dict(self.settings.get("hardware") or {})
        hardware.pop("preset", None)
        if changed := changed_chip(hardware):
            yield f"{capitalised(changed)}."

    @property
    def _has_month(self) -> bool:
        """Whether a time is called a month."""
        return "month" in self._label(MONTH_S) and MONTH_S in self.settings.get("times_s", ())

    def _label(self, time_s: float) -> str:
        return time_label(time_s, self.names)

    def _when(self, row: Row) -> str:
        return "digital" if row["hardware"] == "digital" else self._label(float(row["time_s"]))

    @property
    def table(self) -> TextTable:
        """Each estimate with its interval, one row per time."""
        columns = (
            Column("time", self._when, is_text=True),
            Column(self._title, lambda row: _cell(row, "estimate", "low", "high")),
            Column(self._word, lambda row: _cell(row, *_DROP)),
        )
        title = f"{self._title} on the chip"
        return TextTable.of(title, columns, self._rows, caption=self._caption)

    @property
    def _of_classes(self) -> TextTable | None:
        """Score of each class, digitally and at one time, with intervals; if there are several."""
        if self.classes.empty or self.classes["time_s"].isna().all():
            return None
        return class_table(
            self.classes, f"{self._title} of each class", self._word, names=self.names
        )

    @property
    def _caption(self) -> str:
        return " ".join(self._captions)

    def text(self) -> str:
        """Return the tables with findings and explanation, in lines of at most 80 columns."""
        title = textwrap.shorten(f"{self._title} of {self._model}{self._on_chips}", _WIDTH)
        tables = [_frame(self.table).set_index("time").rename_axis(None).to_string()]
        if of_classes := self._of_classes:
            tables.append(of_classes.terminal(_WIDTH).rstrip())
        texts = (
            "\n".join(in_lines(line, _WIDTH) for line in lines)
            for lines in (self._findings, self._captions)
        )
        return "\n\n".join([title, *tables, *texts])

    def html(self) -> str:
        """Return the tables with findings and explanation for a notebook."""
        title = html.escape(f"{self._title} of {self._model}{self._on_chips}")
        parts = [f"<p><b>{title}</b></p>{_in_html(self.table)}"]
        if of_classes := self._of_classes:
            parts.append(f"<p><b>{html.escape(of_classes.title)}</b></p>{_in_html(of_classes)}")
        lines = (*self._findings, *self._captions)
        return "".join([*parts, *(f"<p>{html.escape(line)}</p>" for line in lines)])

    @property
    def _on_chips(self) -> str:
        preset = (self.settings.get("hardware") or {}).get("preset")
        return f" on {hardware_name(preset)} chips" if preset else " on chips"

    @property
    def _findings(self) -> tuple[str, ...]:
        """Sentences on the result, the most important one first, and its limitations."""
        digital = self._rows[0]
        low = low_digital(str(digital["metric"]), digital["estimate"])
        cautions = (
            *([f"{capitalised(low)}."] if low else ()),
            *few_patients(int(digital["n_patients"]), float(digital["level"])),
            *few_chips(int(self._rows[-1]["n_chips"])),
        )
        found = [*self._changes(), *low_classes(self.classes, networks=False), *self.notes]
        return with_cautions(found, cautions)

    def _changes(self) -> Iterator[str]:
        """Yield sentences on the largest drop and, if its interval excludes 0, improvement."""
        drop, low, high = _DROP
        on_chip = [row for row in self._rows[1:] if pd.notna(row[drop])]
        if not on_chip:
            yield f"{self._model} has no digital {self._name} to compare with."
            return
        worst = max(on_chip, key=lambda row: row[drop])
        best = min(on_chip, key=lambda row: row[drop])
        if worst[high] < 0 or (pd.isna(worst[high]) and worst[drop] <= 0):
            yield f"{self._name} does not {self._word} at any measured time."
        else:
            sentence = f"The largest {self._word} of {self._name}, {self._size(worst)}"
            is_unclear = worst[low] <= 0 <= worst[high]
            unclear = f": not statistically distinguishable from 0 ({self._sample})."
            yield sentence + (unclear if is_unclear else f"; {self._sample}.")
        if best[high] < 0:
            yield (
                f"The largest improvement of {self._name} on the chip over digital, "
                f"{self._size(best)}; {self._sample}."
            )

    def _size(self, row: Row) -> str:
        """Return time and size of a drop or an improvement with its interval."""
        value, low, high = (row[name] for name in _DROP)
        if value < 0 and high < 0:
            value, low, high = -value, -high, -low
        interval = in_interval(low, high, float(row["level"]))
        return f"{age(float(row['time_s']), self.names)}, is {format_fixed(value)}{interval}"

    def write(self, path: Path | str, environment: dict[str, Any]) -> Path:
        """Write the page.

        Args:
            path: file to write, ending in ``.html``.
            environment: versions and machine, as in ``environment.json``.

        Raises:
            ConfigError: the path does not end in ``.html``.
        """
        path = Path(path)
        if path.suffix != ".html":
            raise ConfigError(f"report: expected a file that ends in .html, got '{path}'")
        settings = {"sweep": {"chips": self.settings.get("chips")}, **self.settings}
        run = Run(f"{self._model}{self._on_chips}", "robustness", settings, "", environment)
        chapter = Chapter("run1", run.name, run, self._findings, tuple(self._sections(run)))
        return write_text_atomically(path, to_html([chapter]))

    def _over_time(self) -> Section:
        """Return the section with the figure: the drop or, if it is unknown, the metric."""
        if has_drops(self.curves):
            return drop_section(
                self.curves,
                self.chips,
                "run1-time",
                "run1-metric",
                lower_is_better=self.lower_is_better,
                reference="the same network without a chip",
                names=self.names,
            )
        figure = page_figure(
            partial(metric_over_time, names=self.names),
            self.curves,
            "run1-metric",
            f"{self._name} over the age of the chip; the table has the numbers.",
        )
        return Section(
            "run1-time",
            f"{self._name} over time",
            "Line: mean over chips and patients. Band: confidence interval.",
            figures=(figure,),
        )

    def _sections(self, run: Run) -> list[Section]:
        return [
            self._over_time(),
            Section("run1-table", self.table.title, tables=(self.table,)),
            *self._class_sections(),
            Section(
                "run1-made",
                "How it was made",
                facts=(*self._facts, *facts_of(run)),
                listing=(("How to run it again", self._call),),
            ),
        ]

    def _class_sections(self) -> Iterator[Section]:
        if table := self._of_classes:
            yield Section("run1-classes", "Classes", MEANING, tables=(table,))

    @property
    def _facts(self) -> tuple[tuple[str, str], ...]:
        changes = dict(self.settings.get("hardware") or {})
        changes.pop("preset", None)
        conversion = self.settings.get("conversion") or {}
        facts = {
            "network": self._model,
            "metric": self._rows[0]["metric"],
            "times": ", ".join(map(self._label, self.settings.get("times_s", ()))),
            "hardware settings": ", ".join(f"{name}={value}" for name, value in changes.items()),
            "digital layers": ", ".join(conversion.get("digital_layers", ())),
            "row split": conversion.get("row_split"),
            "backend": conversion.get("backend"),
            "inferer": self.settings.get("inferer"),
            "patients": self.settings.get("patients"),
        }
        return tuple((name, str(value)) for name, value in facts.items() if value)

    def _exact(self, time_s: float) -> str:
        """Return a time as text: its name, if that is exact, or seconds."""
        name = self._label(time_s)
        return name if to_seconds(name) == time_s else f"{time_s!r} s"

    @property
    def _call(self) -> str:
        """Calls that compute the result again."""
        hardware = self.settings.get("hardware")
        given = "rpu_config" if hardware is None else repr(hardware)
        if hardware is not None and len(hardware) == 1:
            given = repr(hardware["preset"])
        conversion = self.settings.get("conversion") or {}
        given += "".join(f", {name}={value!r}" for name, value in conversion.items())
        options = dict(self.settings.get("options") or {})
        metric = options.pop("metric", repr(self.settings.get("metric")))
        more = "".join(f", {name}={value}" for name, value in options.items())
        more += ", inferer=inferer" if self.settings.get("inferer") else ""
        more += "" if self.settings.get("patients") else ", patients=patients"
        times = [self._exact(time_s) for time_s in self.settings.get("times_s") or ()]
        chips, seed = (self.settings.get(name) for name in ("chips", "seed"))
        return (
            f"analog = am.convert(network, {given})\n"
            "am.calibrate(analog, training_loader)  # the same images and arguments\n"
            f"result = am.robustness(analog, loader, metric={metric}, times={times!r}, "
            f"chips={chips}, seed={seed}{more})"
        )


_DROP = ("drift_drop", "drift_drop_low", "drift_drop_high")


def _frame(table: TextTable) -> pd.DataFrame:
    """Return a table as a table of texts."""
    return pd.DataFrame([list(map(str, row)) for row in table.rows], columns=list(table.heads))


def _in_html(table: TextTable) -> str:
    return _frame(table).to_html(index=False, border=0)


def _cell(row: Row, estimate: str, low: str, high: str) -> Cell:
    return estimate_cell(row[estimate], row[low], row[high])
