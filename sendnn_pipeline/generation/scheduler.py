"""The scheduler of text generation: what the next step computes, and what follows from its tokens. No tensors."""

from collections.abc import Collection, Mapping, Sequence

from sendnn_pipeline.generation.blocks import BlockPool
from sendnn_pipeline.generation.content import NO_MARKS, extend, root
from sendnn_pipeline.generation.counts import Counts
from sendnn_pipeline.generation.decode import next_decode
from sendnn_pipeline.generation.prefill import next_prefill
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Finish, Request, Stage
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules
from sendnn_pipeline.generation.state import State
from sendnn_pipeline.generation.steps import DecodeStep, PrefillStep, Step


class Scheduler:
    """Decides on one step at a time, and accounts for it. Not thread-safe; messages may come while a step computes.

    An admitted request has all blocks reserved that it may come to need, so it never waits for one. As long as a
    request is ready, there is a next step.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.requests: dict[int, Request] = {}
        """Unfinished ones, by id."""
        self.state = State(rules, BlockPool(rules.num_blocks))
        self._step: Step | None = None
        self._requests: list[Request] = []

    @property
    def counts(self) -> Counts:
        """What has been counted so far."""
        return self.state.counts

    @property
    def is_idle(self) -> bool:
        """Whether no request is left."""
        return not self.requests

    def add(
        self,
        request_id: int,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        salt: bytes = b"",
        marks: Mapping[int, int] = NO_MARKS,
        is_ready: bool = True,
    ) -> Request:
        """Queue a request; ``rules.why_never`` must have nothing against it.

        Args:
            request_id: of no unfinished request.
            prompt: token ids.
            max_tokens: most tokens to generate.
            salt: sets its prefix apart from equal tokens of another salt.
            marks: what stands for tokens of the prompt, by position, where equal ids are not equal: rows of images.
            is_ready: False to hold it back until ``set_ready``; others go before it.
        """
        assert request_id not in self.requests, f"request {request_id} is queued already"
        refused = self.rules.why_never(len(prompt), max_tokens)
        assert not refused, refused
        chain = [root(salt)]
        if self.rules.prefix_caching:
            extend(chain, prompt, marks)
        request = Request(
            request_id=request_id,
            token_ids=list(prompt),
            num_prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            chain=chain,
            marks=marks,
            is_ready=is_ready,
        )
        self.requests[request_id] = self.state.waiting[request_id] = request
        return request

    def set_ready(self, request_id: int) -> None:
        """Let a request be admitted that was added as not ready; one that is gone is no error."""
        if request_id in self.requests:
            self.requests[request_id].is_ready = True

    def cancel(self, request_id: int) -> Request | None:
        """End a request in whatever stage it is, and free its blocks; None where there is none of that id."""
        return self._end(request_id, Finish.CANCELLED)

    def stop(self, request_id: int) -> Request | None:
        """End a request whose answer was found to be complete between steps; None where there is none of that id."""
        return self._end(request_id, Finish.STOP)

    def discard(self, request_id: int) -> list[int]:
        """Cancel a request whose keys and values are wrong; return the blocks that nobody may read before a write."""
        request = self.requests.get(request_id)
        own = [] if request is None else self.state.pool.forget(request.blocks)
        self.cancel(request_id)
        return own

    def why(self, request_id: int) -> Refusal | None:
        """Return why an unfinished request did not run in the last step; None where it did, or is not known."""
        request = self.requests.get(request_id)
        if request is None or request.refusal is not None or request.stage is not Stage.WAITING:
            return request.refusal if request is not None else None
        return Refusal.ORDER if request.is_ready else Refusal.NOT_READY

    def next_step(self) -> Step | None:
        """Decide what to compute now; None where there is nothing. ``finish_step`` must have ended the last step."""
        assert self._step is None, "the last step has not ended"
        state = self.state
        step: Step | None = next_prefill(state) or next_decode(state)
        state.last_was_prefill = isinstance(step, PrefillStep)
        state.tkv = 0 if step is None else step.tkv
        if step is not None:
            self._step = step
            self._requests = [self.requests[request_id] for request_id in step.request_ids]
        return step

    def finish_step(self, step: Step, tokens: Sequence[int], stopped: Collection[int] = ()) -> list[Request]:
        """Account for a computed step.

        Args:
            step: that ``next_step`` returned last.
            tokens: one for each of ``step.sampled``; those of requests that were cancelled meanwhile are ignored.
            stopped: ids of requests for which this token is the last, whatever they asked for.

        Returns:
            The requests that got a token, in order; those that have ended with it have a ``finish``.
        """
        requests = self._close(step)
        if isinstance(step, PrefillStep):
            return self._finish_prefill(step, requests, tokens, stopped)
        return self._finish_decode(step, requests, tokens, stopped)

    def drop_step(self, step: Step) -> list[Request]:
        """Cancel all requests of a step that could not be computed, and return them."""
        requests = [request for request in self._close(step) if request.finish is None]
        for request in requests:
            self._end(request.request_id, Finish.CANCELLED)
        return requests

    def _close(self, step: Step) -> list[Request]:
        assert step is self._step, "another step is under way"
        requests, self._step, self._requests = self._requests, None, []
        return requests

    def _finish_prefill(
        self, step: PrefillStep, requests: Sequence[Request], tokens: Sequence[int], stopped: Collection[int]
    ) -> list[Request]:
        sampled = dict(zip(step.sampled, tokens, strict=True))
        got = []
        for chunk, request in zip(step.chunks, requests, strict=True):
            if request.finish is not None:
                continue
            self._computed(request, chunk.end)
            if chunk.is_last:
                self.state.move(request, Stage.DECODING)
                self.state.decoding.move_to_end(request.request_id, last=False)
                self._append(request, sampled[request.request_id], stopped)
                got.append(request)
        return got

    def _finish_decode(
        self, step: DecodeStep, requests: Sequence[Request], tokens: Sequence[int], stopped: Collection[int]
    ) -> list[Request]:
        got = []
        for token, request in zip(tokens, requests, strict=True):
            if request.finish is None:
                self._computed(request, request.computed_tokens + 1)
                self._append(request, token, stopped)
                got.append(request)
        return got

    def _computed(self, request: Request, num_tokens: int) -> None:
        """Note that keys and values of the first ``num_tokens`` are there, and let full blocks be found."""
        first, end = request.computed_tokens // BLOCK_SIZE, num_tokens // BLOCK_SIZE
        request.computed_tokens = num_tokens
        if first == end or not self.rules.prefix_caching:
            return
        extend(request.chain, request.token_ids, request.marks)
        for index in range(max(first, request.num_shared_blocks), end):
            self.state.pool.enter(request.blocks[index], request.chain[index + 1])

    def _append(self, request: Request, token: int, stopped: Collection[int]) -> None:
        request.token_ids.append(token)
        if request.request_id in stopped:
            self._end(request.request_id, Finish.STOP)
        elif request.num_generated >= request.max_tokens:
            self._end(request.request_id, Finish.LENGTH)

    def _end(self, request_id: int, finish: Finish) -> Request | None:
        request = self.requests.pop(request_id, None)
        if request is not None:
            self.state.release(request, finish)
        return request
