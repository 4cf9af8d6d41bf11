"""The README's generated tables; ``python -m tests.contract.tables`` writes them anew."""

import re
from pathlib import Path

from sendnn_pipeline.config.known import CHOICES, Runtime, read_options
from sendnn_pipeline.config.options import conf_dir
from sendnn_pipeline.config.usage import unused_by
from sendnn_pipeline.hooks.host import Host, open_host

ROOT = Path(__file__).parents[2]


def variables_table(host: Host) -> str:
    """Return the table of environment variables."""
    lines = ["| variable | key | registry default | what it does |", "|---|---|---|---|"]
    for row in host.rows.values():
        unused = unused_by(row.key, engine="pooling", task="embed", target="http")
        doc = row.doc + (f" *Lands on its key; {unused.split(',')[0]} not in this version.*" if unused else "")
        lines.append(f"| `{row.variable}` | `{row.key}` | {row.default or 'none'} | {doc} |")
    return "\n".join(lines)


def options_table() -> str:
    """Return the table of groups and options."""
    lines = ["| option | what it is |", "|---|---|"]
    for file in sorted(conf_dir().glob("*/*.yaml")):
        comment = re.match(r"# (?!@)(.*)", file.read_text())
        if file.parent.name != "env" and (file.parent.name != "known" or file.stem in CHOICES):
            lines.append(f"| `{file.parent.name}={file.stem}` | {comment[1] if comment else ''} |")
    return "\n".join(lines)


def known_table() -> str:
    """Return the table of known configurations."""
    lines = ["| `known=` | for | machines | ranks: length x sequences, or shapes |", "|---|---|---|---|"]
    files = {file.stem: file for file in sorted((conf_dir() / "known").glob("*.yaml"))}
    for known in read_options(files, str):
        comment = files[known.name].read_text().splitlines()[0].removeprefix("# ").removesuffix(".")
        runtimes = "; ".join(_runtime(runtime) for runtime in known.runtimes)
        lines.append(f"| `{known.name}` | {comment} | {', '.join(known.platforms)} | {runtimes} |")
    return "\n".join(lines)


def _runtime(runtime: Runtime) -> str:
    values = runtime.values
    if "warmup.shapes" in values:
        return f"{runtime.tp_size}: {', '.join(values['warmup.shapes'])}"
    blocks = f", {values['cache.num_blocks']} blocks" if "cache.num_blocks" in values else ""
    return f"{runtime.tp_size}: {values['model.max_model_len']} x {values['scheduler.max_num_seqs']}{blocks}"


def main() -> None:
    """Write the tables between their marks."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    tables = {"variables": variables_table(open_host({})), "options": options_table(), "known": known_table()}
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, b=begin, t=table, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    main()
