"""Masking of credentials in text that is printed or written."""

import re
from typing import Any

MASK = "***"

_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
"""URL schemes in which the part before ``@`` is the name of a storage container."""

_USER = re.compile(
    r"""(?P<scheme>[A-Za-z][\w+.-]*)://
        (?: (?P<named>[^/?\#\s:@'"]*) : (?!\d+(?:/|$)) [^\s@'"]* | (?P<bare>[^/?\#\s:@'"]+) )
        @""",
    re.VERBOSE,
)
_QUERY = re.compile(
    r"""(?P<name>[?&;][^=&;\s'"]*
        (?:pass|pwd|secret|token|key|sig|credential|auth)[^=&;\s'"]*=)[^&;\s'"\#]+""",
    re.VERBOSE | re.IGNORECASE,
)


def masked(text: str) -> str:
    """Replace the credentials of each URL in a text with ``***``.

    User and password before ``@`` are masked together, because an access key may replace the user.
    In the query of a URL, the values of parameters such as ``password``, ``token`` or ``sig`` are
    masked.
    """
    return _QUERY.sub(rf"\g<name>{MASK}", _USER.sub(_without_user, text))


def masked_values(value: Any) -> Any:
    """Return nested dictionaries and lists with all their strings masked."""
    if isinstance(value, dict):
        return {key: masked_values(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [masked_values(entry) for entry in value]
    return masked(value) if isinstance(value, str) else value


def _without_user(found: re.Match[str]) -> str:
    if found["bare"] is not None and found["scheme"].lower() in _CONTAINERS:
        return found[0]
    return f"{found['scheme']}://{MASK}@"


def is_masked(url: str) -> bool:
    """Return whether credentials of a URL have been replaced, so that it cannot be used."""
    return f"://{MASK}@" in url or f"={MASK}" in url
