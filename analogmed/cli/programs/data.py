"""Programs of ``analogmed data``: verify a data set, write a phantom, download a task."""

from analogmed.cli.settings import DownloadConfig, PhantomConfig, VerifyConfig
from analogmed.data.download import download_decathlon
from analogmed.data.integrity import verify
from analogmed.data.phantoms.write import write_phantom


def run_verify(settings: VerifyConfig) -> int:
    """Print the report of a data set; return 1 if it lists problems."""
    assert settings.folder is not None  # checked by the settings
    report = verify(settings.folder, *settings.patterns, settings.data)
    print(report)
    return 0 if report.ok else 1


def run_phantom(settings: PhantomConfig) -> None:
    """Write a phantom and print its folder."""
    folder = write_phantom(
        settings.kind,
        settings.root,
        settings.seed,
        n_patients=settings.patients,
        size=settings.size,
    )
    print(folder)


def run_download(settings: DownloadConfig) -> None:
    """Download a Decathlon task and print its folder."""
    print(download_decathlon(settings.task, settings.root))
