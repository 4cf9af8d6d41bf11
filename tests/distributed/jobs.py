"""What the ranks of test_ranks.py do."""

import os
import signal
import subprocess
import sys
import tempfile

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.messages import Drain, StageEvent

COUNT = 200


def talk(port, run, world):
    """Send much, then end."""
    for number in range(COUNT):
        port.send(StageEvent("load", "started", index=number, rank=world.rank))


def talk_and_leave(port, run, world):
    """Send much, then end with an exit code."""
    talk(port, run, world)
    sys.exit(3)


def talk_and_be_killed(port, run, world):
    """Send much, then be killed, once all of it is there."""
    talk(port, run, world)
    await_drain(port)
    os.kill(os.getpid(), signal.SIGKILL)


def await_drain(port):
    """Wait until told to drain."""
    read, _ = os.pipe()
    while not any(isinstance(message, Drain) for message in port.receive(1.0, read)):
        pass


def fail(port, run, world):
    """Fail with a line for the user."""
    error = ModelError("the weights are broken", hint="fetch them again")
    error.exit_code = 2
    raise error


def crash(port, run, world):
    """Fail with a bug."""
    raise ValueError("two\nlines")


def wait_for_drain(port, run, world):
    """Say what the environment is, then end when told."""
    port.send(StageEvent("load", "started", detail=os.environ["ONLY_OF_THE_RANK"]))
    await_drain(port)


def wait(port, run, world):
    """Stay."""
    port.send(StageEvent("load", "started"))
    signal.pause()


def compile(port, run, world):
    """Do what a compiler's driver does: start a process, leave a temporary file, and wait."""
    start_compiler(port)
    signal.pause()


def compile_and_be_killed(port, run, world):
    """End in the middle of it, once that was read."""
    start_compiler(port)
    await_drain(port)
    os.kill(os.getpid(), signal.SIGKILL)


def start_compiler(port):
    """Say which process and which file it is."""
    process = subprocess.Popen(["sleep", "600"])
    _, file = tempfile.mkstemp()
    port.send(StageEvent("compile", "started", program=file, index=process.pid))


def meet_and_leave(port, run, world):
    """Say what a rank is started with, meet the others, and end."""
    os.system(f"echo printed by {world.rank}")
    about = (os.environ["RANK"], str(world), os.environ["GLOO_SOCKET_IFNAME"])
    port.send(StageEvent("load", "started", detail=" ".join(about), rank=world.rank))
    world.meet()


def fail_in_the_last(port, run, world):
    """Fail in one rank, while the others wait for it and fail of that."""
    os.system(f"echo printed by {world.rank}")
    if world.rank == 2:
        fail(port, run, world)
    world.meet()


def be_killed_in_the_last(port, run, world):
    """Die in one rank; another notices and fails."""
    os.system(f"echo printed by {world.rank}")
    world.meet()
    if world.rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if world.rank == 1:
        raise RuntimeError("Connection closed by peer")
    world.meet()


def show_progress(port, run, world):
    """Show a progress bar, as torch does when it traces, and stay."""
    from tqdm import tqdm

    done = sum(tqdm(range(3), disable=True))
    tqdm.get_lock()
    port.send(StageEvent("load", "started", detail=str(done)))
    signal.pause()


def tell_of_the_start(port, run, world):
    """Say what was there before this was called, and where temporary files go; then end when told."""
    folder = "own" if tempfile.gettempdir() == os.environ["TMPDIR"] else tempfile.gettempdir()
    port.send(StageEvent("load", "started", detail=f"{os.getpid()} torch={'torch' in sys.modules} {folder}"))
    await_drain(port)
