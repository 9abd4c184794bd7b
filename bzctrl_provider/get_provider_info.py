"""The description that Airflow reads of every provider, during its own import: this module imports nothing."""

# A module-level import, even of __future__ annotations, is left out on purpose: see the docstring.


def get_provider_info() -> dict:  # type: ignore[type-arg]  # the one signature that Airflow knows
    """Return this provider's parts, in Airflow's ``provider_info`` schema.

    Only this function describes the connection's form: Airflow 3.2 and newer read it, and for older versions the hook
    builds its widgets from it.
    """
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
        "cli": ["bzctrl_provider.cli.provider.get_commands"],
        "config": {
            "bzctrl": {
                "description": "Incidents for a whole deployment, see the provider's documentation.",
                "options": {
                    "incident_on_failed_run": {
                        "description": "Whether each failed run of the DAGs chosen below raises one incident, without a change to these DAGs.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "remember_exceptions": {
                        "description": "Whether failed tasks keep their exceptions as XComs for the incident. By default those do of which an incident can be raised: before an IncidentOnFailureOperator, and in DAGs with BzCtrlNotifier or to which incident_on_failed_run applies. If True is set here, all do; if False, only those to which the operator's parameter of this name applies.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "True",
                    },
                    "conn_id": {
                        "description": "The Airflow connection that these incidents are raised with.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "bzctrl_prod",
                        "default": "bzctrl_default",
                    },
                    "include_tags": {
                        "description": "Tags, separated by commas: DAGs that have one of them are chosen. With include_dags empty as well, all DAGs are.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "finance,customs",
                        "default": "",
                    },
                    "exclude_tags": {
                        "description": "Tags, separated by commas: DAGs that have one of them are not chosen.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "sandbox",
                        "default": "",
                    },
                    "include_dags": {
                        "description": "Patterns of DAG ids, separated by commas, with * and ?: these DAGs are chosen.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "customs_*,feeds_*",
                        "default": "",
                    },
                    "exclude_dags": {
                        "description": "Patterns of DAG ids, separated by commas, with * and ?: these DAGs are not chosen.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "*_test",
                        "default": "",
                    },
                    "domain_workspace": {
                        "description": "The domain workspace of these incidents; empty: that of the connection.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "EXA-CON-BUS-WOR",
                        "default": "",
                    },
                    "priority": {
                        "description": "The priority of these incidents: HIGH, MEDIUM or LOW; empty: none.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "HIGH",
                        "default": "",
                    },
                    "dedup_window_s": {
                        "description": "Seconds for which one of these incidents also represents further failures of the same tasks; 0: each failed run raises one.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "86400",
                        "default": "0",
                    },
                    "dedup_key": {
                        "description": "The key of the same failure for dedup_window_s, a template; empty: the DAG and the tasks that failed.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "{{ failure.dag_id }}",
                        "default": "",
                    },
                    "consecutive_failures": {
                        "description": "How many runs in a row must fail with the same tasks before one of these incidents is raised; 1: each failed run raises one.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "3",
                        "default": "1",
                    },
                    "routes_path": {
                        "description": "The path of a TOML file with the routes: to whom an incident goes, and which runs raise none; empty: no routes.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/config/bzctrl_routes.toml",
                        "default": "",
                    },
                    "spool_path": {
                        "description": "Where incidents are written as files until they are delivered: an absolute path, or an address of Airflow's object storage; empty: the folder bzctrl_spool in AIRFLOW_HOME; off: nowhere.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@bucket/bzctrl-spool",
                        "default": "",
                    },
                    "group_above": {
                        "description": "More incidents than this of one connection, workspace and assignee that wait for one delivery become one summary; 0: never.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "50",
                        "default": "20",
                    },
                    "in_test_runs": {
                        "description": "Whether callbacks raise incidents in runs of `airflow dags test` and DAG.test(), too.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "include_check_values": {
                        "description": "Whether incidents include the values that a SQL check found also if they are no numbers, such as a whole row, which can have personal data.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "incident_on_import_error": {
                        "description": "Whether a DAG file that stays broken raises an incident.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "import_error_grace_s": {
                        "description": "For how many seconds a DAG file has to be broken before it raises an incident.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "900",
                        "default": "300",
                    },
                },
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
                "conn-fields": {
                    "environment": {
                        "label": "Environment",
                        "description": "ACC (acceptance) or PROD (production). Needed where Host is empty.",
                        "schema": {"type": ["string", "null"], "enum": ["ACC", "PROD"]},
                    },
                    "domain_workspace": {
                        "label": "Domain workspace",
                        "description": "For todos that name none, such as EXA-CON-BUS-WOR.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "reporter": {
                        "label": "Reporter",
                        "description": "E-mail address, for todos that name none. Default: the API username.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "assignee": {
                        "label": "Assignee",
                        "description": "E-mail address, for todos that name none. Default: the reporter.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout_s": {
                        "label": "Timeout (s)",
                        "description": "Seconds for one attempt of an HTTP request. Default: 30.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 600},
                    },
                    "max_attempts": {
                        "label": "Attempts",
                        "description": "How often one HTTP request is sent at the most. Default: 3.",
                        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "Whether the server's certificate is checked. Default: yes.",
                        "schema": {"type": ["boolean", "null"], "default": True},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "Path of a file of certificate authorities to check the server with.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "message_format": {
                        "label": "Message format",
                        "description": "add-task (default), or predefined for the earlier BzCtrl document.",
                        "schema": {"type": ["string", "null"], "enum": ["add-task", "predefined"]},
                    },
                    "in_progress_spelling": {
                        "label": "Spelling of 'in progress'",
                        "description": "IN PROGRESS (default) or INPROGRESS.",
                        "schema": {"type": ["string", "null"], "enum": ["IN PROGRESS", "INPROGRESS"]},
                    },
                    "allow_http": {
                        "label": "Allow http",
                        "description": "Whether clear text is allowed to a host other than this machine.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
