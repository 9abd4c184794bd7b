"""The ``[bzctrl]`` section of Airflow's configuration.

An invalid option must not keep a DAG from being parsed, nor cost an incident: it is ignored, its default is used, one
ERROR per process names all of them, and each incident has a note.

Each field of ``Settings`` is an option: its name, its parser, its default and its allowed values. CONTRIBUTING says how
to add one. Airflow loads this module in every process that parses DAGs, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from bzctrl_provider.fields import LEVELS
from bzctrl_provider.text import FAILURES_MAX, LOG_LINES_MAX, NAME_CHARS, WINDOW_MAX_S, fits_any, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

log = logging.getLogger(__name__)

_SECTION = "bzctrl"

_DELIVERY_TAG = "bzctrl_delivery"
"""Of the DAG that delivers the outbox: while BzCtrl is away, each of its failures would add an incident to the outbox."""


def _boolean(text: str) -> bool:
    """Parse a switch by the rules of ``conf.getboolean``, a comment after ``#`` included."""
    word = text.lower().partition("#")[0].strip()
    if word not in ("t", "true", "1", "f", "false", "0"):
        raise ValueError(text)
    return word in ("t", "true", "1")


def _text(text: str) -> str | None:
    return text or None


def _level(text: str) -> str | None:
    level = text.upper()
    if level not in ("", *LEVELS):
        raise ValueError(text)
    return level or None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _option(parse: Callable[[str], T | None], default: T, allowed: str, *, is_sensitive: bool = False) -> T:
    """Return the row of an option.

    :param parse: makes a value of the stripped text; None means unset; raises ``ValueError`` if the text is invalid.
    :param default: the value of an option that is unset or invalid.
    :param allowed: the allowed values in words, as in "must be True or False".
    :param is_sensitive: whether it may hold a secret; Airflow also reads it from ``…_cmd`` and ``…_secret``.
    """
    metadata = {"parse": parse, "allowed": allowed, "is_sensitive": is_sensitive}
    return field(default=default, metadata=metadata, repr=not is_sensitive)


