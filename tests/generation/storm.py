"""Random workloads with cancelled, stopped and failed requests, and what must be true at every step of them."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import strategies as st

from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Finish, Request, Stage
from sendnn_pipeline.generation.rules import Rules
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.steps import DecodeStep, PrefillStep, Step
from tests.generation.emulated_cache import EmulatedCache


@dataclass(frozen=True)
class Arrival:
    """A request, and what happens to it."""

    step: int
    base: int
    """Prompts of one base begin with the same tokens."""
    num_tokens: int
    max_tokens: int
    ready_after: int = 0
    """Steps for which it is not ready."""
    cancel_after: int | None = None
    """Steps until it is cancelled."""
    cancel_amid: bool = False
    """Cancel it while a step computes, rather than between two."""
    stop_at: int | None = None
    """Tokens after which the engine finds a stop."""


@st.composite
def rules(draw) -> Rules:
    """Make rules of any kind of device."""
    chunk_size = draw(st.sampled_from([64, 128, 192]))
    rectangular, left_padding = draw(st.booleans()), draw(st.booleans())
    max_model_len = draw(st.sampled_from([256, 320, 500]))
    limit = st.none() | st.integers(100, 256) | st.integers(max_model_len, 4 * max_model_len)
    return Rules(
        max_num_seqs=draw(st.integers(1, 5)),
        max_model_len=max_model_len,
        num_blocks=max_model_len // 64 + 2 + draw(st.integers(0, 12)),
        chunk_size=chunk_size,
        max_prefill_tokens=chunk_size + draw(st.sampled_from([0, 30, 128, 500])),
        interleave=draw(st.booleans()),
        pausing=draw(st.booleans()),
        long_output_priority=draw(st.booleans()),
        prefix_caching=draw(st.booleans()),
        left_padding=left_padding,
        rectangular_decode=rectangular,
        max_batch_tkv=draw(limit) if rectangular else None,
    )


@st.composite
def arrivals(draw) -> list[Arrival]:
    """Make requests that arrive over some steps, many with prefixes in common."""
    after = st.none() | st.integers(0, 30)
    one = st.builds(
        Arrival,
        step=st.integers(0, 30),
        base=st.integers(0, 1),
        num_tokens=st.integers(1, 170),
        max_tokens=st.integers(1, 20) | st.integers(50, 80),
        ready_after=st.sampled_from([0, 0, 0, 3]),
        cancel_after=after,
        cancel_amid=st.booleans(),
        stop_at=st.none() | st.integers(1, 20),
    )
    return draw(st.lists(one, min_size=1, max_size=9))


@dataclass
class Storm:
    """One workload on one scheduler, over an emulated cache."""

    rules: Rules
    arrivals: list[Arrival]
    failing_step: int | None = None
    """The step that cannot be computed."""
    scheduler: Scheduler = field(init=False)
    requests: dict[int, Request] = field(default_factory=dict)
    admitted: list[int] = field(default_factory=list)
    step: int = 0

    def run(self) -> None:
        """Run to the end, checking every step."""
        self.scheduler = Scheduler(self.rules)
        cache = EmulatedCache(self.scheduler)
        ends = max(arrival.step + arrival.ready_after for arrival in self.arrivals)
        # Each step brings some request nearer to its end.
        most = ends + sum(arrival.num_tokens + arrival.max_tokens for arrival in self.arrivals)
        while self.step <= ends or not self.scheduler.is_idle:
            assert self.step <= most, "requests do not end"
            self._messages()
            before = self.scheduler.state.last_was_prefill and bool(self.scheduler.state.decoding)
            step = self.scheduler.next_step()
            self._check_blocks()
            if step is None:
                assert not any(request.is_ready for request in self.scheduler.requests.values()), "no progress"
            else:
                self._check_step(step, before)
                tokens = cache.compute(step)
                self._cancel(amid=True)
                self._end(step, tokens)
            self._check_blocks()
            self.step += 1
        pool = self.scheduler.state.pool
        assert pool.num_free == pool.num_usable and not pool.num_reserved
        self._check_ends()

    def _messages(self) -> None:
        for request_id, arrival in enumerate(self.arrivals):
            if arrival.step == self.step:
                prompt = [arrival.base] * 64 + [arrival.base + 2] * (arrival.num_tokens - 64)
                prompt = prompt[: arrival.num_tokens]
                self.requests[request_id] = self.scheduler.add(
                    request_id, prompt, arrival.max_tokens, is_ready=not arrival.ready_after
                )
            if arrival.step + arrival.ready_after == self.step:
                self.scheduler.set_ready(request_id)
        self._cancel(amid=False)

    def _cancel(self, *, amid: bool) -> None:
        for request_id, arrival in enumerate(self.arrivals):
            due = arrival.cancel_after is not None and arrival.step + arrival.cancel_after == self.step
            if due and arrival.cancel_amid == amid and request_id in self.requests:
                self.scheduler.cancel(request_id)
                assert self.requests[request_id].finish is not None and not self.requests[request_id].blocks

    def _end(self, step: Step, tokens: list[int]) -> None:
        if self.step == self.failing_step:
            dropped = {request.request_id for request in self.scheduler.drop_step(step)}
            assert dropped <= set(step.request_ids) and not dropped & self.scheduler.requests.keys()
            return
        stopped = {
            request_id
            for request_id in step.sampled
            if self.requests[request_id].num_generated + 1 == self.arrivals[request_id].stop_at
        }
        alive = [request_id for request_id in step.sampled if request_id in self.scheduler.requests]
        got = self.scheduler.finish_step(step, tokens, stopped)
        assert [request.request_id for request in got] == alive
        assert all(request.finish is not None for request in got if request.request_id in stopped)

    def _check_step(self, step: Step, must_decode: bool) -> None:
        state, rules = self.scheduler.state, self.rules
        assert state.num_admitted <= rules.max_num_seqs
        if isinstance(step, DecodeStep):
            if rules.max_batch_tkv is not None and len(step.request_ids) > 1:
                assert len(step.request_ids) * step.tkv <= rules.max_batch_tkv
            if rules.max_batch_tkv is not None and rules.max_batch_tkv >= rules.max_model_len:
                assert len(step.request_ids) * step.tkv <= rules.max_batch_tkv
            if rules.rectangular_decode:
                assert len({len(table) for table in step.block_tables}) == 1
            return
        assert isinstance(step, PrefillStep) and len(set(step.request_ids)) == len(step.request_ids)
        assert not (must_decode and rules.interleave)
        used = sum(chunk.num_rows if rules.left_padding else chunk.end - chunk.start for chunk in step.chunks)
        assert used <= rules.max_prefill_tokens
        for chunk in step.chunks:
            assert chunk.end - chunk.start <= rules.chunk_size
            assert chunk.num_rows == rules.chunk_size or not rules.left_padding
            if chunk.request_id not in self.admitted:
                self._check_order(chunk.request_id)
                self.admitted.append(chunk.request_id)

    def _check_order(self, request_id: int) -> None:
        """Only what is refused for itself is overtaken."""
        for other in self.scheduler.state.waiting.values():
            mine, theirs = self.arrivals[request_id], self.arrivals[other.request_id]
            if (theirs.step, other.request_id) < (mine.step, request_id) and other.is_ready:
                assert other.refusal is Refusal.VOLUME and other.num_overtakes

    def _check_blocks(self) -> None:
        pool = self.scheduler.state.pool
        requests = self.scheduler.requests.values()
        holders = Counter(block for request in requests for block in request.blocks)
        assert 0 not in holders
        assert all(pool.num_holders(block) == holders[block] for block in range(pool.num_usable + 1))
        assert pool.num_used == len(holders) and pool.num_free + pool.num_used == pool.num_usable
        reserved = sum(request.num_reserved_blocks for request in requests)
        assert 0 <= reserved == pool.num_reserved <= pool.num_free
        for request in requests:
            assert len(set(request.blocks)) == len(request.blocks)
            if request.stage in (Stage.WAITING, Stage.PAUSED) and self.scheduler.state.tkv:
                assert self.scheduler.why(request.request_id) is not None
            assert request.stage is not Stage.WAITING or not request.blocks

    def _check_ends(self) -> None:
        for request_id, request in self.requests.items():
            arrival = self.arrivals[request_id]
            if request.finish is Finish.LENGTH:
                assert request.num_generated == arrival.max_tokens
            elif request.finish is Finish.STOP:
                assert request.num_generated == arrival.stop_at
            else:
                assert arrival.cancel_after is not None or self.failing_step is not None
        counts = self.scheduler.counts
        assert counts.pauses >= counts.resumes and counts.pauses >= counts.net_pauses
