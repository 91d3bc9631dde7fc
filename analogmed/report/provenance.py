"""Provenance of a run, and the commands to reproduce it."""

import json
import shlex
from typing import Any

from analogmed.foundation.credentials import masked, masked_values
from analogmed.foundation.strict_yaml import dump_yaml
from analogmed.report.kinds.registry import kind_of
from analogmed.report.run import Run


def facts_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Return name and value of all conditions of a result that the run folder contains."""
    settings, environment = run.settings, run.environment
    versions, git = environment.get("versions") or {}, environment.get("git") or {}
    sweep, task = settings.get("sweep") or {}, settings.get("task") or {}
    hardware = settings.get("hardware") or {}
    facts = {
        "task": run.data_name or None,
        "hardware": hardware.get("preset"),
        "root seed": settings.get("seed"),
        "split seed": task.get("split_seed"),
        "chips": sweep.get("chips"),
        "reads at each time": sweep.get("reads"),
        "backend": settings.get("backend"),
        "device": settings.get("device"),
        "Python": environment.get("python"),
        "platform": environment.get("platform"),
        **{str(name): version for name, version in versions.items()},
        "commit": _commit(git),
        "run at": _moment(environment.get("time")),
    }
    return tuple((name, str(value)) for name, value in facts.items() if value is not None)


def files_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Return title and text of the commands to rerun it, its configuration and its environment."""
    files = [("How to run it again", masked(_again(run)))]
    if run.settings:
        settings = dump_yaml(masked_values(run.settings))
        files.append((f"Configuration ({run.settings_file})", settings))
    if run.environment:
        environment = json.dumps(masked_values(run.environment), indent=2)
        files.append(("Environment", environment))
    return tuple(files)


def _commit(git: dict[str, Any]) -> str | None:
    """Return the abbreviated commit; the full one is listed with the environment."""
    if not git.get("commit"):
        return None
    changed = " and changes" if git.get("changed") == "True" else ""
    return f"{str(git['commit'])[:10]}{changed}"


def _moment(time: str | None) -> str | None:
    """Return a time to the minute, without offset if it is in UTC."""
    if not time:
        return None
    day, _, clock = time.partition("T")
    return f"{day} {clock[:5]}{' UTC' if clock.endswith(('+00:00', 'Z')) else ''}".strip()


def _again(run: Run) -> str:
    program = kind_of(run.kind).program
    version = (run.environment.get("versions") or {}).get("analogmed")
    lines = [f"pip install analogmed=={version}"] if version else []
    if run.settings:
        out = f"runs/{_quoted(run.name)}"
        lines.append(f"python -m {program} --config {run.settings_file} --out {out}")
    if command := run.environment.get("command"):
        given = shlex.join(_without_program(program, list(map(str, command[1:]))))
        lines += [
            "# as it was called:",
            f"# python -m {program} {given}".rstrip(),
        ]
    return "\n".join(lines)


def _without_program(program: str, given: list[str]) -> list[str]:
    """Return arguments without leading words that name the program, as in ``analogmed eval``."""
    for word in program.removeprefix("analogmed.").split():
        if given[:1] == [word]:
            given = given[1:]
    return given


def _quoted(name: str) -> str:
    return shlex.quote(f"{name}-again")
