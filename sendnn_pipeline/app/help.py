"""``--help``: every group with its options, every key with its default and what it is for."""

from collections.abc import Iterator

import yaml

from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.config.compose import quote
from sendnn_pipeline.config.draft import write_value

TEMPLATE_FILE = "quiet.yaml"


def help_override(context: AppContext) -> list[str]:
    """Return what makes Hydra's help ours."""
    tree = context.tree
    template: str = yaml.safe_load((tree.own / TEMPLATE_FILE).read_text(encoding="utf-8"))["help"]["template"]
    groups = [f"  {group}: {', '.join(sorted(options))}" for group, options in sorted(tree.groups.items()) if options]
    text = template.replace("$GROUPS", "\n".join(groups)).replace("$KEYS", "\n".join(_keys(context)))
    return [f"hydra.help.template={quote(text)}"]


def _keys(context: AppContext) -> Iterator[str]:
    defaults = context.schemas.defaults()
    for key, doc in sorted(context.schemas.docs().items()):
        yield f"  {key}={write_value(defaults[key])}"
        yield f"      {doc.replace('`', '')}"