def _number(default: int, unit: str, *, least: int = 0, most: int) -> int:
    """Return the row of an option that is a whole number of a unit."""

    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return _option(parse, default, f"a whole number of {unit} from {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of ``[bzctrl]``; the provider info describes each of them for Airflow.

    :param errors: one sentence for each option that is invalid or unknown.
    :param configured: the names of the options that are set.
    """

    incident_on_failed_run: bool = _option(_boolean, default=False, allowed="True or False")
    remember_exceptions: bool = _option(_boolean, default=True, allowed="True or False")
    conn_id: str = _option(_text, default="bzctrl_default", allowed="the id of a connection")
    include_tags: tuple[str, ...] = _option(_words, default=(), allowed="tags separated by commas")
    exclude_tags: tuple[str, ...] = _option(_words, default=(), allowed="tags separated by commas")
    include_dags: tuple[str, ...] = _option(_words, default=(), allowed="patterns separated by commas")
    exclude_dags: tuple[str, ...] = _option(_words, default=(), allowed="patterns separated by commas")
    domain_workspace: str | None = _option(_text, default=None, allowed="the name of a domain workspace")
    priority: str | None = _option(_level, default=None, allowed="HIGH, MEDIUM or LOW")
    dedup_window_s: int = _number(0, "seconds", most=WINDOW_MAX_S)
    dedup_key: str | None = _option(_text, default=None, allowed="a text or a template")
    consecutive_failures: int = _number(1, "failures", least=1, most=FAILURES_MAX)
    routes_path: str | None = _option(_text, default=None, allowed="the path of a TOML file")
    database: str | None = _option(_text, default=None, allowed="a URL of SQLAlchemy", is_sensitive=True)
    group_above: int = _number(20, "incidents", most=1_000_000)
    in_test_runs: bool = _option(_boolean, default=False, allowed="True or False")
    include_check_values: bool = _option(_boolean, default=False, allowed="True or False")
    include_log_lines: int = _number(0, "lines", most=LOG_LINES_MAX)
    incident_on_import_error: bool = _option(_boolean, default=False, allowed="True or False")
    import_error_grace_s: int = _number(300, "seconds", most=WINDOW_MAX_S)
    errors: tuple[str, ...] = ()
    configured: frozenset[str] = frozenset()

    @property
    def dedup_window(self) -> timedelta | None:
        """Return ``dedup_window_s`` as operators and notifiers take it."""
        return timedelta(seconds=self.dedup_window_s) if self.dedup_window_s else None

    @property
    def note(self) -> str | None:
        """Return the note for the description of an incident; None if all options are valid."""
        if not self.errors:
            return None
        return f"Invalid options in [{_SECTION}] of Airflow's configuration were ignored: {' '.join(self.errors)}"

    def applies_to(self, dag_id: str, tags: Collection[str]) -> bool:
        """Check whether a DAG is included, by tag or by id, and not excluded by either; the delivery DAG never is."""

        def has(some_tags: Collection[str], patterns: Collection[str]) -> bool:
            return any(tag in tags for tag in some_tags) or fits_any(patterns, dag_id)

        if _DELIVERY_TAG in tags or has(self.exclude_tags, self.exclude_dags):
            return False
        is_for_all = not (self.include_tags or self.include_dags)
        return is_for_all or has(self.include_tags, self.include_dags)


OPTIONS = {row.name: row for row in fields(Settings) if "parse" in row.metadata}
"""The rows of the table by the names of the options."""

_SENSITIVE = [name for name, row in OPTIONS.items() if row.metadata["is_sensitive"]]
_SOURCES = {f"{name}_{source}": name for name in _SENSITIVE for source in ("cmd", "secret")}
"""The sensitive options by the names under which Airflow finds their command or their secret."""


@cache
def settings() -> Settings:
    """Read the configuration, once per process, and log what is invalid in it. Never raises."""
    errors: list[str] = []
    values: dict[str, Any] = {}
    # Only those that are set: Airflow takes 50 µs for each that is not.
    for name in _configured_names():
        try:
            values[name] = _read(name)
        except ValueError as exc:
            errors.append(str(exc))
    if errors:
        log.error(
            "Invalid options in the section [%s] of Airflow's configuration are ignored, and their defaults are used. Correct them and restart this component: %s",
            _SECTION,
            " ".join(errors),
        )
    chosen = {name: value for name, value in values.items() if value is not None}
    return Settings(**chosen, errors=tuple(errors), configured=frozenset(chosen))


def _read(name: str) -> Any:
    """Return the value of an option; None if it is unset.

    :raises ValueError: if it is invalid or unknown, with a sentence that says what is allowed.
    """
    from airflow.configuration import conf

    row = OPTIONS.get(name)
    if row is None:
        remedy = suggest(name, OPTIONS, otherwise="the options are {}.")
        raise ValueError(f"{' '.join(name.split()):.{NAME_CHARS}} is not an option: {remedy}")
    allowed = row.metadata["allowed"]
    try:
        sensitive = getattr(conf, "sensitive_config_values", None)
        if name in _SENSITIVE and isinstance(sensitive, set):
            # Otherwise a process that no command of Airflow 2 has started, such as `bzctrl`, finds no `_cmd` and no `_secret`.
            sensitive.add((_SECTION, name))
        text = conf.get(_SECTION, name, fallback=None)
    except Exception as exc:
        raise ValueError(f"{name} cannot be read ({type(exc).__name__}): it must be {allowed}.") from exc
    try:
        return None if text is None else row.metadata["parse"](text.strip())
    except ValueError as exc:
        raise ValueError(f"{name} must be {allowed}, not {text!r:.{NAME_CHARS}}.") from exc


def _configured_names() -> list[str]:
    """Return the names in the section of the file and in the environment, of which Airflow reads only names in upper case."""
    from airflow.configuration import conf

    names = set(conf.options(_SECTION)) - set(conf.defaults()) if conf.has_section(_SECTION) else set()
    prefix = f"AIRFLOW__{_SECTION.upper()}__"
    variables = [variable.removeprefix(prefix) for variable in os.environ if variable.startswith(prefix)]
    names |= {name.lower() if name.isupper() else name for name in variables}
    return sorted({_SOURCES.get(name, name) for name in names})
