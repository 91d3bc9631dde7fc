"""Program of ``analogmed report``: one page with the results of run folders."""

from analogmed.cli.exit_status import log_traceback
from analogmed.cli.settings import ReportConfig
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import removed_if_refused, require_folder
from analogmed.report.writer import InconsistentRunError, write_report


def run(settings: ReportConfig) -> None:
    """Write the page and print its files."""
    for folder in settings.runs:
        require_folder(folder)
    try:
        with removed_if_refused(settings.out or settings.runs[0]):
            written = write_report(settings.runs, settings.out)
    except InconsistentRunError as error:
        raise DataError(
            f"{error}. If the error persists, report it with its traceback{log_traceback(error)}"
        ) from error
    for path in written:
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
