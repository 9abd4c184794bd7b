"""The wheel and the source archive, as they are published."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import readme_renderer.markdown
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bzctrl_provider"
NAME = "airflow_provider_bzctrl"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]

OF_THE_WHEEL = ("*.py", "py.typed", "sandbox/templates/*.html", "sandbox/static/*.*")

AT_THE_TOP_OF_THE_SDIST = {
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "bzctrl_provider",
    "constraints",
    "dags_examples",
    "docs",
    "mkdocs.yml",
    "noxfile.py",
    "pyproject.toml",
    "scripts",
    "tests",
}


def build(source, to, *, epoch=None):
    """Build the source archive, and the wheel from that, as `make build` does."""
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    if epoch:
        environment["SOURCE_DATE_EPOCH"] = epoch
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(to), str(source)],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return to / f"{NAME}-{VERSION}-py3-none-any.whl", to / f"{NAME}-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def archives():
    """Return what is published: the wheel and the source archive in dist/, which `make build` has built."""
    found = [ROOT / "dist" / f"{NAME}-{VERSION}{suffix}" for suffix in ("-py3-none-any.whl", ".tar.gz")]
    assert sorted((ROOT / "dist").iterdir()) == found
    return found


@pytest.fixture(scope="module")
def wheel(archives):
    return archives[0]


@pytest.fixture(scope="module")
def unpacked(archives, tmp_path_factory):
    """Return the source archive's content."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(archives[1]) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"{NAME}-{VERSION}"


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{NAME}-{VERSION}.dist-info/METADATA"))


# --- reproducible ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [None, "1700000000"])
def test_archives_built_twice_have_the_same_bytes(tmp_path, unpacked, epoch):
    """Times, permissions and the folder of the source change nothing, with and without SOURCE_DATE_EPOCH."""
    elsewhere = tmp_path / "a copy"
    shutil.copytree(unpacked, elsewhere)
    for path in elsewhere.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1, 1))
    first = build(unpacked, tmp_path / "first", epoch=epoch)
    second = build(elsewhere, tmp_path / "second", epoch=epoch)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_source_archive_builds_the_same_archives(tmp_path, archives, unpacked):
    """A build from the published source has the bytes of the published archives."""
    again = build(unpacked, tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in archives]


# --- contents --------------------------------------------------------------------------------------------------------


def test_wheel_has_only_the_package(wheel):
    """The wheel has modules, `py.typed`, the sandbox's pages and the metadata with the licence; no tests and no caches."""
    ours = {path.relative_to(ROOT).as_posix() for pattern in OF_THE_WHEEL for path in PACKAGE.rglob(pattern)}
    info = f"{NAME}-{VERSION}.dist-info"
    theirs = {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert len(names) == len(set(names))
    assert set(names) == ours | theirs
    assert {f"bzctrl_provider/{name}" for name in ("py.typed", "sandbox/static/sandbox.css")} < set(names)
    assert not any(re.search(r"__pycache__|\.pyc$|(^|/)(tests?|conftest)\b", name) for name in names)


def test_source_archive_has_no_generated_files(unpacked):
    """It has tests, documents and pins, but no caches, environments and builds."""
    assert {path.name for path in unpacked.iterdir()} == AT_THE_TOP_OF_THE_SDIST
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert not any(re.search(r"__pycache__|\.py[co]$|\.egg-info|\.(db|log|sqlite)$", name) for name in files)
    for folder in ("bzctrl_provider", "dags_examples", "tests", "scripts", "constraints"):
        written = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert written <= files


def test_tests_of_the_source_archive_run(unpacked):
    """All tests are collected, and those that start no process pass with the archive's own package."""
    for arguments in (["--collect-only"], ["tests/unit/client", "tests/unit/test_security_page.py"]):
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=unpacked,
            # Before the installed package, with which these tests run.
            env={**os.environ, "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


# --- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_is_complete(metadata, wheel):
    """It has name, version, licence with its text, Python versions, the framework and the classifier for types."""
    said = {name: metadata[name] for name in ("Name", "Version", "License-Expression", "Requires-Python")}
    assert said == {
        "Name": "airflow-provider-bzctrl",
        "Version": VERSION,
        "License-Expression": "Apache-2.0",
        "Requires-Python": ">=3.11",
    }
    assert metadata["Summary"]
    assert metadata["Keywords"]
    classifiers = set(metadata.get_all("Classifier"))
    assert {
        "Framework :: Apache Airflow :: Provider",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    } < classifiers
    # PEP 639: the licence expression replaces the classifier; PyPI rejects both together.
    assert not any(classifier.startswith("License") for classifier in classifiers)
    assert metadata.get_all("License-File") == ["LICENSE"]
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(f"{NAME}-{VERSION}.dist-info/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in licence


def test_version_is_in_the_changelog(metadata):
    """The newest section with a date is that of the version; changes after it are under Unreleased."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == metadata["Version"]
    assert sections[1][1]


def test_metadata_requires_airflow_and_an_http_client(metadata):
    """The package depends on nothing more, and its extra is an empty name that can still be installed."""
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    assert {requirement.name for requirement in requirements if requirement.marker is None} == {
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "pendulum",
        "pydantic",
        "requests",
        "sqlalchemy",
        "urllib3",
    }
    assert [requirement for requirement in requirements if requirement.marker] == []
    assert metadata.get_all("Provides-Extra") == ["sandbox"]


def test_entry_points_are_those_of_the_documentation(wheel):
    """Airflow finds the provider, the policy and the link, pytest the fixture, and the shell both commands."""
    parser = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(f"{NAME}-{VERSION}.dist-info/entry_points.txt").decode())
    assert {group: dict(parser[group]) for group in parser.sections()} == {
        "apache_airflow_provider": {"provider_info": "bzctrl_provider.get_provider_info:get_provider_info"},
        "airflow.plugins": {"bzctrl": "bzctrl_provider.plugin:BzCtrlPlugin"},
        "airflow.policy": {"bzctrl": "bzctrl_provider.policy"},
        "pytest11": {"bzctrl_sandbox": "bzctrl_provider.sandbox.pytest_plugin"},
        "console_scripts": {
            "bzctrl": "bzctrl_provider.cli.main:main",
            "bzctrl-sandbox": "bzctrl_provider.sandbox.__main__:main",
        },
    }


def test_archives_pass_twine_check(archives):
    """`twine check --strict` reports no error and no warning."""
    result = subprocess.run(
        [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, archives)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("PASSED") == len(archives)
    assert "warning" not in result.stdout.lower()


def test_readme_is_rendered_by_pypi(metadata):
    """PyPI's own renderer makes a page of the README, with its tables and its code."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = readme_renderer.markdown.render(metadata.get_payload(decode=True).decode())
    assert page
    assert re.search(r"<h1[^>]*>airflow-provider-bzctrl<", page)
    assert "<table>" in page
    assert "IncidentOnFailureOperator" in page
