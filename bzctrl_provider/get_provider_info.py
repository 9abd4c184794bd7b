"""The description that Airflow reads of every provider, during its own import: this module imports nothing."""

# A module-level import, even of __future__ annotations, is left out on purpose: see the docstring.


def _field(label: str, description: str, kind: str = "string", **schema: object) -> dict[str, object]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


def _describe_options() -> dict[str, dict[str, object]]:
    descriptions = {
        "incident_on_failed_run": "Whether each failed run of the DAGs chosen below raises one incident, without a change to these DAGs. Needs the delivery DAG, or the command `bzctrl outbox deliver` by cron.",
        "remember_exceptions": "Whether failed tasks keep their exceptions as XComs for the incident. By default those do of which an incident can be raised: before an IncidentOnFailureOperator, and in DAGs with BzCtrlNotifier or to which incident_on_failed_run applies. If True is set here, all do; if False, only those to which the operator's parameter of this name applies.",
        "conn_id": "The Airflow connection that incidents are raised with, of the policy, of IncidentOnFailureOperator, of BzCtrlNotifier and of broken DAG files. This and the next options apply where neither the DAG nor a route sets another value.",
        "include_tags": "Tags, separated by commas: DAGs that have one of them are chosen. With include_dags empty as well, all DAGs are.",
        "exclude_tags": "Tags, separated by commas: DAGs that have one of them are not chosen.",
        "include_dags": "Patterns of DAG ids, separated by commas, with *, ? and [ab]: these DAGs are chosen.",
        "exclude_dags": "Patterns of DAG ids, separated by commas, with *, ? and [ab]: these DAGs are not chosen.",
        "domain_workspace": "The domain workspace of incidents; empty: that of the connection.",
        "priority": "The priority of incidents: HIGH, MEDIUM or LOW; empty: none.",
        "dedup_window_s": "Seconds for which one incident also represents further failures of the same tasks; 0: each failed run raises one.",
        "dedup_key": "The key of the same failure for dedup_window_s, a template; empty: the DAG and the tasks that failed.",
        "consecutive_failures": "How many runs in a row must fail with the same tasks before an incident is raised; 1: each failed run raises one.",
        "routes_path": "The path of a TOML file with the routes: to whom an incident goes, and which runs raise none; empty: no routes.",
        "database": "Where incidents wait until they are delivered, as a URL of SQLAlchemy; empty: the SQLite file bzctrl.db in AIRFLOW_HOME. Several machines need one database server.",
        "group_above": "More incidents than this of one connection, workspace and assignee that wait for one delivery become one summary; 0: never.",
        "in_test_runs": "Whether callbacks raise incidents also in runs that Airflow marks as a test.",
        "include_check_values": "Whether incidents include the values that a SQL check found also if they are no numbers, such as a whole row, which can have personal data.",
        "include_log_lines": "How many of the last lines of a failed task's log the incident has, at most 50; 0: none. The log can have personal data.",
        "incident_on_import_error": "Whether a DAG file that stays broken raises an incident; it needs the delivery DAG.",
        "import_error_grace_s": "For how many seconds a DAG file has to be broken before it raises an incident.",
    }
    defaults: dict[str, object] = {
        "incident_on_failed_run": False,
        "remember_exceptions": True,
        "conn_id": "bzctrl_default",
        "dedup_window_s": 0,
        "consecutive_failures": 1,
        "group_above": 20,
        "in_test_runs": False,
        "include_check_values": False,
        "include_log_lines": 0,
        "incident_on_import_error": False,
        "import_error_grace_s": 300,
    }
    examples = {
        "include_tags": "finance,customs",
        "include_dags": "customs_*,feeds_*",
        "dedup_key": "{{ failure.dag_id }}",
        "routes_path": "/opt/airflow/config/bzctrl_routes.toml",
        "database": "postgresql+psycopg2://bzctrl:password@db.example.com/bzctrl",
    }
    return {
        name: {
            "description": description,
            "version_added": "1.0.0",
            "type": {bool: "boolean", int: "integer"}.get(type(defaults.get(name)), "string"),
            "example": examples.get(name),
            "default": str(defaults.get(name, "")),
            "sensitive": name == "database",
        }
        for name, description in descriptions.items()
    }


