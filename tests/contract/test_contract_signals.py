"""A signal handler that closes the store it interrupted: an error, never a deadlock."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager

import pytest

from durastream.engine.errors import StoreClosed


@contextmanager
def handling(handler):
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def signal_soon(seconds=0.05):
    main = threading.main_thread().ident
    threading.Timer(seconds, signal.pthread_kill, [main, signal.SIGUSR1]).start()


def test_closing_within_a_call_is_refused_and_the_store_works_on(blocking_store):
    blocking_store.create("/s")
    seen = []

    def handler(*_):
        with pytest.raises(RuntimeError, match=r"close\(\) within a call of the store \(wait"):
            blocking_store.close()
        seen.append(True)

    with handling(handler):
        signal_soon()
        assert blocking_store.wait_for_messages("/s", "now", 200).timed_out
    assert seen == [True]
    blocking_store.append("/s", b"x")


def is_within_a_store(frame):
    while frame is not None:
        if frame.f_globals["__name__"].startswith("durastream.engine."):
            return True
        frame = frame.f_back
    return False


def test_closing_at_any_instruction_of_a_call_is_refused(blocking_store):
    """Signals again and again, from a thread, into a thread that only writes."""
    blocking_store.create("/s")
    refused, ended, handled = [], threading.Event(), threading.Semaphore()

    def handler(_, frame):
        if is_within_a_store(frame):  # else it would be closed, and that is fine
            with pytest.raises(RuntimeError):
                blocking_store.close()
            refused.append(frame)
        handled.release()

    def send():
        main = threading.main_thread().ident
        while not ended.wait(0.0003) and handled.acquire(timeout=10):  # handlers would nest
            signal.pthread_kill(main, signal.SIGUSR1)

    sender = threading.Thread(target=send)
    with handling(handler):
        sender.start()
        end = time.monotonic() + 10
        while len(refused) < 300 and time.monotonic() < end:
            blocking_store.append("/s", b"x")
        ended.set()
        sender.join()
    assert refused


def test_an_exception_of_the_handler_ends_the_call_and_with_closes(blocking_store):
    blocking_store.create("/s")

    class Stop(Exception):
        pass

    def handler(*_):
        raise Stop

    signal_soon(0.1)
    with handling(handler), pytest.raises(Stop), blocking_store:
        blocking_store.wait_for_messages("/s", "now", 20_000)
    with pytest.raises(StoreClosed):
        blocking_store.read("/s")


def test_closing_is_fine_between_calls_and_while_closing(blocking_store):
    with handling(lambda *_: blocking_store.close()):
        signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(StoreClosed):
        blocking_store.read("/s")
