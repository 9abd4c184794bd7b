"""Draw the modules of the package and their imports as docs/images/architecture.svg.

The arrows are read from the code. ``PLACES`` has the positions of the modules, which are chosen by hand for readability.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent
PACKAGE = "bzctrl_provider"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

PLACES = {
    # The command line.
    "cli.provider": (0, -3.4),
    "cli.main": (0.6, -3.4),
    "cli.commands": (1.2, -3.4),
    "cli.spool": (0, -2.4),
    "cli.check": (0, -1.4),
    "cli.explain": (0.5, -1.4),
    "cli.ages": (1, -1.4),
    "cli.findings": (1, -2.4),
    "cli.variables": (0.5, -2.4),
    "pruning": (5, -0.45),
    "times": (12, -1.1),
    # For DAG files and deployments.
    "decorators.bzctrl": (0, 0.6),
    "policy": (0, 2.6),
    "plugin": (0, -0.4),
    "preload": (0.5, -0.4),
    # Broken DAG files.
    "import_errors.listener": (0.05, 3.8),
    "import_errors.reporter": (0.42, 3.8),
    "import_errors.delivery": (1.14, 3.8),
    "import_errors.incident": (0.78, 3.8),
    "import_errors.episodes": (3.1, 3.8),
    "import_errors.dag_files": (3.5, 3.8),
    "operators.bzctrl": (1, 0.6),
    "operators.todo_list": (1.5, -0.3),
    "notifications.bzctrl": (1, 2.6),
    # The number of todos, and the failure.
    "links.bzctrl": (2, 0.0),
    "spool": (2, 2.5),
    "spool.dag": (2.5, 3.6),
    "spool.runner": (3, 2.55),
    "spool.delivery": (4, 2.55),
    "spool.sender": (4, 3.6),
    "spool.schedule": (5, 5.5),
    "spool.marks": (6.5, 5.0),
    "spool.noted_reasons": (5.75, 4.9),
    "spool.ledger": (9, 5.5),
    "spool.storm": (9, 6.6),
    "spool.inspection": (9, 7.6),
    "spool.outbox": (10, 5.5),
    "spool.entry": (11, 5.3),
    "spool.folder": (11, 6.35),
    "spool.bucket": (11, 7.4),
    "spool.store": (12, 6.9),
    "fields": (8, -0.5),
    "settings": (12, 5.6),
    "field_checks": (3, 1.55),
    "notifications.callback_context": (1.5, 5.0),
    "notifications.dag_test": (2.7, 5.0),
    "notifications.outbox": (1.5, 3.55),
    "notifications.background": (2.1, 4.65),
    "notifications.direct": (1.5, 2.55),
    "dedup": (3, 0.65),
    "memory": (4, 0.6),
    "_airflow_internals": (3, -0.25),
    "lost": (1.5, 1.5),
    "failure_lookup": (4, 1.6),
    "failure": (4.6, -3.3),
    "consequences": (7, -3.1),
    "dag_graph": (9, -2.1),
    "reasons": (5.2, -3.1),
    "reason_text": (12, -2.1),
    "check_results": (12, -3.1),
    "version_compat": (6, 0.6),
    "notes": (12, 0.95),
    # The rules of a deployment.
    "routing": (1.5, -1.6),
    "silencing": (2, -3.1),
    "routes": (2, -1.6),
    "routes.explanation": (3, -2.1),
    "routes.file": (3, -1.15),
    "routes.parser": (4, -1.1),
    "routes.toml_lines": (5, -1.6),
    "routes.faults": (6, -1.1),
    "routes.route": (6, -2.1),
    "silences": (7, -2.1),
    "patterns": (8, -1.45),
    "recovery": (4, -2.5),
    "consecutive": (2.2, 1.0),
    "successes": (2.5, -0.55),
    "notifications.coverage": (1.6, -3.0),
    "metrics": (12.5, 7.6),
    # From Airflow to the client.
    "hooks.bzctrl": (5, 2.65),
    "config": (6, 2.45),
    "get_provider_info": (6, 3.8),
    # BzCtrl itself.
    "client.api": (7, 3.2),
    "client.bulk": (8, 4.3),
    "client.deadline": (8, 2.4),
    "client.requester": (8, 3.4),
    "client.response": (9, 2.9),
    "client.auth": (9, 4.2),
    "client.request": (10, 3.2),
    "client.todo": (11, 1.85),
    "client.redaction": (11, 2.9),
    "client.transport": (11, 4.2),
    "client.endpoints": (12, 1.85),
    "client.retry": (12, 3.0),
    "client.sockets": (12, 4.2),
    # The results of other tools.
    "checks": (8, 0.45),
    "checks.dbt": (9, -0.05),
    "checks.gx": (9, 0.95),
    "checks.todos": (10, -0.05),
    "checks.source": (10, 0.95),
    "exceptions": (13, 1.2),
    "text": (13, 0.1),
    "limits": (13, 2.3),
    # The sandbox.
    "sandbox.__main__": (0, 6.4),
    "sandbox.pytest_plugin": (0, 8.0),
    "sandbox.cli": (1, 6.4),
    "sandbox": (1, 7.5),
    "sandbox.server": (2, 6.8),
    "sandbox.app": (3, 6.4),
    "sandbox.fault_injector": (3, 7.5),
    "sandbox.http_server": (3, 8.55),
    "sandbox.control_api": (4, 6.4),
    "sandbox.page": (4, 7.35),
    "sandbox.connections": (4, 8.55),
    "sandbox.controls": (5, 6.4),
    "sandbox.recorder": (5, 7.65),
    "sandbox.request": (5, 8.6),
    "sandbox.faults": (6, 6.4),
    "sandbox.state": (6, 7.6),
    "sandbox.response": (6, 8.6),
    "sandbox.connection": (7, 6.6),
    "sandbox.contract": (7, 7.75),
}
"""The row and the column of each module."""

BOXES = {
    "routes: the rules of a file": (2, 6, -2.1, -1.1),
    "client: BzCtrl itself, without Airflow": (7, 12, 1.85, 4.2),
    "sandbox: a stand-in BzCtrl, without Airflow and without the client": (0, 7, 6.4, 8.6),
}
"""Frames around several modules, with their first and last row and column."""

ROW, COLUMN, WIDTH, HEIGHT, LEFT, TOP = 86, 150, 132, 30, 640, 70


@dataclass(frozen=True)
class Imports:
    """The imports of a module among the others, and whether it imports Airflow."""

    at_once: frozenset[str]
    when_needed: frozenset[str]
    airflow: bool

    @property
    def all(self) -> frozenset[str]:
        """Return the imports of both kinds."""
        return self.at_once | self.when_needed


def imports() -> dict[str, Imports]:
    """Read the imports from the code, without those for type checkers only and that of the version."""
    files = {
        ".".join(file.relative_to(ROOT / PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted((ROOT / PACKAGE).rglob("*.py"))
    }
    # A package that has only a docstring is not drawn.
    shown = {
        name: tree
        for name, file in files.items()
        if name != "__init__" and len((tree := ast.parse(file.read_text())).body) > 1
    }
    found = {}
    for name, tree in shown.items():
        pairs = list(_imported(tree, when_needed=False))
        ours = {
            kind: frozenset(
                _module(full, shown) for full, at in pairs if at is kind and full.startswith(f"{PACKAGE}.")
            )
            for kind in (False, True)
        }
        found[name] = Imports(
            at_once=ours[False] - {name},
            when_needed=ours[True] - ours[False] - {name},
            airflow=any(full.split(".")[0] == "airflow" for full, _ in pairs),
        )
    return found


def _imported(node: ast.AST, *, when_needed: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        ):
            continue
        if isinstance(child, ast.ImportFrom):
            yield from ((f"{child.module}.{alias.name}", when_needed) for alias in child.names)
        elif isinstance(child, ast.Import):
            yield from ((alias.name, when_needed) for alias in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imported(child, when_needed=when_needed or inside)


def _module(full: str, shown: Mapping[str, object]) -> str:
    """Return the module of an imported name: the name is a module, or is defined in one."""
    name = full.removeprefix(f"{PACKAGE}.")
    return name if name in shown else name.rpartition(".")[0]


def arrows(found: Mapping[str, Imports]) -> list[tuple[str, str]]:
    """Return the imports of each module, without those that follow from others."""

    def reached(name: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in found[name].all))

    return [
        (name, other)
        for name in sorted(found)
        for other in sorted(found[name].all)
        if not any(other in reached(between) for between in found[name].all - {other})
    ]


def _label(name: str) -> str:
    return (
        name.removesuffix(".bzctrl").removeprefix("client.").removeprefix("routes.").removeprefix("sandbox.")
    )


def _width(name: str) -> float:
    return max(WIDTH, 14 + 6.8 * len(_label(name)))


def _find_overlaps() -> list[str]:
    return [
        f"{name} and {other}"
        for (name, (row, column)), (other, (other_row, other_column)) in combinations(PLACES.items(), 2)
        if abs(row - other_row) * ROW < HEIGHT
        and abs(column - other_column) * COLUMN < (_width(name) + _width(other)) / 2
    ]


def picture() -> str:
    """Return the picture as SVG text.

    :raises ValueError: names the modules that have no place, the places that have no module, the arrows that go up, and the
        modules that overlap.
    """
    found = imports()
    if strangers := found.keys() ^ PLACES.keys():
        raise ValueError(
            f"PLACES in {Path(__file__).name} and the modules differ in: {', '.join(sorted(strangers))}"
        )
    drawn = arrows(found)
    if upwards := [f"{name} -> {other}" for name, other in drawn if PLACES[name][0] >= PLACES[other][0]]:
        raise ValueError(
            f"Every arrow has to point down; move these modules in PLACES of {Path(__file__).name}: {upwards}"
        )
    if crowded := _find_overlaps():
        raise ValueError(f"These modules overlap in PLACES of {Path(__file__).name}: {crowded}")
    middle = {name: (LEFT + column * COLUMN, TOP + row * ROW) for name, (row, column) in PLACES.items()}
    width = round(max(x for x, _ in middle.values())) + 100
    height = round(max(y for _, y in middle.values())) + 75
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        "<title>The modules of the package and what imports what</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">',
        '<path d="M0 0L8 4L0 8z" fill="#52606d"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for text, (first, last, start, end) in BOXES.items():
        left, top = LEFT + (start - 0.52) * COLUMN, TOP + first * ROW - 28
        below = (last - first) * ROW + 76
        parts.append(
            f'<rect x="{left:g}" y="{top}" width="{(end - start + 1.04) * COLUMN:g}" height="{below}" rx="10"'
            ' fill="#f5f7fa" stroke="#cbd2d9"/>'
            f'<text x="{LEFT + (end + 0.52) * COLUMN - 12:g}" y="{top + below - 10}" text-anchor="end" fill="#52606d" font-size="12">{escape(text)}</text>'
        )
    for name, other in drawn:
        (x1, y1), (x2, y2) = middle[name], middle[other]
        # Shift both ends towards each other, so that the arrows of one module fan out.
        lean = max(-0.35, min(0.35, (x2 - x1) / (3 * COLUMN))) * WIDTH
        (xa, ya), (xb, yb) = (x1 + lean, y1 + HEIGHT / 2), (x2 - lean, y2 - HEIGHT / 2 - 1)
        bend = (yb - ya) * 0.45
        dashes = ' stroke-dasharray="5 4"' if other in found[name].when_needed else ""
        parts.append(
            f'<path d="M{xa:g} {ya:g}C{xa:g} {ya + bend:g} {xb:g} {yb - bend:g} {xb:g} {yb:g}" fill="none" stroke="#52606d"'
            f' stroke-width="1.2" marker-end="url(#arrow)"{dashes}/>'
        )
    for name, (center_x, center_y) in middle.items():
        fill, stroke = ("#dbeafe", "#3b6fb6") if found[name].airflow else ("#ffffff", "#52606d")
        label, wide = _label(name), _width(name)
        parts.append(
            f'<rect x="{center_x - wide / 2:g}" y="{center_y - HEIGHT / 2:g}" width="{wide:g}" height="{HEIGHT}" rx="5" fill="{fill}"'
            f' stroke="{stroke}"/><text x="{center_x:g}" y="{center_y + 4.5:g}" text-anchor="middle" fill="#1f2933">{escape(label)}</text>'
        )
    parts.append(
        f'<text x="24" y="{height - 16}" fill="#52606d" font-size="12">blue: imports Airflow · solid: imported at once · '
        "dashed: imported when needed · an arrow that follows from others is left out</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}\n")
