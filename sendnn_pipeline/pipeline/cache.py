"""The Programs of one run by one backend: from the artifact store where it has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sendnn_pipeline.backends.base import CompileBackend, CompiledProgram, Graph
from sendnn_pipeline.backends.contract import check_compiled, check_graph
from sendnn_pipeline.backends.guard import blaming
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ArtifactError, PipelineError
from sendnn_pipeline.machine.cpu import cpu_features
from sendnn_pipeline.models.checkpoint import weights_digest
from sendnn_pipeline.programs.key import ArtifactKey, ArtifactKeys, artifact_keys
from sendnn_pipeline.programs.store import ArtifactStore, Miss

Source = Literal["artifact", "compiled"]


@dataclass(frozen=True)
class ProgramCache:
    """Gets Programs from the store, else compiles them, which the store then keeps."""

    backend: CompileBackend
    keys: ArtifactKeys
    store: ArtifactStore | None
    """None without a store."""
    require: bool
    """Whether compiling is refused."""
    weights: Callable[[], str]
    """Gives the digest of the run's weights."""
    embedded: bool
    """Whether the key holds that digest already."""
    model: str = ""
    """What the model is called, for people who look into the store."""
    without_store: tuple[Source, str] = ("compiled", "")
    """Where Programs come from that no store has, and why they had to be compiled: what a library's own cache says."""

    def get_or_compile(self, graph: Graph) -> tuple[CompiledProgram, Source, str]:
        """Return the Program, where it came from, and why it had to be compiled.

        Raises:
            ArtifactError: nothing may be compiled, or the store cannot be written.
            BackendError: it does not compile.
        """
        if self.store is None:
            return self._compile(graph), *self.without_store
        key = self.keys.key(graph.name)
        opened = self._open(self.store, key, graph)
        if not isinstance(opened, Miss):
            return opened, "artifact", ""
        reason = opened.reason
        if self.require:
            raise ArtifactError(
                f"{graph.name} has no artifact and artifacts.require=true: {reason}", hint=opened.advice
            )
        with self.store.compiling(key):
            # Another process may have published it while this one waited.
            opened = self._open(self.store, key, graph)
            if not isinstance(opened, Miss):
                return opened, "artifact", ""
            compiled = self._compile(graph)
            only_for = self.weights() if compiled.holds_parameters and not self.embedded else ""
            self.store.publish(key, compiled.save, only_for, self.model)
        return compiled, "compiled", reason

    def why_missing(self, program: str) -> str:
        """Return why the store has no artifact of this Program, empty where it has one, which is not verified."""
        return self.store.why_missing(self.keys.key(program)) if self.store else ""

    def why_unusable(self, program: str) -> str:
        """Return why no artifact of this Program can be used, every file verified; empty where one can."""
        found = self.store.find(self.keys.key(program), self.weights) if self.store else None
        return found.reason if isinstance(found, Miss) else ""

    def _compile(self, graph: Graph) -> CompiledProgram:
        check_graph(graph, self.backend)
        return check_compiled(self.backend.compile(graph), graph, self.backend.name)

    def _open(self, store: ArtifactStore, key: ArtifactKey, graph: Graph) -> CompiledProgram | Miss:
        """Return the Program of an artifact, or why none opens."""
        found = store.find(key, self.weights)
        if isinstance(found, Miss):
            return found
        try:
            with blaming(f"backend={self.backend.name}", "open it"):
                return check_compiled(self.backend.open(found.folder, graph), graph, self.backend.name)
        except PipelineError as error:
            # Compiled again, and replaced: else it would end every start.
            return Miss(error.message, error.hint or "set artifacts.dir to a folder whose files can be opened")


def program_cache(
    run: Run,
    backend: CompileBackend,
    store: ArtifactStore,
    world: World,
    without_store: tuple[Source, str] = ("compiled", ""),
) -> ProgramCache:
    """Return the cache of a run's Programs that ``backend`` compiles."""
    config, model = run.config, run.model
    embedded = config.model.dtype in backend.limits.embeds_weights

    def weights() -> str:
        whole = weights_digest(model.weight_files, run.cache_dir)
        return whole if world.size == 1 else f"{whole} rank {world}"

    # Code without weights is one for all ranks, which divide a model evenly.
    rank = str(world) if world.size == 1 or embedded else f"any of {world.size}"
    keys = artifact_keys(
        weights() if embedded else model.structure_digest,
        (("dtype", config.model.dtype), *run.plan.key_fields),
        backend.name,
        {**backend.fingerprint(), "weights": "embedded" if embedded else "shared"},
        (("device", config.device), ("cpu", cpu_features()), ("rank", rank)),
    )
    keeps = config.artifacts.enabled and backend.limits.artifacts == "files"
    used_store = store if keeps else None
    require = config.artifacts.require
    return ProgramCache(backend, keys, used_store, require, weights, embedded, run.served_name, without_store)
