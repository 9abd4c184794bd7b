"""Whose incident it is, and whether to raise one: the rules of a ``bzctrl_routes.toml``."""

from bzctrl_provider.routes.explanation import Explanation, explain
from bzctrl_provider.routes.file import LoadedRoutes, RoutesFile
from bzctrl_provider.routes.parser import RoutesError, find_dead_fields, parse_routes
from bzctrl_provider.routes.route import POLICY_DEFAULTS, Route, RoutedField, RouteFacts, Routes, Routing

__all__ = [
    "POLICY_DEFAULTS",
    "Explanation",
    "LoadedRoutes",
    "Route",
    "RouteFacts",
    "RoutedField",
    "Routes",
    "RoutesError",
    "RoutesFile",
    "Routing",
    "explain",
    "find_dead_fields",
    "parse_routes",
]
