"""Signals: before a policy learns they end the process at once; then the first one is a request."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from jaxloco.training import interrupt
from jaxloco.training.interrupt import Interrupt

BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
"""C code that runs for minutes, and during which Python handles no signal; as XLA's compiler and programs do."""

HEAD = """
import hashlib, os, signal, sys, threading, time
from jaxloco.training import interrupt
from jaxloco.training.interrupt import Interrupt

def later(*numbers, gap=0.3):
    def send():
        for number in numbers:
            time.sleep(gap)
            os.kill(os.getpid(), number)
    threading.Thread(target=send, daemon=True).start()
"""


def run(body: str, **options: object) -> subprocess.CompletedProcess[str]:
    program = HEAD + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_before_learning_a_signal_ends_a_command_at_once_even_in_compiled_code_and_leaves_things_in_order(name):
    done = run(f"""
        with Interrupt(owned=True) as stop:
            stop.at_end.append(lambda: print("in order", flush=True))
            later(signal.{name})
            {BUSY}
    """)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stdout == "in order\n" and done.stderr == "jaxloco: interrupted\n"


def test_while_learning_the_first_signal_is_a_request_and_the_second_ends_the_command_at_once():
    done = run(f"""
        with Interrupt(owned=True) as stop:
            stop.listen()
            later(signal.SIGINT)
            while not stop.requested: time.sleep(0.01)
            print("requested", flush=True)
            later(signal.SIGTERM)
            {BUSY}
    """)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == "requested\n" and done.stderr.startswith("jaxloco: interrupted again;")


def test_a_terminal_that_hangs_up_again_and_again_asks_once_and_so_does_a_signal_that_a_wrapper_repeats():
    done = run("""
        with Interrupt(owned=True) as stop:
            stop.listen()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            later(signal.SIGHUP, signal.SIGHUP)
            time.sleep(1.0)
            print(stop.requested)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    done = run("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interrupt(owned=True) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.listen()
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.3)
            print(stop.requested)
    """)
    assert (done.returncode, done.stdout) == (0, "False\n")


def test_a_signal_that_something_else_has_taken_meanwhile_is_taken_back():
    """JAX takes SIGTERM for itself where it meets other hosts."""
    done = run("""
        with Interrupt(owned=True) as stop:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stop.listen()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
            print(stop.requested)
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n")


def test_a_run_that_hangs_is_ended_by_one_signal():
    done = run(f"""
        interrupt.PATIENCE_SECONDS = 0.0
        with Interrupt(owned=True) as stop:
            stop.listen()
            later(signal.SIGTERM)
            with stop.noticing(lambda: 0.5):
                {BUSY}
    """)
    assert done.returncode == 128 + signal.SIGTERM and "the run hangs" in done.stderr


def test_what_is_to_be_left_in_order_cannot_keep_the_process():
    done = run("""
        interrupt.CLEANING_SECONDS = 0.1
        with Interrupt(owned=True) as stop:
            stop.at_end.append(lambda: time.sleep(1000))
            later(signal.SIGINT)
            time.sleep(1000)
    """)
    assert done.returncode == 130


def test_the_process_of_a_library_is_left_to_its_owner():
    before = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    with Interrupt() as stop:
        stop.listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        steps = []
        with pytest.raises(KeyboardInterrupt), stop.deferring():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("after the signal")
        assert steps == ["after the signal"]
    signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert {number: signal.getsignal(number) for number in interrupt.SIGNALS} == before
