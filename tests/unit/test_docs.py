from __future__ import annotations

import os
import pkgutil
import re
import tomllib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from site_hooks import FILES, HINT, on_page_markdown

from bzctrl_provider.client.todo import FIELDS, Todo
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.get_provider_info import get_provider_info
from bzctrl_provider.hooks.connection import EXTRAS
from bzctrl_provider.operators.bzctrl import CreateTodoOperator
from bzctrl_provider.sandbox.contract import ADD_TASK

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPERATORS = ROOT / "bzctrl_provider" / "operators" / "bzctrl.py"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

FENCED = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")


def prose(page):
    """Return the text of a page without its code, which may contain the characters of a link."""
    return re.sub(r"`[^`\n]+`", "code", FENCED.sub("", page.read_text()))


@cache
def anchors(page):
    """Return the anchors of the headings of a page, as GitHub generates them."""
    headings = re.findall(r"^#+ +(.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [
    (page, match["to"])
    for page in PAGES
    for match in LINK.finditer(prose(page))
    if not match["to"].startswith(("http://", "https://"))
]


def has_target(page, to):
    """Return whether a link leads to a file, and to a heading of it if it has an anchor."""
    file, _, anchor = to.partition("#")
    target = (page.parent / file).resolve() if file else page
    if DOCS in page.parents and page.name not in FILES and DOCS not in target.parents:
        return False
    return target.exists() and (not anchor or anchor in anchors(target))


def test_link_of_a_page_has_a_target():
    """The target is a file, and a heading of it if it has an anchor; pages of docs/ link only to docs/, as the site does."""
    assert LINKS
    assert [f"{page.relative_to(ROOT)}: {to}" for page, to in LINKS if not has_target(page, to)] == []


