# SPDX-License-Identifier: MIT
from hypothesis import given
from hypothesis import strategies as st

from smls.arriving import Arriving

MOST = 100
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 120) | st.none()), max_size=60)


@given(STEPS)
def test_the_bound_holds_and_those_who_began_first_go(steps):
    arriving = Arriving(MOST)
    senders = {}
    for sender, size in steps:
        if size is None:
            arriving.remove(sender)
            senders.pop(sender, None)
            continue
        out = arriving.add(sender, size)
        senders[sender] = senders.get(sender, 0) + size
        assert out == list(senders)[: len(out)]
        # None goes whose room was not needed.
        assert not out or sum(senders.values()) - sum(senders[each] for each in out[:-1]) > MOST
        for each in out:
            del senders[each]
        assert arriving.held == sum(senders.values()) <= MOST
