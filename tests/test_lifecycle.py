"""The lifecycle: its table of moves in full, who is told, how one waits, and the first failure."""

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparts.errors import LifecycleError, OptionError, SpartsError
from sparts.lastwords import STATUS_OVERRUN
from sparts.lifecycle import MOVES, Failure, Lifecycle, State, exit_status

DEADLINE = 10.0
NEW, STARTING, RUNNING = State.NEW, State.STARTING, State.RUNNING
STOPPING, STOPPED, FAILED = State.STOPPING, State.STOPPED, State.FAILED

#: How to come to each state.
PATHS = {
    NEW: [],
    STARTING: [STARTING],
    RUNNING: [STARTING, RUNNING],
    STOPPING: [STARTING, RUNNING, STOPPING],
    STOPPED: [STARTING, RUNNING, STOPPING, STOPPED],
    FAILED: [STARTING, RUNNING, STOPPING, FAILED],
}
LEGAL = {
    (NEW, STARTING),
    (NEW, STOPPING),
    (STARTING, RUNNING),
    (STARTING, STOPPING),
    (RUNNING, STOPPING),
    (STOPPING, STOPPED),
    (STOPPING, FAILED),
}


@pytest.fixture
def life() -> Lifecycle:
    """A new lifecycle."""
    return Lifecycle(logging.getLogger("Tested"))


def brought_to(life: Lifecycle, state: State) -> Lifecycle:
    """*life*, moved to *state*."""
    for each in PATHS[state]:
        life.move(each)
    return life


# -- moves ----------------------------------------------------------------------------------------
def test_it_begins_new(life: Lifecycle) -> None:
    """A lifecycle begins as NEW, with no stop asked for and no failure."""
    assert NEW is life.state
    assert not life.stop_requested
    assert life.failure is None
    assert not life.ended


def test_the_table_has_every_state() -> None:
    """The table says for each state where it may lead, and nothing beyond the legal moves."""
    assert set(State) == set(MOVES)
    assert LEGAL == {(old, new) for old, allowed in MOVES.items() for new in allowed}


@pytest.mark.parametrize(("old", "new"), [*itertools.product(State, State)])
def test_each_pair_of_states(life: Lifecycle, old: State, new: State) -> None:
    """A legal move is made; any other is refused by name, tells nobody and changes nothing."""
    told: list[tuple[State, State]] = []
    brought_to(life, old).listen(lambda *move: told.append(move))
    if (old, new) in LEGAL:
        life.move(new)
        assert (new, [(old, new)]) == (life.state, told)
    else:
        with pytest.raises(LifecycleError, match=f"no move from {old.name} to {new.name}; legal: "):
            life.move(new)
        assert (old, []) == (life.state, told)


def test_a_refusal_names_what_is_legal(life: Lifecycle) -> None:
    """The error says where the state may lead, or that it leads nowhere."""
    with pytest.raises(LifecycleError) as caught:
        brought_to(life, RUNNING).move(STOPPED)
    assert "no move from RUNNING to STOPPED; legal: STOPPING" == str(caught.value)
    life.move(STOPPING)
    life.move(STOPPED)
    with pytest.raises(LifecycleError, match="legal: nothing"):
        life.move(STARTING)


@pytest.mark.parametrize("state", list(State))
def test_the_end_is_where_no_move_is_left(life: Lifecycle, state: State) -> None:
    """STOPPED and FAILED are the end, and no other state is."""
    assert (state in (STOPPED, FAILED)) == brought_to(life, state).ended


# -- listeners ------------------------------------------------------------------------------------
def test_listeners_hear_every_move_in_order(life: Lifecycle) -> None:
    """Each listener hears each move from its arrival on, first come first told."""
    heard: list[tuple[str, State, State]] = []
    life.listen(lambda old, new: heard.append(("first", old, new)))
    life.move(STARTING)
    life.listen(lambda old, new: heard.append(("second", old, new)))
    life.move(STOPPING)
    assert [
        ("first", NEW, STARTING),
        ("first", STARTING, STOPPING),
        ("second", STARTING, STOPPING),
    ] == heard


