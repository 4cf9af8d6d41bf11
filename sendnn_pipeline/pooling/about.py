"""What is shown of a pooling run: the plan's lines, and its part of ``/info``."""

import json
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import PlanLine
from sendnn_pipeline.pooling.config import Task, pooling_config
from sendnn_pipeline.pooling.facts import PoolingFacts
from sendnn_pipeline.pooling.modules import Module, with_normalize

# Of a prompt, in the plan.
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class AboutRun:
    """A run of which no ``auto`` is left."""

    config: RunConfig
    facts: PoolingFacts
    output_size: int
    """Numbers of each item."""

    @property
    def modules(self) -> tuple[Module, ...]:
        """What follows the pooling, as the files and the user have it."""
        engine, _ = pooling_config(self.config)
        return () if engine.task == Task.classify else with_normalize(self.facts.modules, bool(engine.normalize))

    @property
    def pooling(self) -> str:
        """How hidden states become vectors, in words."""
        engine, _ = pooling_config(self.config)
        without = [] if self.facts.include_prompt else ["without the prompt's tokens"]
        return ", ".join([f"{engine.pooling} pooling", *without, *map(str, self.modules)])

    def lines(self) -> tuple[PlanLine, ...]:
        """Return the lines of the plan, each with the file it comes from."""
        engine, _ = pooling_config(self.config)
        gives, files = self.pooling, ["pooling", "modules"]
        if engine.task == Task.classify:
            gives, files = f"{len(self.facts.labels)} labels, {self.facts.activation}", ["activation"]
        named = [self.facts.sources[name] for name in files if name in self.facts.sources]
        source = f"  ({', '.join(named)})" if named else ""
        lines = [
            PlanLine("engine", f"{engine.name}, {engine.task}: {gives}{source}"),
            PlanLine("inputs", f"up to {self.config.model.max_model_len} tokens", "model.max_model_len"),
        ]
        if self.facts.lower_case:
            lines.append(PlanLine("case", f"texts are read in lower case  ({self.facts.sources['lower_case']})"))
        prompts = {name: text for name, text in self.facts.prompts.items() if text}
        if prompts:
            named = [f"{name} {json.dumps(text[:SHOWN_CHARACTERS])}" for name, text in prompts.items()]
            default = f"{engine.prompt_name} before every text" if engine.prompt_name else "none unless asked for"
            lines.append(PlanLine("prompts", f"{default}; there are {', '.join(named)}", "engine.prompt_name"))
        return tuple(lines)

    def info(self) -> dict[str, Any]:
        """Return our own names, and those that text-embeddings-inference's clients look for."""
        engine, _ = pooling_config(self.config)
        facts = self.facts
        kind: dict[str, Any] = {"embedding": {"pooling": engine.pooling}}
        if engine.task == Task.classify:
            labels = {str(index): label for index, label in enumerate(facts.labels)}
            about = {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}
            kind = {"reranker" if len(labels) == 1 else "classifier": about}
        model = {
            "task": engine.task,
            "dimensions": self.output_size,
            "labels": list(facts.labels),
            "pooling": engine.pooling,
            "modules": [str(module) for module in self.modules],
            "normalize": engine.normalize,
            "include_prompt": facts.include_prompt,
            "lower_case": facts.lower_case,
            "prompts": dict(facts.prompts),
            "default_prompt": engine.prompt_name or None,
            "files": dict(facts.sources),
            "not_followed": list(facts.notices),
        }
        return {"model": model, "model_type": kind, "auto_truncate": engine.auto_truncate, "max_batch_requests": None}
