"""``python -m sendnn_pipeline``: a tool by its name, or a run."""

import os
import sys
import time
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sendnn_pipeline.app.launch import Launch


def command() -> None:
    """Run the command line as a process of its own does: what takes longest in every start is under way at once."""
    from sendnn_pipeline.app.launch import launching
    from sendnn_pipeline.machine.environ import process_environment

    with launching(sys.argv[1:], process_environment()) as launch:
        main(launch)


def main(launch: "Launch | None" = None) -> None:
    """Run the command line and leave with its exit code."""
    from sendnn_pipeline.errors import PipelineError

    argv = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal or log of another encoding gets a mark for what it cannot show; no run ends by it.
            stream.reconfigure(errors="replace")
    try:
        from sendnn_pipeline.tools import TOOLS

        if argv and argv[0] in TOOLS:
            from importlib import import_module

            import_module(TOOLS[argv[0]]).main(argv[1:])
            return
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
        from sendnn_pipeline.app.launch import Launch

        run_app(argv, launch or Launch(time.monotonic()))
    except PipelineError as error:
        from sendnn_pipeline.app.outside import report_error
        from sendnn_pipeline.machine.environ import process_environment

        sys.stderr.write(report_error(error, argv, process_environment()))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader, a pager or head, has seen enough.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  kept open until the interpreter's last flush
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    command()
