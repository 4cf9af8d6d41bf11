"""Is a grammar one? Read in a process that may not take much, before the engine hears of it."""

import asyncio
import math
import resource
import signal
import sys
import time

from sendnn_pipeline.generation.grammar.limits import OPEN_SECONDS, TOO_MUCH, limit_memory, make_matcher, one_line

# Of any clock, on a machine that has other things to do.
MAX_WAIT_SECONDS = 60
# Of CPU time: what nearly every grammar is read in.
QUICK_SECONDS = 0.5
QUICK = "quick"
END_ID = 256


async def check_apart(grammar: str, quick: bool) -> str | None:
    """Return what is wrong with a grammar; empty where nothing is. The process ends with this call.

    Args:
        grammar: see ``make_matcher``.
        quick: whether to give up soon, which returns None.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        *([QUICK] if quick else []),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            output, _ = await process.communicate(grammar.encode("utf-8", "surrogatepass"))
    except TimeoutError:
        return TOO_MUCH
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if quick and process.returncode == -signal.SIGXCPU:
        return None
    return TOO_MUCH if process.returncode else output.decode()


class _Bytes:
    """A vocabulary of bytes, which is made at once."""

    eos_token_id, bos_token_id = END_ID, None
    tokens = (*(bytes([byte]) for byte in range(END_ID)), b"<end>")
    special_token_ids = (END_ID,)

    def __call__(self, text: bytes) -> list[int]:
        """Return the tokens of a text."""
        return list(text)


def main() -> None:
    """Read the grammar of standard input."""
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError as error:
        sys.stdout.write(f"llguidance, which reads grammars, is not there: {error}")
        return
    # Of whole seconds, to which what the start took is added.
    seconds = math.ceil(time.process_time() + (QUICK_SECONDS if QUICK in sys.argv else OPEN_SECONDS))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    limit_memory()
    grammar = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        matcher = make_matcher(LLTokenizer(TokenizerWrapper(_Bytes()), slices=[]), grammar)
    except ValueError as error:
        sys.stdout.write(one_line(str(error)))
        return
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.write(one_line(matcher.get_error()))


if __name__ == "__main__":
    main()
