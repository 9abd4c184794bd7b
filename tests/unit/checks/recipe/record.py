"""Write the artifacts that the tests of ``checks_from_dbt`` and ``checks_from_gx`` read, with real runs of dbt and GX.

    python tests/unit/checks/recipe/record.py [VERSION ...]

For each version below it makes an environment in a temporary folder with ``pip install``, runs the dbt project of
``dags_examples/data/dbt_shop`` (with the models of ``more/`` beside this file) or ``validate.py``, and puts what the
tool wrote into ``tests/unit/checks/artifacts`` and, of the newest, into the examples' data. Nothing is edited: a
manifest is compressed, because most of it is dbt's own macros, and that is all.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ARTIFACTS = HERE.parent / "artifacts"
EXAMPLES_DATA = HERE.parents[3] / "dags_examples" / "data"
WORK = Path(tempfile.gettempdir()) / "shop"

DBT = {"1.5": "1.5", "1.6": "1.6", "1.7": "1.7", "1.11": "1.11"}
"""For each version of dbt-core that is recorded the version of dbt-duckdb that belongs to it."""
GX = ("1.0", "1.7", "1.24")
"""The versions of GX Core that are recorded: the first, the first with the Airflow provider, and the newest."""
NEWEST_DBT, NEWEST_GX = list(DBT)[-1], GX[-1]

NO_TRACKING = {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
    "GX_ANALYTICS_ENABLED": "False",
}


def environment(name: str, *requirements: str) -> Path:
    """Make an environment once, and return the folder of its commands."""
    folder = WORK / "environments" / name
    commands = folder / "bin"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([commands / "python", "-m", "pip", "install", "--quiet", *requirements], check=True)
        (folder / "ready").touch()
    return commands


def record_dbt(version: str, *, into: Path, more: bool, command: str = "build") -> None:
    """Run the project with one version of dbt, and keep what it wrote.

    :param into: the folder for the artifacts.
    :param more: whether the models of ``more/`` are part of the project.
    :param command: dbt's command; ``docs generate`` overwrites the run results of the build.
    """
    commands = environment(f"dbt-{version}", f"dbt-core=={version}.*", f"dbt-duckdb~={DBT[version]}.0")
    project = WORK / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(EXAMPLES_DATA / "dbt_shop", project, ignore=shutil.ignore_patterns("recorded"))
    if more:
        shutil.copytree(HERE / "more", project, dirs_exist_ok=True)
    database = project / "shop.duckdb"
    settings = os.environ | NO_TRACKING | {"SHOP_DATABASE": str(database)}
    for words in ("build", command) if command != "build" else ("build",):
        # dbt exits with 1 where a test failed, which is what is wanted here.
        subprocess.run(
            [commands / "dbt", *words.split(), "--profiles-dir", "."], cwd=project, env=settings, check=False
        )
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy(project / "target" / "run_results.json", into)
    if command != "build":
        return
    manifest = (project / "target" / "manifest.json").read_bytes()
    (into / "manifest.json.gz").write_bytes(gzip.compress(manifest, mtime=0))


def record_gx(version: str, *, into: Path) -> None:
    """Run ``validate.py`` with one version of GX Core, which writes each form of its results as a file.

    :param into: the folder for the files.
    """
    commands = environment(f"gx-{version}", f"great-expectations=={version}.*")
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [commands / "python", HERE / "validate.py", EXAMPLES_DATA, into],
        cwd=WORK,
        env=os.environ | NO_TRACKING,
        check=True,
    )


def main(chosen: list[str]) -> None:
    """Record the chosen versions, such as ``dbt-1.11`` and ``gx-1.24``; by default all."""
    for version in DBT:
        if not chosen or f"dbt-{version}" in chosen:
            record_dbt(version, into=ARTIFACTS / f"dbt-{version}", more=True)
    if not chosen or f"dbt-{NEWEST_DBT}" in chosen:
        record_dbt(NEWEST_DBT, into=ARTIFACTS / "dbt-docs-generate", more=True, command="docs generate")
        record_dbt(NEWEST_DBT, into=EXAMPLES_DATA / "dbt_shop" / "recorded", more=False)
    for version in GX:
        if not chosen or f"gx-{version}" in chosen:
            record_gx(version, into=ARTIFACTS / f"gx-{version}")
    if not chosen or f"gx-{NEWEST_GX}" in chosen:
        newest = ARTIFACTS / f"gx-{NEWEST_GX}" / "example.json"
        shutil.copy(newest, EXAMPLES_DATA / "gx_orders" / "recorded.json")


if __name__ == "__main__":
    main(sys.argv[1:])
