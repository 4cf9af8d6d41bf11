"""A chat written by a template of the request's own, in a process that may not take much: it may be an attack."""

import asyncio
import resource
import sys

import msgspec

from sendnn_pipeline.generation.api.rendering import Rendering, TemplateError, render

MAX_SECONDS, MAX_BYTES = 5, 2**31
# Of any clock, on a machine that has other things to do.
MAX_WAIT_SECONDS = 60
NOT_RENDERED = f"the chat template takes more than {MAX_SECONDS} s or {MAX_BYTES // 2**30} GiB"


class Rendered(msgspec.Struct, frozen=True):
    """What came of it."""

    text: str = ""
    error: str = ""


async def render_apart(rendering: Rendering) -> str:
    """Return the text of a chat; the process ends with this call, whatever it is doing.

    Raises:
        TemplateError: the template refuses it, fails, or takes too long or too much.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            output, _ = await process.communicate(msgspec.json.encode(rendering))
    except TimeoutError:
        raise TemplateError(NOT_RENDERED) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise TemplateError(NOT_RENDERED)
    rendered = msgspec.json.decode(output, type=Rendered)
    if rendered.error:
        raise TemplateError(rendered.error)
    return rendered.text


def main() -> None:
    """Render what standard input has to standard output."""
    rendering = msgspec.json.decode(sys.stdin.buffer.read(), type=Rendering)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    try:
        rendered = Rendered(text=render(rendering))
    except TemplateError as error:
        rendered = Rendered(error=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(rendered))


if __name__ == "__main__":
    main()
