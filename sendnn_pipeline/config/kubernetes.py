"""Variables that Kubernetes sets in every container for each Service of its namespace, whatever they may look like."""

import re
from collections.abc import Mapping

OURS = ("SENDNN_PIPELINE", "SENDNN_INFERENCE", "VLLM_SPYRE")
HOST = "_SERVICE_HOST"
# What follows a Service's name, whose host is always among them.
REST = r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"


def without_services(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the environment without the variables of Services whose names begin as ours do, and a line for them."""
    names = [name.removesuffix(HOST) for name in environ if name.startswith(OURS) and name.endswith(HOST)]
    pattern = re.compile(rf"({'|'.join(map(re.escape, names))})_{REST}")
    injected = [variable for variable in environ if names and pattern.fullmatch(variable)]
    if not injected:
        return dict(environ), []
    services = ", ".join(sorted(name.lower().replace("_", "-") for name in names))
    line = (
        f"{len(injected)} variables that Kubernetes sets for the Service {services} are ignored; "
        "enableServiceLinks: false in the pod keeps them out"
    )
    return {name: text for name, text in environ.items() if name not in injected}, [line]
