"""The table of moves: complete, and closed."""

from itertools import product

from routing.lifecycle import OPEN, RULES, TERMINAL, MoveKind, State

TABLE = """
publish      ready                      -> queued
claim        ready queued               -> running
batch        ready                      -> batched
release      ready queued running batched -> ready
advance      ready queued running batched -> ready queued
finish       ready queued running batched -> done
fail         ready queued running batched -> failed
hold         ready queued running batched -> held
unhold       held                       -> ready
rescue       running                    -> ready
return_lost  queued                     -> ready
pause        queued                     -> ready
bury         running                    -> dead
cancel       ready queued running batched held -> cancelled
expire       ready queued running batched held -> expired
resume       failed dead expired        -> ready
"""

LEGAL = {
    (MoveKind(name), State(source), State(target))
    for name, _, rest in (line.partition(" ") for line in TABLE.strip().splitlines())
    for sources, _, targets in (rest.partition("->"),)
    for source, target in product(sources.split(), targets.split())
}


def is_legal(move: MoveKind, source: State, target: State) -> bool:
    return source in RULES[move].sources and target in RULES[move].target


def test_exactly_the_moves_of_the_table_are_legal() -> None:
    assert {each for each in product(MoveKind, State, State) if is_legal(*each)} == LEGAL


def test_every_state_is_open_or_terminal_and_never_both() -> None:
    assert set(State) == OPEN | TERMINAL
    assert not OPEN & TERMINAL


def test_only_what_starts_work_raises_the_epoch() -> None:
    starts = [MoveKind.CLAIM, MoveKind.BATCH, MoveKind.RESUME]
    assert [move for move, rule in RULES.items() if rule.raises_epoch] == starts


def test_nothing_leaves_a_terminal_state_but_a_resume() -> None:
    assert {move for move, rule in RULES.items() if rule.sources & TERMINAL} == {MoveKind.RESUME}


def test_every_open_state_can_end() -> None:
    for state in OPEN:
        assert any(is_legal(move, state, end) for move in MoveKind for end in TERMINAL)
