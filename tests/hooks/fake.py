"""Real distributions for tests: a module and its metadata in a folder on the path, as pip would leave them."""

from pathlib import Path

HEAD = "from pathlib import Path\nfrom sendnn_pipeline.hooks import hookimpl\nHERE = Path(__file__).parent\n"


def install(folder: Path, name: str, code: str, *, entry: str | None = None, distribution: str | None = None) -> None:
    """Write a plugin's module and dist-info into ``folder``; the module begins with ``HEAD``."""
    module = f"{(distribution or name).replace('-', '_')}_module"
    (folder / f"{module}.py").write_text(HEAD + code)
    info = folder / f"{(distribution or name).replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sendnn_pipeline]\n{name} = {entry or module}\n")


def implement(hook: str, body: str, *, options: str = "") -> str:
    """Return the code of an implementation: ``hook`` with its arguments, and what it does."""
    body = body.replace("\n", "\n    ")
    return f"@hookimpl{f'({options})' if options else ''}\ndef {hook}:\n    {body}\n"


def install_backend(site: Path, name: str, code: str, kind: str) -> dict[str, str]:
    """Install a compile backend with an option of its name and no keys of its own; return the environment for it.

    Args:
        site: a folder for packages.
        name: of backend, option and plugin.
        code: that has the class.
        kind: the class.
    """
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / f"{name}.yaml").write_text(f"defaults: [{name}_schema, _self_]\nname: {name}\n")
    code += implement("config_paths()", "return HERE / 'conf'")
    code += implement("register_schemas(store)", f"store('backend', '{name}', BackendConfig)")
    install(site, name, code + implement("register_compile_backends(register)", f"register('{name}', {kind})"))
    return {"PYTHONPATH": str(site)}
