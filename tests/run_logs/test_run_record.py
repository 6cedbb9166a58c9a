"""`run.json`: what it keeps of a run's starts, and that a damaged one is none."""

from dataclasses import replace
from pathlib import Path

import pytest

from winnow.run_logs.run_record import (
    RECORD,
    Machine,
    RunRecord,
    Start,
    configuration_hashes,
    new_record,
    now,
    read_record,
    run_id,
    this_machine,
    write_record,
)

MACHINE = Machine({"torch": "2.13.0", "winnow": "1"}, "a CPU", 2, "cpu")


def recorded() -> RunRecord:
    first = Start(0, now(), {"config.yaml": "ab"}, MACHINE)
    changed = ("optim.lr was 1e-06 and is 0.0007", "seed was 0 and is 1")
    resumed = Start(40, now(), {"config.yaml": "cd"}, MACHINE, changed, ".hydra/until_000040")
    return replace(new_record("train"), starts=(first, resumed))


def test_a_record_reads_back_as_it_was_written(tmp_path: Path):
    record = recorded()
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert run_id(tmp_path) == record.run


def test_changes_name_the_iteration_after_which_they_hold():
    assert recorded().changes == [
        "after iteration 40: optim.lr was 1e-06 and is 0.0007",
        "after iteration 40: seed was 0 and is 1",
    ]


def test_no_two_runs_have_one_id():
    assert len({new_record("train").run for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": "a"}', '{"run": "a", "program": "train", "starts": [1]}'])
def test_a_damaged_record_is_none(tmp_path: Path, text: str):
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None
    assert run_id(tmp_path) is None


def test_machines_differ_in_words():
    other = Machine({"torch": "2.14.0", "winnow": "1", "peft": "1"}, "another CPU", 4, "cpu")
    assert MACHINE.differences(MACHINE) == []
    assert MACHINE.differences(other) == [
        "peft None, not 1",
        "torch 2.13.0, not 2.14.0",
        "CPU a CPU, not another CPU",
        "threads 2, not 4",
    ]


def test_this_machine_is_the_same_twice():
    assert this_machine(1, "cpu").differences(this_machine(1, "cpu")) == []


def test_configuration_hashes_tell_each_file(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "overrides.yaml").write_text("[]\n")
    (tmp_path / "until_000040").mkdir()
    before = configuration_hashes(tmp_path)
    assert sorted(before) == ["config.yaml", "overrides.yaml"]
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    after = configuration_hashes(tmp_path)
    assert [name for name in before if before[name] != after[name]] == ["config.yaml"]
