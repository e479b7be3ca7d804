import os
import signal
import time

import pytest
import torch

from ccc_w2v.training.stopping import SIGNALS, StopRequest


def in_child(act):
    """Run ``act`` in a child, whose signal handlers are its own; returns its exit code."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_noted_and_its_exit_code_agreed_on(number, code):
    def act():
        request = StopRequest()
        request.listen()
        before = request.agreed(torch.device("cpu"))
        os.kill(os.getpid(), number)
        os._exit(request.agreed(torch.device("cpu")) if not before else 1)

    assert in_child(act) == code


def test_an_interrupt_is_noted_where_nobody_reads_what_is_printed():
    """As under ccc-w2v small, which the same Ctrl-C ends."""

    def act():
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        request = StopRequest()
        request.listen()
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(request.code)

    assert in_child(act) == 130


def test_signals_that_something_else_handles_are_left_to_it():
    def act():
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(8))
        StopRequest().listen()
        os.kill(os.getpid(), signal.SIGUSR1)

    assert in_child(act) == 8


def test_a_second_interrupt_does_not_wait_and_a_job_in_the_background_hears_none():
    def twice():
        request = StopRequest()
        request.listen()
        os.kill(os.getpid(), signal.SIGINT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            os._exit(5)

    def in_background():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        request = StopRequest()
        request.listen()
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(4 if not request.code else 1)

    assert in_child(twice) == 5
    assert in_child(in_background) == 4


def test_a_repeated_signal_does_not_hit_a_process_that_is_ending():
    def act():
        request = StopRequest()
        request.listen()
        request.leave()
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        os._exit(6 if not request.code else 1)

    assert in_child(act) == 6


def test_data_workers_outlive_the_signals_until_their_process_leaves():
    def act():
        request = StopRequest()
        request.listen()
        worker = os.fork()
        while worker == 0:
            time.sleep(0.01)
        for number in SIGNALS:
            os.kill(worker, number)
        time.sleep(0.2)
        outlived = os.waitpid(worker, os.WNOHANG) == (0, 0)
        request.leave()
        os.kill(worker, signal.SIGTERM)
        ended = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGTERM
        os._exit(9 if outlived and ended and not request.code else 1)

    assert in_child(act) == 9
