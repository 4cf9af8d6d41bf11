"""What users rely on by name: keys with types, variables, hooks, tools, routes. A new one is a new line in frozen/."""

from pathlib import Path

import pytest

from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.hooks.specs import SPECS
from sendnn_pipeline.server import docs, health, info, models, page, tokens
from sendnn_pipeline.tools import TOOLS
from tests.contract.tables import own_context, write_type

FOLDER = Path(__file__).parent / "frozen"


def keys(context):
    return [f"{key}: {write_type(kind)}" for key, kind in context.schemas.keys().items()]


def variables(context):
    return [f"{row.variable}: {row.key}" for row in context.rows.values()]


def hooks(_):
    specs = (
        (name, spec.__code__.co_varnames[1 : spec.__code__.co_argcount])
        for group in SPECS
        for name, spec in vars(group).items()
        if not name.startswith("_")
    )
    return [f"{name}({', '.join(arguments)})" for name, arguments in specs]


def tools(_):
    return list(TOOLS)


def routes(context):
    engines = context.plugins.registry("register_engines", "engine").entries
    every = [
        f"every engine: {sorted(route.methods - {'HEAD'})[0]} {route.path}"
        for module in (docs, health, info, models, page, tokens)
        for route in module.routes
    ]
    return every + [
        f"{engine}: POST {path}" for engine in engines for path in collect_endpoints(context.plugins, engine)
    ]


LISTS = {"keys": keys, "variables": variables, "hooks": hooks, "tools": tools, "routes": routes}


@pytest.mark.parametrize("name", LISTS)
def test_nothing_is_added_or_taken_away_by_accident(name):
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    assert lines == sorted(lines)
    found = set(LISTS[name](own_context()))
    assert found - set(lines) == set(), f"add a line to {name}.txt, if this is meant"
    assert set(lines) - found == set(), "users rely on these: rename with an alias, or retire with a word"
