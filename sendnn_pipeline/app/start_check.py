"""Whether a run that is resolved could start: what it takes between its plan and its first weight."""

from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.engine_environment import engine_environment
from sendnn_pipeline.app.resolve import ResolvedRun
from sendnn_pipeline.app.target import create_target, describe_target
from sendnn_pipeline.config.schema import StageName
from sendnn_pipeline.config.secrets import read_api_keys
from sendnn_pipeline.engines.base import ChecksRanks
from sendnn_pipeline.engines.create import create_engine
from sendnn_pipeline.hooks.timeout import blame


def check_start(context: AppContext, resolved: ResolvedRun) -> str:
    """Refuse what a run would refuse between its plan and its first weight, and take nothing.

    Returns:
        What is not checked, in words; empty where all is.

    Raises:
        PipelineError: the run could not start.
    """
    engine_environment(resolved, context.environ)
    engine = create_engine(context.plugins, resolved.run.config.engine.name)
    if resolved.run.plan.ranks > 1 and isinstance(engine, ChecksRanks):
        engine.check_ranks(resolved.run)
    return check_described(context, resolved, busy=True)


def check_described(context: AppContext, resolved: ResolvedRun, *, busy: bool = False) -> str:
    """Refuse what a run would refuse of its own description, such as files that it is to read; as ``check_start``.

    Args:
        context: plugins and environment.
        resolved: the run.
        busy: whether what another process may have now counts, too, such as the address of a target that never ends.
    """
    run, draft = resolved.run, resolved.draft
    read_api_keys(context.environ, run.config.serve.api_key_file, draft.where("serve.api_key_file"))
    if StageName.serve not in run.config.pipeline.stages or run.config.parallel.node_rank:
        # Of several machines the first one serves.
        return ""
    name, where = run.config.serve.target, draft.where("serve.target")
    target = create_target(context.plugins, name, where=where)
    check = getattr(target, "check", None)
    if check is None or not (busy or target.ends):
        return f"what serve.target={name} opens"
    with blame(describe_target(context.plugins, name)):
        check(run, collect_endpoints(context.plugins, run.config.engine.name))
    return ""
