"""Identifiers: of the form that others ask for, in the order of time, and never the same twice."""

from __future__ import annotations

import os
import random
import re

from gateway.identifiers import answer_id, answer_id_of, span_id, unique_hex

MS = 1_000_000  # ns


def test_the_time_stands_in_front() -> None:
    early, late = unique_hex(1_700_000_000_000 * MS), unique_hex(1_700_000_000_001 * MS)
    assert early[:12] == f"{1_700_000_000_000:012x}"
    assert early < late


def test_each_has_the_length_that_is_asked_for_whatever_comes_by_chance() -> None:
    made = {unique_hex(1) for _ in range(5_000)}
    assert len(made) == 5_000
    assert all(re.fullmatch("[0-9a-f]{48}", one) for one in made)
    spans = {span_id() for _ in range(5_000)}
    assert len(spans) == 5_000
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in spans)
    assert re.fullmatch("chatcmpl-[0-9a-f]{32}", answer_id())
    assert answer_id_of("call_0123") == "chatcmpl-0123"


def test_who_seeds_the_module_s_generator_repeats_none() -> None:
    random.seed(1)
    first = unique_hex(1)
    random.seed(1)
    assert unique_hex(1) != first


def test_a_forked_process_repeats_none_of_its_parent_s() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, unique_hex(1).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 48).decode() != unique_hex(1)
    os.close(reading), os.close(writing)