def get_provider_info() -> dict:  # type: ignore[type-arg]  # the one signature that Airflow knows
    """Return this provider's parts, in Airflow's ``provider_info`` schema.

    Only this function describes the connection's form: Airflow 3.2 and newer read it, and for older versions the hook
    builds its widgets from it.
    """
    fields = {
        "environment": _field(
            "Environment",
            "ACC (acceptance) or PROD (production). Needed where Host is empty.",
            enum=["ACC", "PROD"],
        ),
        "domain_workspace": _field("Domain workspace", "For todos that name none, such as EXA-CON-BUS-WOR."),
        "reporter": _field(
            "Reporter", "E-mail address, for todos that name none. Default: the API username."
        ),
        "assignee": _field("Assignee", "E-mail address, for todos that name none. Default: the reporter."),
        "timeout_s": _field(
            "Timeout (s)",
            "Seconds for one attempt of an HTTP request. Default: 30.",
            "number",
            exclusiveMinimum=0,
            maximum=600,
        ),
        "max_attempts": _field(
            "Attempts",
            "How often one HTTP request is sent at the most. Default: 3.",
            "integer",
            minimum=1,
            maximum=10,
        ),
        "verify": _field(
            "Verify TLS",
            "Whether the server's certificate is checked. Default: yes.",
            "boolean",
            default=True,
        ),
        "ca_bundle": _field(
            "CA bundle", "Path of a file of certificate authorities to check the server with."
        ),
        "message_format": _field(
            "Message format",
            "add-task (default), or predefined for the earlier BzCtrl document.",
            enum=["add-task", "predefined"],
        ),
        "in_progress_spelling": _field(
            "Spelling of 'in progress'",
            "IN PROGRESS (default) or INPROGRESS.",
            enum=["IN PROGRESS", "INPROGRESS"],
        ),
        "allow_http": _field(
            "Allow http",
            "Whether clear text is allowed to a host other than this machine.",
            "boolean",
            default=False,
        ),
    }
    return {
        "package-name": "airflow-provider-bzctrl",
        "name": "BzCtrl",
        "description": "`BzCtrl <https://www.bzctrl.com/>`__: a failed check becomes an incident by itself.",
        "integrations": [
            {"integration-name": "BzCtrl", "external-doc-url": "https://www.bzctrl.com/", "tags": ["service"]}
        ],
        "hooks": [{"integration-name": "BzCtrl", "python-modules": ["bzctrl_provider.hooks.bzctrl"]}],
        "operators": [{"integration-name": "BzCtrl", "python-modules": ["bzctrl_provider.operators.bzctrl"]}],
        "notifications": ["bzctrl_provider.notifications.bzctrl.BzCtrlNotifier"],
        "task-decorators": [
            {"name": "bzctrl_todo", "class-name": "bzctrl_provider.decorators.bzctrl.bzctrl_todo_task"}
        ],
        "extra-links": ["bzctrl_provider.links.bzctrl.BzCtrlTodoLink"],
        "cli": ["bzctrl_provider.cli.main.get_commands"],
        "config": {
            "bzctrl": {
                "description": "Incidents for a whole deployment, see the provider's documentation.",
                "options": _describe_options(),
            },
        },
        "connection-types": [
            {
                "connection-type": "bzctrl",
                "hook-class-name": "bzctrl_provider.hooks.bzctrl.BzCtrlHook",
                "hook-name": "BzCtrl",
                "ui-field-behaviour": {
                    "hidden-fields": ["extra"],
                    "relabeling": {"login": "API username", "password": "API password"},
                    "placeholders": {
                        "host": "empty for ACC and PROD; otherwise the base URL of another BzCtrl",
                        "login": "example@example.com",
                        "schema": "https",
                    },
                },
                "conn-fields": fields,
            }
        ],
    }
