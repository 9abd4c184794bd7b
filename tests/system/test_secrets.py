from __future__ import annotations

import base64
import os
import subprocess
from urllib.parse import quote, quote_plus

from support.cluster import PASSWORD, REFUSED_PASSWORD


def spellings(secret):
    """Return a secret as text, in a form, in a URL, in JSON and in a Basic header."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret), quote_plus(secret), secret.encode("unicode_escape").decode(), encoded[:-2]}


def read_texts(cluster):
    """Yield all output of the cluster: logs of components, tasks and commands, its folder, its database."""
    for folder in (cluster.logs, cluster.home, cluster.spool):
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()
    password, _, rest = cluster.database.removeprefix("postgres:").partition("@")
    address, _, name = rest.partition("/")
    host, _, port = address.partition(":")
    dump = subprocess.run(
        [cluster.pg_dump, "-h", host, "-p", port, "-U", "postgres", name],
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        check=True,
    )
    yield "the database", dump.stdout


def found(cluster, secrets):
    forms = {form.encode() for secret in secrets for form in spellings(secret)}
    return [name for name, text in read_texts(cluster) if any(form in text for form in forms)]


def test_password_and_token_are_in_no_output_of_the_cluster(cluster, todos, issued):
    """Logs and database have neither, before and after a rejected login; the same search finds values that are not secret."""
    _, state = cluster.run("failed_checks")
    assert state == "failed"
    secrets = [PASSWORD, REFUSED_PASSWORD, *issued]
    assert len(issued) >= 2
    assert found(cluster, secrets) == []

    run_id, state = cluster.run("refused_login")
    assert state == "failed"
    assert cluster.tries("refused_login", run_id) == {("create", -1): ("failed", 1)}
    assert found(cluster, [PASSWORD, REFUSED_PASSWORD, *issued]) == []

    written = found(cluster, ["BzCtrl refused the username or the password"])
    assert [name for name in written if "refused_login" in name], "the search sees the logs of tasks"
    assert "the database" in found(cluster, ["the totals differ by 7"]), "and the database"
