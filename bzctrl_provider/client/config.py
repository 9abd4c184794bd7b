"""The settings of a client: checked once, and handed down as one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from bzctrl_provider.client.endpoints import Endpoints
    from bzctrl_provider.client.todo import InProgressSpelling, MessageFormat


@dataclass(frozen=True)
class BzCtrlConfig:
    """All that a client needs.

    :param endpoints: where BzCtrl is.
    :param username: of the API user.
    :param password: of the API user.
    :param timeout_s: seconds for one attempt of one HTTP request, from connecting to the end of the response.
    :param max_attempts: how often one request is sent at most, if sending it again is safe.
    :param verify: whether the server's certificate is checked, or the path of a CA file to check it with.
    :param message_format: ``add-task`` or ``predefined``; see ``build_message``.
    :param in_progress_spelling: ``IN PROGRESS`` or ``INPROGRESS``.
    :param defaults: ``domain_workspace``, ``reporter`` and ``assignee`` for todos that have none.
    :param connection: how an error calls the place of these settings.
    """

    endpoints: Endpoints
    username: str
    password: SecretStr
    timeout_s: float = 30.0
    max_attempts: int = 3
    verify: bool | str = True
    message_format: MessageFormat = "add-task"
    in_progress_spelling: InProgressSpelling = "IN PROGRESS"
    defaults: Mapping[str, str] = field(default_factory=dict)
    connection: str = "the connection"
