#!/usr/bin/env bash
# Pin everything that a fresh install of this project with one Airflow version gets: constraints/airflow-VERSION.txt.
set -euo pipefail

airflow=$1
cd "$(dirname "$0")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT

# With newer releases of these packages, a fresh install of that version cannot run tasks. pandas 2 is there to test its values,
# too; the other versions have pandas 3.
case $airflow in
    2.11.*) held='pandas<3' ;;
    3.0.*) held='fastapi<0.118 pyjwt<2.11 universal-pathlib<0.3' ;;
    3.2.*) held='fastapi<0.137 svcs<26' ;;
    *) held='' ;;
esac

# Only the tests with real services need these groups, see noxfile.py.
case $airflow in
    2.11.*) system='--group browser' ;;
    3.3.*) system='--group browser --group cluster' ;;
    *) system='' ;;
esac

"${PYTHON:-python3.11}" -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip hatchling editables
# shellcheck disable=SC2086 # one word for each package and option
"$venv/bin/pip" install --quiet --no-build-isolation -e . "apache-airflow==$airflow" $held \
    --group examples --group test --group lint --group release --group audit --group matrix --group docs $system
{
    echo "# What airflow-provider-bzctrl is tested with on Airflow $airflow. Made by: make constraints AIRFLOW=$airflow"
    "$venv/bin/pip" freeze --all --exclude-editable --exclude setuptools
} >"constraints/airflow-$airflow.txt"
