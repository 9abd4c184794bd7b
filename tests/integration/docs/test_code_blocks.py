from __future__ import annotations

import ast
import configparser
import importlib
import json
import os
import pkgutil
import re
import shlex
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml
from airflow.configuration import conf
from airflow.providers.common.compat.sdk import DAG, BaseOperator, task
from local_airflow import README_DAG_ID, fill_warehouse, write_readme_dag
from support.airflow_versions import VERSION
from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from bzctrl_provider.cli.main import make_parser as bzctrl_parser
from bzctrl_provider.get_provider_info import get_provider_info
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.rules.routes import find_dead_fields, parse_routes
from bzctrl_provider.rules.silences import parse_silences
from bzctrl_provider.sandbox.__main__ import make_parser as sandbox_parser
from bzctrl_provider.settings import settings

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before 3.2
    from airflow.models.dagbag import DagBag

# Airflow's own warnings differ with each release; they are ignored in tests that run DAGs.
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

CREATED_BY = {
    "declarations": ["declarations: 1 of 2 checks failed (amounts)"],
    "first_incident": ["first_incident: check failed"],
    "reconciliation": ["reconciliation: 1 of 2 checks failed (balances)"],
    "missing_feed": ["The feed of {run_id} is missing"],
    "overdue_invoices": ["Invoice 2026-0117 is overdue", "Invoice 2026-0130 is overdue"],
    "orders_without_amount": ["Order 778 has no amount", "Order 780 has no amount"],
    "orders_quality_by_function": ["Order 778 has no amount"],
    "suppliers": ["suppliers: fetch failed"],
    "suppliers_by_country": ["suppliers_by_country: list_countries failed"],
    "yearly_accounts": ["Sign the accounts"],
}
"""The titles of the todos that a run of each DAG of the documentation creates."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    info: str
    source: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    def code(self):
        """Compile the block, with the page and its lines in tracebacks."""
        return compile("\n" * self.line + for_this_airflow(self.source), str(self.page), "exec")


def blocks_in(text, page, line=1):
    lexer = RawFencedCodeBlockLexer(re.compile(r"(?P<language>\w*)[ \t]*(?P<info>[^\n]*)\n"))
    for region in lexer(Document(text, str(page))):
        at = line + text.count("\n", 0, region.start)
        yield Block(page, at, region.lexemes["language"], region.lexemes["info"], region.lexemes["source"])


def for_this_airflow(source):
    """Replace `airflow.sdk` on Airflow 2.11 by the modules that Getting started names."""
    return source if VERSION >= (3, 0) else for_airflow_2(source)


def for_airflow_2(source):
    source = source.replace(
        "from airflow.sdk import DAG, task", "from airflow import DAG\nfrom airflow.decorators import task"
    )
    return re.sub(r"from airflow\.sdk import DAG\b", "from airflow import DAG", source)


BLOCKS = [block for page in PAGES for block in blocks_in(page.read_text(), page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
DAGS = [block for block in PYTHON if "with DAG(" in block.source and not block.info]


def of(language):
    return [block for block in BLOCKS if block.language == language]


@pytest.fixture
def surroundings(bzctrl_sandbox, tmp_path, monkeypatch):
    """Define what the pages assume: the connection, and the warehouse of the demo with one more table."""
    warehouse = tmp_path / "warehouse.db"
    fill_warehouse(warehouse)
    connection = sqlite3.connect(warehouse)
    with connection:
        connection.execute("CREATE TABLE d (amount, a, b)")
        connection.execute("INSERT INTO d VALUES (100, 100, 20)")
    connection.close()
    monkeypatch.setenv("AIRFLOW_CONN_DWH", json.dumps({"conn_type": "sqlite", "host": str(warehouse)}))
    # A block of a page sets this one.
    monkeypatch.setenv("AIRFLOW_CONN_MY_SANDBOX", "")
    return bzctrl_sandbox


def test_block_has_a_language_with_a_test():
    """Each language of the fenced blocks has a test below."""
    known = {"python", "bash", "ini", "json", "dockerfile", "text", "toml", "yaml"}
    assert {str(block): block.language for block in BLOCKS if block.language not in known} == {}


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}), ids=lambda page: page.name)
def test_python_of_a_page_runs(page, surroundings):
    """The blocks run from top to bottom in one namespace, as a reader would type them."""
    namespace = {"__name__": "docs"}
    for block in PYTHON:
        if block.page == page and block not in DAGS and not block.info:
            exec(block.code(), namespace)


def test_imports_of_a_dag_can_be_replaced_for_airflow_2():
    """On each Airflow: no import of `airflow.sdk` is written so that the replacement for Airflow 2.11 misses it."""
    assert [str(block) for block in DAGS if "from airflow.sdk" in for_airflow_2(block.source)] == []


@pytest.mark.parametrize("block", DAGS, ids=str)
def test_dag_of_a_page_creates_the_listed_todos(block, surroundings, dags_of_docs):
    """Airflow's own parser loads the DAG without an error, and one run of it creates the todos that are listed above."""
    file = dags_of_docs / f"{block.page.stem}_{block.line}.py"
    file.write_text(for_this_airflow(block.source))
    bag = DagBag(dag_folder=str(file))
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    run = dag.test()
    titles = [todo["title"] for todo in surroundings.todos]
    assert sorted(titles) == [title.format(run_id=run.run_id) for title in CREATED_BY[dag.dag_id]]


