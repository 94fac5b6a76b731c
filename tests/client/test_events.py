# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls import events
from smls.errors import BadRecord
from smls.events import Event, EventParser

TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
EVENTS = st.lists(st.builds(Event, TEXT.filter(bool), TEXT, TEXT), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at each of the places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@given(EVENTS, ENDS, TEXT, st.lists(st.integers(0, 10_000), max_size=10))
def test_events_come_out_as_they_went_in_however_they_are_cut(told, end, comment, cuts):
    lines = []
    for each in told:
        fields = [f"event: {each.name}", f"id: {each.id}", f"data: {each.data}"]
        lines += [f": {comment}", *fields, "unknown: field", "nothing", ""]
    stream = "".join(f"{line}{end}" for line in lines).encode()
    parser = EventParser()
    assert [event for piece in pieces(stream, cuts) for event in parser.feed(piece)] == told


def all_of(stream: bytes) -> list[Event]:
    return EventParser().feed(stream)


def test_a_heartbeat_is_no_event():
    parser = EventParser()
    assert parser.feed(b": heartbeat\n\n: heartbeat\n\n") == []
    assert parser.comments == 2


def test_an_id_holds_until_the_next_and_a_name_for_its_event_alone():
    stream = b"id: 7\nevent: delta\ndata: a\n\ndata: b\n\nid: 8\n\ndata: c\n\n"
    assert all_of(stream) == [
        Event("delta", "a", "7"),
        Event("message", "b", "7"),
        Event("message", "c", "8"),
    ]


def test_data_may_have_several_lines_and_one_space_before_it_is_none_of_it():
    assert all_of(b"data:a\ndata:  b\ndata\n\n") == [Event("message", "a\n b\n", "")]


def test_an_event_without_its_empty_line_is_none():
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [Event("message", "a", "")]


def test_a_byte_order_mark_is_skipped_at_the_beginning_alone():
    assert all_of("\ufeffdata: a\n\n\ufeffdata: b\n\n".encode()) == [Event("message", "a", "")]


def test_an_id_with_a_null_is_ignored():
    assert all_of(b"id: 7\nid: 8\x00\ndata: a\n\n") == [Event("message", "a", "7")]


@pytest.mark.parametrize("line", [b"data: aaaa", b"data: aaaa\n", b"event: a\nid: b\n"])
def test_an_event_without_end_is_an_error(monkeypatch, line):
    monkeypatch.setattr(events, "MAX_EVENT", 100)
    parser = EventParser()
    parser.feed(line)
    with pytest.raises(BadRecord, match="more than 100 bytes"):
        parser.feed(line * 100)


def test_many_small_events_are_not_one_large_one(monkeypatch):
    monkeypatch.setattr(events, "MAX_EVENT", 100)
    parser = EventParser()
    told = [event for _ in range(100) for event in parser.feed(b": heartbeat\n\ndata: a\n\n")]
    assert len(told) == 100


def test_what_is_no_text_is_an_error():
    with pytest.raises(BadRecord, match="wanted UTF-8"):
        all_of(b"data: \xff\xfe\n\n")
