"""``python -m sendnn_pipeline``: a tool by its name, or a run."""

import os
import sys
import time
from io import TextIOWrapper


def main() -> None:
    """Run the command line and leave with its exit code."""
    started = time.monotonic()
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

        run_app(argv, started)
    except PipelineError as error:
        from sendnn_pipeline.app.outside import report_error
        from sendnn_pipeline.config.environment import process_environment

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
    main()
