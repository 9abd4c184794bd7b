"""One call of a notifier: from Airflow's context to the incident in the outbox.

Only a callback loads this module, and with it everything that a callback needs: a DAG file that names the notifier is
parsed without it, and ``preload`` loads it once in the DAG processor.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.failure import LazyFailure
from bzctrl_provider.failure_lookup import describe_callback
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fields import Wishes, read_parameters
from bzctrl_provider.incidents.occurrence import read_callback
from bzctrl_provider.links.bzctrl import push_incident_link
from bzctrl_provider.notifications import direct
from bzctrl_provider.notifications.background import deliver_beside, is_in_task, may_wait
from bzctrl_provider.notifications.rendering import Renderer
from bzctrl_provider.outbox.incident import NotRaised
from bzctrl_provider.outbox.runner import deliver_soon
from bzctrl_provider.outbox.writer import write
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.text import safe_repr
from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

_TEMPLATES_CHARS = 10**6
"""Of one template in an identity, which is a hash of them."""


class Callback:
    """Call of a ``BzCtrlNotifier`` with a context.

    :param notifier: a copy of the notifier, whose attributes are the parameters of this call.
    :param context: with which Airflow calls it.
    :param templates: the fields as the DAG has them.
    :param jinja_env: renders the templates; default: that of the DAG.
    """

    def __init__(
        self,
        notifier: Any,
        context: Context,
        *,
        templates: Mapping[str, Any],
        jinja_env: Environment | None = None,
    ) -> None:
        self._notifier = notifier
        self._context = context
        self._templates = templates
        self._renderer = Renderer(notifier, context, jinja_env)
        # The templates and the incident share one failure, so that Airflow is asked for it once.
        self._failure = LazyFailure(context, describe_callback)
        self._left_out: list[str] = []
        self._unstored: Incident | None = None

    def render_fields(self) -> None:
        """Render the parameters of the notifier, for which ``failure`` is a variable."""
        if self._context.get("dag") is None:
            # Airflow 2 reads the key while it renders, also if an alert's context has no DAG.
            self._context["dag"] = None  # type: ignore[typeddict-item]  # as get_template_env takes it
        self._context["failure"] = self._failure  # type: ignore[typeddict-unknown-key]  # a variable of our own
        self._left_out = self._renderer.render_fields()

    def raise_incident(self) -> None:
        """Raise the incident for which the templates are rendered."""
        decision = self._decide()
        if self._unstored is not None:
            created: Mapping[str, Any] = direct.send(self._unstored)
        else:
            created = self._see_to_what_waits(decision)
        if is_in_task(self._context):
            push_incident_link(self._context, created.get("link"))

    async def araise_incident(self) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        # In a thread of our own: a database may be slow.
        await asyncio.get_running_loop().run_in_executor(_writer(), self._decide)
        if self._unstored is not None:
            await direct.asend(self._unstored)
        elif airflow_at_least(3, 3):
            # Before, a thread that looks up a connection in the triggerer can stop its channel to Airflow.
            deliver_beside()

    def _decide(self) -> Incident | NotRaised:
        notifier = self._notifier
        occurrence = read_callback(
            self._context,
            self._failure,
            each_try=notifier.on_retry,
        )
        wishes = Wishes(
            values=read_parameters(notifier),
            render=self._renderer.render,
            link_to_run=notifier.link_to_run,
            routes=notifier.routes,
            left_out=self._left_out,
            templates=self._name_templates(),
        )
        decision = decide(occurrence, wishes, record=self._write)
        if isinstance(decision, NotRaised):
            log.log(logging.WARNING if decision.outcome == "tested" else logging.INFO, "%s", decision)
        elif self._unstored is None:
            log.info(
                "The incident was written into the outbox as %s; a delivery creates it.", decision.identity
            )
        return decision

    def _name_templates(self) -> list[str]:
        # Two notifiers of one callback are two incidents. Of an object only the type: its repr may have an address, which is
        # another one in the next process.
        return [
            f"{name}={safe_repr(value, max_chars=_TEMPLATES_CHARS)}"
            for name, value in sorted(self._templates.items())
        ]

    def _write(self, incident: Incident) -> Incident | NotRaised:
        """Write an incident into the outbox; if the store cannot be used, note that it has to be sent."""
        try:
            return write(incident)
        except StoreError as exc:
            log.error("%s The incident is sent directly instead.", exc)  # noqa: TRY400 - its frames say nothing more
            self._unstored = incident
            return incident

    def _see_to_what_waits(self, decision: Incident | NotRaised) -> Mapping[str, Any]:
        """Have all delivered that waits, also if nothing was written; return the todo, as far as it is known yet."""
        todos = {}
        incident = decision.first if isinstance(decision, NotRaised) else decision
        if incident is not None and may_wait(self._context):
            todos = deliver_soon()
        else:
            deliver_beside()
        if incident is None:
            return {}
        return todos.get(incident.identity, {"key": incident.key, "link": incident.link})


@cache
def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzctrl-outbox")
