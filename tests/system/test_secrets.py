from __future__ import annotations

import base64
import contextlib
import subprocess
from urllib.parse import quote, quote_plus

from support.cluster import PASSWORD, REFUSED_PASSWORD


def spellings(secret):
    """Return a secret as text, in a form, in a URL, in JSON and in a Basic header."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret), quote_plus(secret), secret.encode("unicode_escape").decode(), encoded[:-2]}


def read_texts(cluster):
    """Yield all output of the cluster: logs of components, tasks and commands, the disks, both databases."""
    for folder in (cluster.logs, cluster.home):
        for path in folder.rglob("*"):
            # A file may be gone again.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    yield str(path), path.read_bytes()
    for name, url in {"the database": cluster.database, "the store": cluster.store_url}.items():
        address = url.replace("+psycopg2", "")
        dump = subprocess.run([cluster.pg_dump, address], capture_output=True, check=True)
        yield name, dump.stdout


def found(cluster, secrets):
    forms = {form.encode() for secret in secrets for form in spellings(secret)}
    return [name for name, text in read_texts(cluster) if any(form in text for form in forms)]


def test_password_and_token_are_in_no_output_of_the_cluster(cluster, todos, issued):
    """Logs and databases have neither, nor the password of the store, before and after a rejected login; the same search finds values that are not secret."""
    _, state = cluster.run("failed_checks")
    assert state == "failed"
    secrets = [PASSWORD, REFUSED_PASSWORD, cluster.store_password, *issued]
    assert len(issued) >= 2
    assert found(cluster, secrets) == []

    run_id, state = cluster.run("refused_login")
    assert state == "failed"
    assert cluster.tries("refused_login", run_id) == {("create", -1): ("failed", 1)}
    assert found(cluster, [PASSWORD, REFUSED_PASSWORD, cluster.store_password, *issued]) == []

    written = found(cluster, ["BzCtrl refused the username or the password"])
    assert [name for name in written if "refused_login" in name], "the search sees the logs of tasks"
    assert "the database" in found(cluster, ["the totals differ by 7"]), "and the database"