def test_included_page_has_no_relative_links():
    """CHANGELOG and CONTRIBUTING are also pages of the site, in another folder."""
    included = {ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"}
    assert [(page.name, to) for page, to in LINKS if page in included and not to.startswith("#")] == []


EXAMPLE = re.compile(
    r'^```python title="dags_examples/(?P<name>\w+\.py)"\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)


def test_example_is_on_one_page_as_the_tests_run_it():
    """The pages have the code itself, so that they read whole on a code host, and `EXAMPLES=write` updates it."""
    files = {file.name: file.read_text() for file in (ROOT / "dags_examples").glob("*.py")}
    if os.environ.get("EXAMPLES") == "write":
        for page in PAGES:
            page.write_text(
                EXAMPLE.sub(
                    lambda block: (
                        f'```python title="dags_examples/{block["name"]}"\n{files[block["name"]]}```'
                    ),
                    page.read_text(),
                )
            )
    found = [block for page in PAGES for block in EXAMPLE.finditer(page.read_text())]
    assert sorted(block["name"] for block in found) == sorted(files)
    assert {block["name"]: block["code"] for block in found} == files


def test_page_reads_whole_without_the_site():
    """A code host fills no directive, so that no page has one."""
    directives = re.compile(r"^\s*(?:-+8<-+|::: |\[TOC\]|\{%|\{\{)", re.MULTILINE)
    assert [str(page.relative_to(ROOT)) for page in PAGES if directives.search(prose(page))] == []
    included = re.compile(r"-+8<-+")
    assert [str(page.relative_to(ROOT)) for page in PAGES if included.search(page.read_text())] == []


def test_site_has_the_docstrings_and_the_files_of_the_repository():
    """In the site, each name of a reference page is a directive with its options, and two pages are files."""
    operators = DOCS / "reference" / "operators.md"
    made = on_page_markdown(operators.read_text(), page=site_page("reference/operators.md"))
    assert (
        "\n::: bzctrl_provider.operators.bzctrl.CreateTodosOperator\n    options:\n      members: false\n"
        in made
    )
    assert HINT in operators.read_text()
    assert HINT not in made
    for page, file in FILES.items():
        assert on_page_markdown("", page=site_page(page)) == (ROOT / file).read_text()


def site_page(address):
    return SimpleNamespace(file=SimpleNamespace(src_uri=address))


def test_item_of_the_reference_is_the_first_sentence_of_its_docstring():
    """The sentence on the page is that of the code."""
    for page in (DOCS / "reference").glob("*.md"):
        items = re.findall(r"^\* `([\w.]+)`: (.+?)\.(?: <!--.*)?$", page.read_text(), re.MULTILINE)
        assert items, page
        for name, sentence in items:
            docstring = " ".join(pkgutil.resolve_name(name).__doc__.replace("``", "`").split())
            assert docstring.lower().startswith(sentence.lower()), name


def first_column(page):
    """Return the names in the first column of a page's tables."""
    rows = re.findall(r"^\| ([^|]+) \|", page.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_options_of_a_deployment_are_those_of_the_page():
    """The page on the deployment has each option of the provider's section, and no other name."""
    assert first_column(DOCS / "how-to" / "deployment.md") == set(
        get_provider_info()["config"]["bzctrl"]["options"]
    )


def test_extras_of_the_connection_are_those_of_the_page():
    """The page on the connection has each extra, and no other name."""
    assert first_column(DOCS / "connection.md") == set(EXTRAS)


def test_fields_of_a_todo_are_on_both_pages():
    """The how-to has the name of each field, and the contract its values."""
    page = (DOCS / "how-to" / "create-todo.md").read_text()
    the_fields = page.partition("## The fields")[2].partition("##")[0]
    assert set(TODO_FIELDS) <= set(re.findall(r"`(\w+)`", the_fields))
    the_todo = (DOCS / "contract.md").read_text().partition("## The todo")[2].partition("\n## ")[0]
    assert set(TODO_FIELDS) <= set(re.findall(r"`(\w+)`", the_todo))


def test_targets_of_make_are_those_of_contributing():
    """CONTRIBUTING has each target, and no other one."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    named = set(re.findall(r"^\| `make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert named == targets


def recipe(title):
    """The text of one of the recipes in CONTRIBUTING."""
    return (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_modules_of_behaviours_exist():
    """The table that leads from a behaviour to its module names only modules."""
    names = re.findall(r"`((?:\w+\.)?\w+)`", recipe("Find a behaviour").partition("| ---")[2])
    modules = [ROOT / "bzctrl_provider" / f"{name.replace('.', '/')}.py" for name in names]
    assert len(modules) > 20
    assert [str(module) for module in modules if not module.exists()] == []


def test_recipe_for_a_field_names_every_file_of_a_field():
    """The name of an existing field is in the files that the recipe lists, and in no others."""
    package = ROOT / "bzctrl_provider"
    files = [*package.rglob("*.py"), *package.rglob("*.html"), *DOCS.rglob("*.md")]
    places = {
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r"\breminder_?date\b", EXAMPLE.sub("", file.read_text()), re.IGNORECASE)
    }
    named = set(re.findall(r"`((?:bzctrl_provider|docs)/[\w./-]+)`", recipe("Add a field")))
    assert named == places


def test_operator_is_in_the_files_of_the_recipe():
    """Each operator has its reference and its rows in the tables, and is in the changelog."""
    operators = set(re.findall(r"^class (\w+Operator)\(", OPERATORS.read_text(), re.MULTILINE))
    assert operators
    for place in ("README.md", "CHANGELOG.md", "docs/how-to/index.md", "docs/reference/operators.md"):
        assert operators <= set(re.findall(r"\w+Operator\b", (ROOT / place).read_text())), place
    for place in re.findall(r"`([\w./-]+/[\w./-]+)`", recipe("Add an operator")):
        assert (ROOT / place).exists(), place


def versions_in(text):
    return set(re.findall(r"\b[23]\.\d+\.\d+\b", text))


def test_airflow_version_is_in_the_files_of_the_recipe():
    """Constraints, cells, workflow and pages name the same versions."""
    versions = {file.stem.removeprefix("airflow-") for file in (ROOT / "constraints").glob("airflow-*.txt")}
    cells = (ROOT / "noxfile.py").read_text().partition("ALL_CELLS = [")[2].partition("]")[0]
    assert versions_in(cells) == versions
    workflow = (ROOT / ".github" / "workflows" / "matrix.yml").read_text()
    assert versions_in(re.search(r"airflow: (\[.*\])", workflow)[1]) == versions
    for page, about in (
        ("README.md", "`make matrix` runs"),
        ("docs/index.md", "| Airflow | Python |"),
        ("docs/getting-started.md", "is tested with on Airflow"),
    ):
        assert versions_in((ROOT / page).read_text().partition(about)[2].partition("\n#")[0]) == versions, (
            page
        )


def test_dependency_has_its_reason_on_the_page():
    """The page on the architecture names each dependency of the package and of its extras, and each group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (DOCS / "architecture.md").read_text().partition("## Why each dependency is there")[2]
    reasons = set(re.findall(r"`([\w-]+)`", page))
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in project["project"]["dependencies"]}
    for extra, requirements in project["project"]["optional-dependencies"].items():
        names |= {extra, *(re.match(r"[\w-]+", requirement)[0] for requirement in requirements)}
    assert names | set(project["dependency-groups"]) <= reasons


def test_dependency_of_the_package_is_imported():
    """Some module of the package imports each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {
        "apache-airflow": "airflow",
        "apache-airflow-providers-common-compat": "airflow.providers.common.compat",
        "pendulum": None,  # the dates that Airflow hands over
    }
    code = "".join(file.read_text() for file in (ROOT / "bzctrl_provider").rglob("*.py"))
    for requirement in project["dependencies"]:
        name = re.match(r"[\w-]+", requirement)[0]
        module = modules.get(name, name)
        assert module is None or re.search(rf"^\s*(from|import) {re.escape(module)}\b", code, re.MULTILINE), (
            name
        )


def test_workflow_runs_only_targets_of_make():
    """A person can run each command of a workflow; each target exists, and each action has a version."""
    makefile = (ROOT / "Makefile").read_text()
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [file.stem for file in workflows] == ["docs", "matrix", "release", "tests"]
    for file in workflows:
        text = file.read_text()
        for command in re.findall(r"^ *(?:- )?run: (.+)$", text, re.MULTILINE):
            make, *targets = command.split()
            assert make == "make"
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), command
        for action in re.findall(r"uses: (.+)$", text, re.MULTILINE):
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+\.\d+)?", action), action


def test_wire_keys_of_client_sandbox_and_contract_are_the_same():
    """Client and sandbox share no code; both are compared with the page on the contract."""
    the_todo = (DOCS / "contract.md").read_text().partition("## The todo")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|", the_todo, re.MULTILINE)
    documented = {}
    for fields, keys in rows:
        names = re.findall(r"`(\w+)`", fields)
        documented |= dict(
            zip(names, names if keys == "the same" else re.findall(r"`(\w+)`", keys), strict=True)
        )
    assert documented == {name: known.wire_key for name, known in FIELDS.items() if known.wire_key}
    assert set(documented.values()) == set(ADD_TASK)
    only = {key: field.only for key, field in ADD_TASK.items() if field.only}
    assert {known.wire_key: str(known.only_for) for known in FIELDS.values() if known.only_for} == only


def test_field_is_in_the_docstring():
    """Each field has its `:param:` in the docstring, from which the reference is built."""
    for described in (Todo, CreateTodoOperator):
        assert set(TODO_FIELDS) <= set(re.findall(r":param (\w+):", described.__doc__)), described
