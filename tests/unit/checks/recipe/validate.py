"""Validate the shop's data with GX Core, and write each form in which its results can be had; see ``record.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

EXAMPLES_DATA, INTO = map(Path, sys.argv[1:])
SEEDS = EXAMPLES_DATA / "dbt_shop" / "seeds"


def write(name: str, data: object) -> None:
    """Write a form of a result as it is."""
    (INTO / name).write_text(json.dumps(data, indent=2) + "\n")


context = gx.get_context(mode="ephemeral")
source = context.data_sources.add_pandas("shop")


def validation(name: str, expectations: list[gxe.Expectation | dict[str, object]]) -> gx.ValidationDefinition:
    """Define the validation of one file of the data."""
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    return context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))


def run(definition: gx.ValidationDefinition | gx.Checkpoint, file: str, **more: object) -> object:
    """Validate one file."""
    return definition.run(batch_parameters={"dataframe": pd.read_csv(SEEDS / file)}, **more)


customers = validation(
    "customers",
    [
        gxe.ExpectColumnValuesToNotBeNull(column="email", meta={"owner": "customer-data@example.com"}),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
    ],
)
orders = validation(
    "raw_orders",
    [
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=["open", "paid", "cancelled"]),
        gxe.ExpectColumnDistinctValuesToBeInSet(column="status", value_set=["open", "paid", "cancelled"]),
        gxe.ExpectColumnMaxToBeBetween(column="amount", max_value=100),
        gxe.ExpectTableColumnsToMatchSet(column_set=["id", "customer_id", "status", "amount", "currency"]),
        gxe.ExpectColumnValuesToNotBeNull(column="currency"),  # there is no such column: it raises
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
    ],
)
example = validation("orders", json.loads((EXAMPLES_DATA / "gx_orders" / "suite.json").read_text()))
passing = validation("passing", [gxe.ExpectColumnValuesToBeUnique(column="id")])

suite_result = run(orders, "raw_orders.csv")
write("suite.json", suite_result.to_json_dict())
write("example.json", run(example, "raw_orders.csv").to_json_dict())
write("suite_customers.json", run(customers, "customers.csv").to_json_dict())
write("suite_passed.json", run(passing, "raw_orders.csv").to_json_dict())

if not gx.__version__.startswith("1.0."):  # what it describes holds a pandas Series, which is no JSON
    write("suite_described.json", suite_result.describe_dict())
    for result_format in ("COMPLETE", "BOOLEAN_ONLY"):
        complete = run(orders, "raw_orders.csv", result_format=result_format)
        write(f"suite_{result_format.lower()}.json", complete.to_json_dict())
    for name, definitions in {"": [orders, passing], "_passed": [passing]}.items():
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(name=f"shop{name}", validation_definitions=definitions)
        )
        write(f"checkpoint{name}.json", run(checkpoint, "raw_orders.csv").describe_dict())
