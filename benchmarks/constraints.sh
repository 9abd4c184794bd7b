#!/usr/bin/env bash
# Pin everything that the benchmarks are made with: the provider's own pins, and its peers beside them.
set -euo pipefail

cd "$(dirname "$0")/.."
airflow=3.3.2
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT

"${PYTHON:-python3.11}" -m venv "$venv"
"$venv/bin/pip" install --quiet -c "constraints/airflow-$airflow.txt" pip hatchling editables
"$venv/bin/pip" install --quiet -c "constraints/airflow-$airflow.txt" --no-build-isolation -e . \
    "apache-airflow==$airflow" --group benchmarks
{
    echo "# What the benchmarks are made with, on Airflow $airflow. Made by: benchmarks/constraints.sh"
    "$venv/bin/pip" freeze --all --exclude-editable --exclude setuptools
} >benchmarks/constraints.txt
