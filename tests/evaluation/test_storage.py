"""Parquet files of an evaluation: what is stored reads back, from files of earlier versions too."""

from dataclasses import replace
from pathlib import Path

from pyarrow import parquet

from winnow.evaluation.storage import SampleStore, read_samples, table_of
from winnow.run_logs.run_files import ID_COLUMNS, SampleRecord

SAMPLE = SampleRecord(None, "p1", 0, "4+7=", "11;}", "11", "11", "correct", None, None, False, 3, "eos", 0.25)
WITH_IDS = replace(SAMPLE, prompt_ids=(4, 151_643), response_ids=(9, 2, 151_645))


def test_samples_read_back_with_their_token_ids(tmp_path: Path):
    store = SampleStore(tmp_path)
    store.write("set", 0, [WITH_IDS, SAMPLE])
    store.seal("set", 1)
    assert read_samples(store.whole("set")) == [WITH_IDS, SAMPLE]


def test_an_evaluation_begun_by_an_earlier_version_is_finished_and_read(tmp_path: Path):
    store = SampleStore(tmp_path)
    store.write("set", 1, [WITH_IDS])
    parquet.write_table(table_of([SAMPLE]).drop_columns(list(ID_COLUMNS)), tmp_path / "set" / "batch_000000.parquet")
    store.seal("set", 2)
    assert read_samples(store.whole("set")) == [SAMPLE, WITH_IDS]
    parquet.write_table(table_of([SAMPLE]).drop_columns(list(ID_COLUMNS)), tmp_path / "old.parquet")
    assert read_samples(tmp_path / "old.parquet") == [SAMPLE]