def test_a_listener_sees_the_new_state(life: Lifecycle) -> None:
    """When a listener is called the move is made, and it may ask for a stop or make the next."""
    seen: list[State] = []

    def listener(old: State, new: State) -> None:
        seen.append(life.state)
        if new is STARTING:
            life.request_stop()
            life.move(STOPPING)

    life.listen(listener)
    life.move(STARTING)
    assert [STARTING, STOPPING] == seen
    assert STOPPING is life.state


def test_a_listener_that_fails_is_logged(life: Lifecycle, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of one listener keeps neither the move nor the others."""
    heard: list[State] = []

    def broken(old: State, new: State) -> None:
        raise ValueError("bad listener")

    life.listen(broken)
    life.listen(lambda old, new: heard.append(new))
    life.move(STARTING)
    assert ([STARTING], STARTING) == (heard, life.state)
    assert "A listener failed on NEW -> STARTING" in caplog.text
    assert "bad listener" in caplog.text


# -- asking for a stop ----------------------------------------------------------------------------
@pytest.mark.parametrize("state", list(State))
def test_a_stop_can_be_asked_for_in_every_state(life: Lifecycle, state: State) -> None:
    """A request is taken in every state, moves nothing by itself, and stays."""
    brought_to(life, state)
    life.request_stop()
    life.request_stop()
    assert life.stop_requested
    assert state is life.state


def test_a_stop_request_is_told_once(life: Lifecycle) -> None:
    """Who wants to hear of the stop hears once, in order, of however many requests."""
    heard: list[str] = []
    life.on_stop_request(lambda: heard.append("first"))
    life.on_stop_request(lambda: heard.append("second"))
    assert [] == heard
    life.request_stop()
    life.request_stop()
    assert ["first", "second"] == heard


def test_who_comes_after_the_request_is_told_at_once(life: Lifecycle) -> None:
    """Once the stop was asked for, a new callback is called before the method returns."""
    life.request_stop()
    heard: list[bool] = []
    life.on_stop_request(lambda: heard.append(life.stop_requested))
    assert [True] == heard


def test_a_callback_may_ask_too(life: Lifecycle) -> None:
    """A callback that asks for the stop itself, or adds another, neither hangs nor repeats."""
    heard: list[str] = []

    def again() -> None:
        heard.append("outer")
        life.request_stop()
        life.on_stop_request(lambda: heard.append("inner"))

    life.on_stop_request(again)
    life.request_stop()
    assert ["outer", "inner"] == heard


def test_a_stop_callback_that_fails_is_logged(
    life: Lifecycle, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of one callback keeps neither the request nor the other callbacks."""
    heard: list[str] = []

    def broken() -> None:
        raise ValueError("bad callback")

    life.on_stop_request(broken)
    life.on_stop_request(lambda: heard.append("told"))
    life.request_stop()
    life.on_stop_request(broken)
    assert ["told"] == heard
    assert life.stop_requested
    assert 2 == caplog.text.count("ValueError: bad callback")


def test_each_callback_is_told_once_by_many_threads(life: Lifecycle) -> None:
    """Threads that ask and threads that listen at one moment: each callback is called once."""
    begin = threading.Barrier(8)
    heard: list[int] = []

    def listen(number: int) -> None:
        begin.wait(DEADLINE)
        life.on_stop_request(lambda: heard.append(number))

    def ask() -> None:
        begin.wait(DEADLINE)
        life.request_stop()

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(listen, number) for number in range(4)]
        jobs += [pool.submit(ask) for _ in range(4)]
        for job in jobs:
            job.result(DEADLINE)
    assert [0, 1, 2, 3] == sorted(heard)


# -- failures and statuses ------------------------------------------------------------------------
def test_the_first_failure_is_kept(life: Lifecycle) -> None:
    """A failure asks for the stop; of several the first counts, and only it says that it was."""
    error = ValueError("first")
    assert life.fail("One", error)
    assert not life.fail("Two", ValueError("second"))
    assert Failure("One", error) == life.failure
    assert life.stop_requested


def test_a_failure_is_known_before_the_stop_is_told(life: Lifecycle) -> None:
    """Who hears of the stop that a failure asked for can see the failure."""
    seen: list[Failure | None] = []
    life.on_stop_request(lambda: seen.append(life.failure))
    life.fail("One", ValueError("bad"))
    assert [life.failure] == seen
    assert life.failure is not None


