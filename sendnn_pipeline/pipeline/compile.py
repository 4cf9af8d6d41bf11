"""Compile: every Program of the plan, from its artifact where there is one."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from sendnn_pipeline.backends.base import CompileBackend, Graph, type_function
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.errors import ArtifactError
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.pipeline.load import LoadedModel
from sendnn_pipeline.pipeline.stage import type_observe
from sendnn_pipeline.programs.key import KeyMaker, key_maker
from sendnn_pipeline.programs.program import PoolProgram, plan_pooling
from sendnn_pipeline.programs.store import Artifact, ArtifactStore

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.pooling.runner import PoolingRunner

type_source = Literal["artifact", "compiled"]


@dataclass(frozen=True)
class CompiledModel:
    """A run and its compiled Programs."""

    run: Run
    runner: "PoolingRunner"
    compiled: int
    """How many Programs had no artifact."""


@dataclass(frozen=True)
class Maker:
    """Gets compiled graphs of one backend: from the store, else by compiling, which the store then keeps."""

    backend: CompileBackend
    run: Run
    keys: KeyMaker
    store: ArtifactStore | None

    def make(
        self, name: str, graph: Callable[[], Graph], weights: "Mapping[str, torch.Tensor]"
    ) -> tuple[type_function, type_source, str]:
        """Return the function, where it came from, and why it had to be compiled.

        Raises:
            ArtifactError: nothing may be compiled, or the store cannot be written.
            BackendError: it does not compile.
        """
        if self.store is None:
            return self._compile(graph()), "compiled", ""
        key = self.keys.key(name)
        found = self.store.find(key)
        if isinstance(found, Artifact):
            return self.backend.load(found.folder, weights, self.run), "artifact", ""
        if self.run.config.artifacts.require:
            raise ArtifactError(
                f"{name} has no artifact and artifacts.require=true: {found.reason}",
                hint="compile it first with pipeline=precompile",
            )
        with self.store.compiling(key):
            # Another process may have published it while this one waited.
            late = self.store.find(key)
            if isinstance(late, Artifact):
                return self.backend.load(late.folder, weights, self.run), "artifact", ""
            compiled = self._compile(graph())
            self.store.publish(key, lambda folder: self.backend.save(compiled, folder))
        return compiled, "compiled", found.reason

    def _compile(self, graph: Graph) -> type_function:
        import torch

        with torch.no_grad():
            return self.backend.compile(graph, self.run)


class Compile:
    """``LoadedModel`` to ``CompiledModel``."""

    name = "compile"

    def __init__(
        self, backend: CompileBackend, simple: CompileBackend, store: ArtifactStore, observe: type_observe
    ) -> None:
        self.backend, self.simple, self.store, self.observe = backend, simple, store, observe

    def run(self, given: LoadedModel) -> CompiledModel:
        """Get one Program after the other, then the helper graph."""
        from sendnn_pipeline.pooling.graphs import finite_graph, pool_graph
        from sendnn_pipeline.pooling.runner import PoolingRunner

        run, engine = given.run, given.run.config.engine
        programs = plan_pooling(run.shapes).programs
        most_rows = max(program.batch_size for program in programs)
        helper = finite_graph(run.dimensions, most_rows)
        maker, helpers = self._maker(self.backend, run), self._maker(self.simple, run, of_model=False)

        def graph_of(program: PoolProgram) -> Graph:
            from sendnn_pipeline.pooling.function import ClassifyFunction, PoolFunction

            module = given.module()
            function = (
                ClassifyFunction(module)
                if run.classifies
                else PoolFunction(module, engine.pooling, bool(engine.normalize))
            )
            return pool_graph(program, function, given.weights, run.model.pad_token_id, token_types=run.token_types)

        jobs: list[tuple[str, Maker, Callable[[], Graph]]] = []
        jobs += [(program.name, maker, partial(graph_of, program)) for program in programs]
        jobs.append((helper.name, helpers, lambda: helper))
        made: list[type_function] = []
        num_compiled = 0
        for place, (name, by, graph) in enumerate(jobs, start=1):
            self.observe(StageEvent(self.name, "started", name, place, len(jobs)))
            started = time.monotonic()
            function, source, reason = by.make(name, graph, given.weights)
            seconds = time.monotonic() - started
            num_compiled += source == "compiled"
            made.append(function)
            self.observe(StageEvent(self.name, "finished", name, place, len(jobs), seconds, reason, source))
        self._prune(run, [by.keys.key(name).digest for name, by, _ in jobs])
        compiled = dict(zip(programs, made, strict=False))
        runner = PoolingRunner(compiled, made[-1], run.model.pad_token_id, run.token_types)
        return CompiledModel(run, runner, num_compiled)

    def _maker(self, backend: CompileBackend, run: Run, of_model: bool = True) -> Maker:
        embeds, made_by = backend.embeds_weights(run), backend.fingerprint(run)
        keys = key_maker(run, backend.name, made_by, embeds_weights=embeds, of_model=of_model)
        kept = run.config.artifacts.enabled and backend.portable(run)
        return Maker(backend, run, keys, self.store if kept else None)

    def _prune(self, run: Run, keep: list[str]) -> None:
        if run.config.artifacts.enabled and not run.config.artifacts.require:
            self.store.prune(run.config.artifacts.max_bytes, frozenset(keep))