def test_first_code_of_readme_raises_the_incident_below_it(surroundings, dags_of_docs):
    """README shows the whole text of the incident, with other addresses and another run; the demo runs the same code."""
    (code, *_) = (block for block in PYTHON if block.page.name == "README.md")
    (text, *_) = (block for block in of("text") if block.page.name == "README.md")
    file = write_readme_dag(dags_of_docs)
    assert file.read_text() == code.source
    file.write_text(for_this_airflow(code.source))
    DagBag(dag_folder=str(file)).dags[README_DAG_ID].test()
    (todo,) = surroundings.todos
    shown = f"{todo['title']}\n\n{todo['description']}\n"
    assert without_the_run(shown) == without_the_run(text.source)


def without_the_run(text):
    """Replace what differs in each run and in each Airflow."""
    text = re.sub(r"^(Log of \S+|Airflow): \S+$", r"\1: …", text, flags=re.MULTILINE)
    return re.sub(r"^(Run|Logical date): \S+\n", "", text, flags=re.MULTILINE)


def test_tests_of_the_how_to_pass(tmp_path):
    """The files of "Test your DAGs" pass in an empty folder, each under the name that the page gives it."""
    page = ROOT / "docs" / "how-to" / "testing.md"
    files = {
        re.fullmatch(r'title="(.+)"', block.info)[1]: block.source for block in PYTHON if block.page == page
    }
    assert files.keys() == {"dags/totals.py", "conftest.py", "test_totals.py"}
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(for_this_airflow(source))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def read_docstrings(module):
    tree = ast.parse(Path(module.__file__).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield from blocks_in(text, Path(module.__file__), getattr(node, "lineno", 1))


REFERENCE = sorted(
    {
        getattr(named, "__module__", None) or named.__name__
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for named in map(
            pkgutil.resolve_name,
            re.findall(r"^\* `(bzctrl_provider\.[\w.]+)`", page.read_text(), re.MULTILINE),
        )
    }
)
"""The modules whose docstrings are on the pages of the reference."""


@pytest.mark.parametrize("name", REFERENCE)
def test_python_of_a_docstring_runs(name, surroundings):
    """The code runs in the namespace of its module, with Airflow's names and with `checks`, the tasks upstream of an operator."""
    module = importlib.import_module(name)
    for block in read_docstrings(module):
        if block.language != "python":
            continue
        with DAG("of_a_docstring", schedule=None):
            checks = BaseOperator(task_id="check")
            exec(block.code(), {**vars(module), "DAG": DAG, "task": task, "checks": checks})


def check_connection(text, monkeypatch):
    """Load a connection as the hook does, from the environment as JSON or as a URI; raise if it is invalid."""
    monkeypatch.setenv("AIRFLOW_CONN_OF_DOCS", text)
    BzCtrlHook("of_docs").get_conn()


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_of_a_page_is_valid_for_its_use(block, surroundings, monkeypatch):
    """A connection can be used, a silence applies, a response of the sandbox is the real one."""
    read = json.loads(block.source)
    if isinstance(read, list):
        silences, errors = parse_silences(block.source)
        assert silences
        assert errors == []
    elif "conn_type" in read:
        check_connection(block.source, monkeypatch)
    elif "faults" in read:
        hook = BzCtrlHook()
        client = hook.get_conn()
        client.check_credentials()
        todo = {
            "todoType": "INCIDENT",
            "domainWorkSpace": "W",
            "title": "T",
            "description": "D",
            "status": "TODO",
        }
        todo |= {"reporter": "a@example.com", "assignee": "a@example.com", "orderID": "O", "impact": "urgent"}
        token = requests.post(
            client.config.endpoints.token_url,
            data={"grant_type": "password", "username": "a", "password": "b"},
            timeout=10,
        ).json()["access_token"]
        answer = requests.post(
            client.config.endpoints.create_url,
            json=todo,
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert answer.status_code == 400
        assert answer.json()["faults"] == read["faults"]
    else:
        assert read, "an empty object proves nothing"
        for connection in read.values():
            check_connection(json.dumps(connection), monkeypatch)


def read_options(section):
    """Return the names of the options of a section of Airflow's configuration, with those of the provider."""
    ours = get_provider_info()["config"]
    options = (ours if section in ours else conf.configuration_description)[section]["options"]
    sensitive = [name for name, option in options.items() if option.get("sensitive")]
    return {*options, *(f"{name}_{source}" for name in sensitive for source in ("cmd", "secret"))}


def test_option_of_a_page_exists():
    """Each option has a name that Airflow reads, and a value that the policy accepts."""
    for block in of("ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(block.source)
        assert parser.sections(), block
        with pytest.MonkeyPatch.context() as patch:
            for section in parser.sections():
                assert set(parser[section]) <= set(read_options(section)), block
                for option, value in parser[section].items():
                    patch.setenv(f"AIRFLOW__{section.upper()}__{option.upper()}", value)
            settings.cache_clear()
            assert settings().errors == (), block
    settings.cache_clear()


def test_routes_of_a_page_are_valid():
    """A routes file of a page has no fault, and no field without an effect."""
    for block in of("toml"):
        assert find_dead_fields(parse_routes(block.source)) == [], block


TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_make(words, monkeypatch):
    for word in words[1:]:
        if "=" not in word:
            assert word in TARGETS


def check_airflow(words, monkeypatch):
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(words[1:])


def check_xargs(words, monkeypatch):
    """Check the command that it runs, with the argument it adds."""
    check_airflow([*words[words.index("airflow") :], "name"], monkeypatch)


def check_sandbox(words, monkeypatch):
    sandbox_parser().parse_args(words[1:])


def check_export(words, monkeypatch):
    name, _, value = words[1].partition("=")
    if name.startswith("AIRFLOW_CONN_"):
        check_connection(value, monkeypatch)
    else:
        section, option = re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name).groups()
        assert option.lower() in read_options(section.lower())


def check_pip(words, monkeypatch):
    assert words[1] == "install"
    for word in words[2:]:
        if extras := re.search(r"airflow-provider-bzctrl\[(\w+)\]", word):
            assert f"\n{extras[1]} = [" in (ROOT / "pyproject.toml").read_text()
        if word.startswith("constraints/"):
            assert (ROOT / word).is_file()


def check_curl(words, monkeypatch):
    """Check that the sandbox has each URL."""
    from bzctrl_provider.sandbox import Sandbox

    method = "POST" if "-d" in words else "GET"
    data = words[words.index("-d") + 1] if "-d" in words else None
    with Sandbox() as sandbox:
        address = next(word for word in words if word.startswith("http")).replace(
            "http://127.0.0.1:8137", sandbox.url
        )
        headers = {"Content-Type": "application/json"} if data else {}
        assert requests.request(method, address, data=data, headers=headers, timeout=10).ok


def check_bzctrl(words, monkeypatch):
    arguments = words[1 : words.index("|")] if "|" in words else words[1:]
    bzctrl_parser().parse_args(arguments)


CHECKS = {
    "make": check_make,
    "airflow": check_airflow,
    "bzctrl": check_bzctrl,
    "bzctrl-sandbox": check_sandbox,
    "export": check_export,
    "pip": check_pip,
    "curl": check_curl,
    "xargs": check_xargs,
}
NOT_OURS = {".venv/bin/pre-commit", "git", "rm", "cp", "grep", "jq", "psql", "docker", "kubectl"}


def read_commands(source):
    """Return the commands of a shell block, also those of several lines and those of a pipeline."""
    pending = ""
    for line in source.replace("\\\n", " ").splitlines():
        pending += line
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # the quotation marks continue on the next line
            pending += "\n"
            continue
        pending = ""
        while "|" in words:
            end = words.index("|")
            yield words[:end]
            words = words[end + 1 :]
        if words:
            yield words
    assert not pending


def test_command_of_a_page_exists(capsys, monkeypatch):
    """Targets of make, sub-commands and options of `airflow`, `bzctrl` and `bzctrl-sandbox`, connections and URLs exist."""
    for words in (words for block in of("bash") for words in read_commands(block.source)):
        if words[0] in NOT_OURS:
            continue
        try:
            CHECKS[words[0]](words, monkeypatch)
        except SystemExit:  # argparse rejects the arguments
            pytest.fail(f"{' '.join(words)}: {capsys.readouterr().err}")


def test_yaml_of_a_page_has_existing_options():
    """A block is valid YAML, and each variable of Airflow's configuration in it names an option."""
    for block in of("yaml"):
        assert yaml.safe_load(block.source), block
        names = re.findall(r"AIRFLOW__(\w+?)__(\w+)", block.source)
        assert names, block
        for section, option in names:
            assert option.lower() in read_options(section.lower()), block


def test_image_of_a_page_uses_existing_files():
    """Its Airflow has a constraints file, and `make build` creates a wheel of that name."""
    for block in of("dockerfile"):
        airflow = re.search(r"^FROM apache/airflow:([\d.]+)-python3\.11$", block.source, re.MULTILINE)[1]
        constraints = re.findall(r"airflow-([\d.]+)\.txt", block.source)
        assert set(constraints) == {airflow}
        assert (ROOT / "constraints" / f"airflow-{airflow}.txt").is_file()


def test_version_on_a_page_is_that_of_the_project():
    """Names of the wheel and output of `bzctrl verify` have it."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    named = {
        wheel or output
        for page in PAGES
        for wheel, output in re.findall(
            r"airflow_provider_bzctrl-(\S+?)-py3|provider (\d\S*), Airflow", page.read_text()
        )
    }
    assert named == {version}


def test_expected_dag_is_on_a_page():
    """Each DAG that these tests expect is in the documentation."""
    assert {re.search(r'DAG\("(\w+)"', block.source)[1] for block in DAGS} == CREATED_BY.keys()