class Known(SpartsError):
    """An error with a status of its own."""

    status = 9


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad"), 1),
        (KeyboardInterrupt(), 1),
        (GeneratorExit(), 1),
        (SpartsError("ours"), 1),
        (OptionError("ours"), 2),
        (Known("ours"), 9),
        (SystemExit(3), 3),
        (SystemExit(255), 255),
        (SystemExit(0), 1),
        (SystemExit(256), 1),
        (SystemExit(-1), 1),
        (SystemExit(None), 1),
        (SystemExit("text"), 1),
    ],
)
def test_the_status_tells_of_the_failure(error: BaseException, status: int) -> None:
    """Each failure has a status from 1 to 255: its own, if it has a good one, else 1."""
    assert status == exit_status(error) == Failure("Task", error).status


def test_an_overrun_has_a_status_of_its_own() -> None:
    """What outlives the stop's deadline ends the process with EX_SOFTWARE."""
    assert 70 == STATUS_OVERRUN


@pytest.mark.parametrize(("fails", "end"), [(False, STOPPED), (True, FAILED)])
def test_the_end_depends_on_the_failure(life: Lifecycle, fails: bool, end: State) -> None:
    """A stop ends as FAILED where there was a failure, else as STOPPED; to finish again is fine."""
    brought_to(life, STOPPING)
    if fails:
        life.fail("Task", ValueError("bad"))
    life.finish()
    life.finish()
    assert end is life.state


def test_a_failure_after_the_end_moves_nothing(life: Lifecycle) -> None:
    """What fails when all is over is recorded, and the end stays as it was."""
    brought_to(life, STOPPED).fail("Late", ValueError("bad"))
    life.finish()
    assert STOPPED is life.state


@pytest.mark.parametrize("state", [NEW, STARTING, RUNNING])
def test_only_a_stop_can_be_finished(life: Lifecycle, state: State) -> None:
    """To finish what is not stopping is refused."""
    brought_to(life, state)
    with pytest.raises(LifecycleError, match=f"no move from {state.name} to STOPPED"):
        life.finish()


# -- waiting --------------------------------------------------------------------------------------
def test_a_wait_for_what_is_true_is_none(life: Lifecycle) -> None:
    """Where the predicate holds already, nothing is waited for, even with a timeout of 0."""
    assert life.wait_for(lambda: True, 0)


def test_a_wait_ends_at_its_timeout(life: Lifecycle) -> None:
    """After *timeout* seconds the wait ends with what the predicate says."""
    assert not life.wait_for(lambda: False, 0.01)


@pytest.mark.parametrize(
    "change",
    [
        lambda life: life.move(STARTING),
        lambda life: life.request_stop(),
        lambda life: life.fail("Task", ValueError("bad")),
    ],
)
def test_every_change_ends_a_wait(life: Lifecycle, change: Callable[[Lifecycle], object]) -> None:
    """A move, a stop request and a failure each wake those who wait for them."""

    def changed() -> bool:
        waiting.set()
        return life.state is STARTING or life.stop_requested

    waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(life.wait_for, changed, DEADLINE)
        assert waiting.wait(DEADLINE)
        change(life)
        assert waited.result(DEADLINE)


def test_who_changes_something_else_says_so(life: Lifecycle) -> None:
    """notify has every wait look again, at whatever it waits for."""
    waiting = threading.Semaphore(0)
    box: list[int] = []

    def filled() -> bool:
        waiting.release()
        return bool(box)

    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(life.wait_for, filled) for _ in range(3)]
        for _ in waits:
            assert waiting.acquire(timeout=DEADLINE)
        box.append(1)
        life.notify()
        assert [True] * 3 == [each.result(DEADLINE) for each in waits]


def test_a_predicate_may_use_the_lifecycle(life: Lifecycle) -> None:
    """As in a signal handler, what runs under the lock may ask for the stop and not hang."""

    def asks() -> bool:
        life.request_stop()
        return life.stop_requested

    assert life.wait_for(asks, DEADLINE)
