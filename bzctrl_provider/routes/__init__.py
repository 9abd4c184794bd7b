"""Whose incident it is, and whether to raise one: the rules of a ``bzctrl_routes.toml``."""

from bzctrl_provider.routes.file import LoadedRoutes, RoutesFile
from bzctrl_provider.routes.parser import RoutesError, find_dead_fields, parse_routes
from bzctrl_provider.routes.route import POLICY_DEFAULTS, Route, RoutedField, RouteFacts, Routes, Routing

__all__ = [
    "POLICY_DEFAULTS",
    "LoadedRoutes",
    "Route",
    "RouteFacts",
    "RoutedField",
    "Routes",
    "RoutesError",
    "RoutesFile",
    "Routing",
    "find_dead_fields",
    "parse_routes",
]
