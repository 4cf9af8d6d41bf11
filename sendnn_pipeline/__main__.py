"""``python -m sendnn_pipeline``: a tool by its name, or a run."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from sendnn_pipeline.app.launch import Launch


def open_nothing() -> TextIO:
    """Return what takes text and drops it."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  open until the interpreter's last flush


def open_streams() -> None:
    """Have text that nobody can read be dropped: whoever started this process may have closed its streams.

    A file that is opened later would have the number of a closed one, and what is printed natively would go there.
    """
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.stdout, sys.stderr = sys.stdout or open_nothing(), sys.stderr or open_nothing()


def takes_text(stream: TextIO) -> bool:
    """Return whether a line can be written: on a full disk it cannot, again."""
    try:
        stream.write("\n")
        stream.flush()
    except OSError:
        return False
    return True


def refuse_mistyped(argv: Sequence[str], tools: Iterable[str]) -> None:
    """Refuse a first word that is nearly the name of a tool.

    Raises:
        ConfigError: it is.
    """
    from sendnn_pipeline.errors import ConfigError, nearest

    if argv and not argv[0].startswith("-") and "=" not in argv[0]:
        hint = nearest(argv[0].lower().replace("_", "-"), tools)
        if hint.startswith("did you mean"):
            raise ConfigError(f"there is no tool {argv[0]}", hint=hint)


def run_words(argv: Sequence[str], launch: "Launch") -> None:
    """Run a tool, or a run.

    Args:
        argv: without the program's name.
        launch: of this process.

    Raises:
        PipelineError: it failed, as the user is to read.
    """
    from sendnn_pipeline.tools import TOOLS

    if argv and argv[0] in TOOLS:
        from importlib import import_module

        import_module(TOOLS[argv[0]]).main(argv[1:])
        return
    refuse_mistyped(argv, TOOLS)
    if argv and argv[0] in ("-sc", "--shell-completion"):
        from sendnn_pipeline.tools import completion

        if completion.asks(argv):
            completion.main(argv)
            return
    if argv and argv[0] == "--version":
        from sendnn_pipeline import __version__

        sys.stdout.write(f"sendnn_pipeline {__version__}\n")
        return
    from sendnn_pipeline.app.app import run_app

    run_app(argv, launch)


def command() -> None:
    """Run the command line as a process of its own does: what takes longest in every start is under way at once."""
    from sendnn_pipeline.app.launch import launching
    from sendnn_pipeline.machine.environ import process_environment

    open_streams()
    with launching(sys.argv[1:], process_environment()) as launch:
        main(launch)


def main(launch: "Launch | None" = None) -> None:
    """Run the command line and leave with its exit code."""
    from sendnn_pipeline.app.launch import Launch
    from sendnn_pipeline.errors import PipelineError

    argv = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal or log of another encoding gets a mark for what it cannot show; no run ends by it.
            stream.reconfigure(errors="replace")
    try:
        run_words(argv, launch or Launch(time.monotonic()))
        # What is written here fails here.
        sys.stdout.flush()
    except PipelineError as error:
        from sendnn_pipeline.app.outside import report_error
        from sendnn_pipeline.machine.environ import process_environment

        sys.stderr.write(report_error(error, argv, process_environment()))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader, a pager or head, has seen enough.
        sys.stdout = open_nothing()
        sys.exit(1)
    except OSError as error:
        if takes_text(sys.stdout):
            raise
        sys.stdout = open_nothing()
        sys.stderr.write(f"error: standard output cannot be written: {error.strerror}; write it elsewhere\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    command()
