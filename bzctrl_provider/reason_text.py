"""The text of an exception in incidents, logs and files: redacted by Airflow, and bounded."""

from __future__ import annotations

from traceback import format_exception_only

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.text import plain_text


def exception_text(exception: object) -> str | None:
    """Return the type and the message of an exception, redacted by Airflow, in at most 2,000 characters.

    A longer one keeps its beginning and its end, because most errors give their cause there.
    """
    if exception is None:
        return None
    if isinstance(exception, BaseException):
        module = f"{type(exception).__module__}."
        exception = "".join(format_exception_only(exception))
        if module.startswith("airflow."):  # which module it is differs with the version
            exception = exception.removeprefix(module)
    return cut_middle(plain_text(str(redact(str(exception)))).strip())


def cut_middle(text: str) -> str:
    """Return a text in at most 2,000 characters: its beginning and its last line, of a long line the end."""
    if len(text) <= TEXT_CHARS:
        return text
    last = text.rsplit("\n", 1)[-1][-TEXT_CHARS // 2 :]
    return f"{text[: TEXT_CHARS - len(last) - 3]}\n…\n{last}"
