"""The account of one request: metrics, and a line of the performance log."""

import time
from typing import Any

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.errors import ErrorForm, RequestError
from sendnn_pipeline.server.state import ServerState

GONE = RequestError(499, "the client left before its answer was there", code="client_gone")
MAX_REASON_LENGTH = 500


class Account:
    """Begins when the request arrives, and is finished with its call or ended without."""

    def __init__(self, state: ServerState, request_id: str, route: str) -> None:
        self._metrics, self._perf_log = state.metrics, state.perf_log
        self._about = {"request_id": request_id, "route": route}
        self.arrived = self._parsed = time.monotonic()

    def parsed(self) -> None:
        """Note that the body is read."""
        self._parsed = time.monotonic()

    def end(self, error: RequestError, form: ErrorForm) -> None:
        """End without the whole answer.

        Args:
            error: why.
            form: of the route, which may have a status of its own for it.
        """
        reason = "abort" if error is GONE else "error"
        # What is refused was never the engine's: it is counted by route and status alone.
        if error is GONE or (error.status >= 500 and error.status != 503):
            self._metrics.finished(reason)
        status, _ = form(error)
        why = f"{error.message}: {error.detail}" if error.detail else error.message
        self._log(
            reason,
            status,
            code=error.code,
            reason=why[:MAX_REASON_LENGTH],
            e2e_latency_seconds=time.monotonic() - self.arrived,
        )

    def finish(self, call: Call) -> None:
        """End with the whole answer."""
        answered, num_tokens = time.monotonic(), call.work.num_tokens
        queued, inference = call.started - call.enqueued, call.finished - call.started
        metrics = self._metrics
        metrics.finished(call.finish_reason)
        metrics.measures.observe(call.measured)
        metrics.e2e.observe(answered - self.arrived)
        metrics.queue.observe(queued)
        metrics.inference.observe(inference)
        metrics.prefill.observe(call.report.get("prefill_time_seconds", inference))
        metrics.request_tokens.observe(num_tokens)
        usual = {
            "num_prompt_tokens": num_tokens,
            "num_texts": call.work.num_items,
            "programs": sorted(call.programs),
            "padding_tokens": call.padding_tokens,
            # The parts follow each other without a gap: their sum is the whole.
            "receive_time_seconds": self._parsed - self.arrived,
            "tokenize_time_seconds": call.submitted - self._parsed,
            "to_engine_time_seconds": call.enqueued - call.submitted,
            "queued_time_seconds": queued,
            "inference_time_seconds": inference,
            "from_engine_time_seconds": call.received - call.finished,
            "serialize_time_seconds": answered - call.received,
            "e2e_latency_seconds": answered - self.arrived,
            # Where nothing is generated, all of it is prefill.
            "prefill_time_seconds": inference,
        }
        self._log(call.finish_reason, 200, **usual | call.report)

    def _log(self, finish_reason: str, status: int, **fields: Any) -> None:
        if self._perf_log is not None:
            self._perf_log.request({**self._about, "finish_reason": finish_reason, "status": status, **fields})
