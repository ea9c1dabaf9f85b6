import signal

import pytest

from purified_opsd.errors import Interrupted
from purified_opsd.interrupts import StopRequest, interrupt


def test_the_first_signal_is_remembered_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert stop.signal == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_that_arrives_twice_is_one_request_and_later_an_end():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # from the launcher, at once
        assert stop.signal == signal.SIGINT
        stop.grace = 0.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest((signal.SIGHUP,)) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_under_way_can_be_ended_at_once():
    with StopRequest(at_first=interrupt) as stop:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)  # the launcher's own, while it is tidied up


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_exit_codes_are_the_shells(number, code, name):
    stop = Interrupted(number, 7)
    assert stop.exit_code == code
    assert str(stop) == f"Stopped by {name} after step 7, which is saved."
