"""Is a concurrent history linearizable? Just-in-time linearization, for any sequential model.

A history is linearizable if each call can be given one instant between its invocation and its
return so that the calls, one after the other, have exactly the outcomes they had. The checker
walks over the history in time and keeps every *configuration* that is possible so far: the state
of the model, and which of the calls under way took effect already. When a call returns, it must
have taken effect: each configuration is carried on by every order of calls under way that ends
with it. No configuration left means: not linearizable, and the call that returned is the first
that nothing explains.

Three rules keep the number of configurations small. A call whose outcome says that it changed
nothing takes effect as soon as that outcome is right, since waiting cannot help. A call without an
answer may be left out for ever, so of two configurations that differ in such calls only, the one
that used more of them up is dropped. And families of streams that never meet are checked apart
(``workload.by_family``), which locality allows.

It knows nothing of streams; what it must never do is to call a wrong history right.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of one client. Times are of one clock; equal ones count as overlapping."""

    client: str
    operation: Any
    invoked: float
    returned: float | None  # None: no answer came, so it took effect at some time, or never
    outcome: Any = None


class Model(Protocol[State]):
    """What the calls mean one after the other."""

    @property
    def initial(self) -> State: ...

    def step(self, state: State, call: Call) -> Sequence[State]:
        """The states that can follow if ``call`` takes effect now, with its outcome.

        None if it cannot. For a call without an answer: those that it changed something in.
        """
        ...

    def is_observation(self, call: Call) -> bool:
        """Whether a call with this outcome changes nothing, in whatever state it takes effect."""
        ...


@dataclass
class NotLinearizable(Exception):
    """The call that nothing explains, and what was possible until it returned."""

    call: Call
    states: list[Any]
    under_way: list[Call]

    def __str__(self) -> str:
        lines = [f"nothing explains {self.call}", "possible until then:"]
        lines += [f"  {state}" for state in self.states[:5]]
        lines += ["under way:", *(f"  {call}" for call in self.under_way)]
        return "\n".join(lines)


class Configuration(NamedTuple):
    """What may be the case at one moment. The numbers are those of calls under way."""

    state: Any
    done: frozenset[int]  # took effect, and will return
    spent: frozenset[int]  # took effect without an answer


def check(calls: Iterable[Call], model: Model[State]) -> int:
    """Returns the greatest number of configurations held. Raises: NotLinearizable."""
    return _Search(list(calls), model).run()


class _Search(Generic[State]):
    def __init__(self, calls: list[Call], model: Model[State]) -> None:
        self._calls = calls
        self._model = model
        self._under_way: set[int] = set()  # those that will return
        self._observing: set[int] = set()  # those of them that change nothing
        self._unanswered: set[int] = set()
        self._possible = [Configuration(model.initial, frozenset(), frozenset())]

    def run(self) -> int:
        largest = 1
        for _, is_return, number in self._events():
            if is_return:
                self._end(number)
            else:
                self._begin(number)
            largest = max(largest, len(self._possible))
        return largest

    def _events(self) -> list[tuple[float, bool, int]]:
        events = []
        for number, call in enumerate(self._calls):
            events.append((call.invoked, False, number))
            if call.returned is not None:
                events.append((call.returned, True, number))
        return sorted(events)

    def _begin(self, number: int) -> None:
        call = self._calls[number]
        if call.returned is None:
            self._unanswered.add(number)
            return
        self._under_way.add(number)
        if self._model.is_observation(call):
            self._observing.add(number)
            self._possible = [self._settle(one, {number}) for one in self._possible]

    def _end(self, number: int) -> None:
        before, found, visited = self._possible, _Least(), _Least()
        ahead = [(len(one.spent), order, one) for order, one in enumerate(before)]
        heapq.heapify(ahead)
        order = itertools.count(len(before))
        while ahead:
            _, _, one = heapq.heappop(ahead)
            if number in one.done:
                found.add(one._replace(done=one.done - {number}))
                continue
            for after in self._one_more(one):
                if visited.add(after):
                    heapq.heappush(ahead, (len(after.spent), next(order), after))
        if not found.configurations:
            raise self._explain(number, before)
        self._possible = found.configurations
        self._under_way.remove(number)
        self._observing.discard(number)

    def _one_more(self, one: Configuration) -> Iterator[Configuration]:
        """Every configuration in which one more call took effect."""
        for number in self._under_way - one.done:
            for state in self._model.step(one.state, self._calls[number]):
                done = one.done | {number}
                yield self._settle(one._replace(state=state, done=done), self._observing)
        equal = set()
        for number in sorted(self._unanswered - one.spent):
            call = self._calls[number]
            if call.operation in equal:
                continue  # no difference which of them
            equal.add(call.operation)
            for state in self._model.step(one.state, call):
                spent = one.spent | {number}
                yield self._settle(one._replace(state=state, spent=spent), self._observing)

    def _settle(self, one: Configuration, observing: set[int]) -> Configuration:
        """Let those take effect that change nothing and whose outcome is right."""
        state, calls = one.state, self._calls
        right = [n for n in observing - one.done if state in self._model.step(state, calls[n])]
        return one._replace(done=one.done.union(right)) if right else one

    def _explain(self, number: int, before: list[Configuration]) -> NotLinearizable:
        others = sorted((self._under_way | self._unanswered) - {number})
        states = list(dict.fromkeys(one.state for one in before))
        return NotLinearizable(self._calls[number], states, [self._calls[n] for n in others])


class _Least:
    """Configurations, without those that only used up more unanswered calls than another."""

    def __init__(self) -> None:
        self._spent: dict[tuple[Any, frozenset[int]], list[frozenset[int]]] = defaultdict(list)

    def add(self, one: Configuration) -> bool:
        """False if it was known, or a better one is."""
        known = self._spent[one.state, one.done]
        if any(spent <= one.spent for spent in known):
            return False
        known[:] = [spent for spent in known if not one.spent <= spent]
        known.append(one.spent)
        return True

    @property
    def configurations(self) -> list[Configuration]:
        return [
            Configuration(state, done, spent)
            for (state, done), found in self._spent.items()
            for spent in found
        ]
