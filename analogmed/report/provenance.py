"""Provenance of a run, and the commands to reproduce it."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from analogmed.foundation.credentials import masked, masked_values
from analogmed.foundation.strict_yaml import dump_yaml
from analogmed.foundation.text import command_line
from analogmed.report.kinds.registry import kind_of
from analogmed.report.run import Run

_ABSOLUTE = re.compile(r"^(--?[\w.-]+=)?(?:/|[A-Za-z]:[\\/]|~/|\\\\)(?:.*[\\/])?([^\\/]+)[\\/]?$")
"""An absolute path, alone or as the value of an option."""
_LIST = re.compile(r"^((?:--?[\w.-]+=)?\[)(.*)(\])$")
"""A list as an argument of a command, alone or as the value of an option."""

_MAIN = ("analogmed", "__main__.py")


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
    """Return title and text of the commands to rerun it, its configuration and its environment.

    Credentials are masked, and absolute paths of the machine of the run are replaced.
    """
    files = [("How to run it again", masked(_again(run)))]
    if run.settings:
        settings = dump_yaml(portable(masked_values(run.settings)))
        files.append((f"Configuration ({run.settings_file})", settings))
    if run.environment:
        environment = json.dumps(portable(masked_values(run.environment)), indent=2)
        files.append(("Environment", environment))
    return tuple(files)


def portable(value: Any) -> Any:
    """Return nested dictionaries and lists with ``path/to/NAME`` for each absolute path.

    Example:
        >>> portable(["--out", "/home/me/runs/a", "--task.root=/data/lgg", "runs/a"])
        ['--out', 'path/to/a', '--task.root=path/to/lgg', 'runs/a']
        >>> portable("--checkpoints=[/runs/a, /runs/b]")
        '--checkpoints=[path/to/a, path/to/b]'
    """
    if isinstance(value, dict):
        return {key: portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if found := _LIST.match(value):
        entries = ", ".join(portable(entry.strip()) for entry in found[2].split(","))
        return f"{found[1]}{entries}{found[3]}"
    return _ABSOLUTE.sub(r"\1path/to/\2", value)


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
    commit = _commit(run.environment.get("git") or {})
    made = ", ".join(filter(None, [version, f"commit {commit}" if commit else ""]))
    lines = [f"# with analogmed {made}"] if made else []
    if run.settings:
        out = f"runs/{_quoted(run.name)}"
        lines += [
            f"# {run.settings_file}: the configuration below, in the folder of the run",
            f"analogmed {program} --config {run.settings_file} --out {out}",
        ]
    if command := run.environment.get("command"):
        lines += ["# as it was called:", f"# {_called(program, list(map(str, command)))}"]
    return "\n".join(lines)


def _called(program: str, command: list[str]) -> str:
    """Return the call of a run, without the path of its program.

    Args:
        program: command of the run.
        command: ``sys.argv`` of the run.
    """
    script, given = Path(command[0]), portable(command[1:])
    if "analogmed" in (script.name, script.stem) or script.parts[-2:] == _MAIN:
        return command_line(*given)
    module, *command_words = program.split()
    if given[: len(command_words)] != command_words:
        given = [*command_words, *given]
    return f"python -m analogmed.{module} {shlex.join(given)}".rstrip()


def _quoted(name: str) -> str:
    return shlex.quote(f"{name}-again")
