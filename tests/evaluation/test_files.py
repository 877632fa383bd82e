"""Row tables, score cards and reports on the disk: a damaged file is found and named, a full disk keeps the old one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.row_tables import table

from hf_unlearn.evaluation import ModelScores, Scorecard, load_tables, save_tables
from hf_unlearn.evaluation.parquet import parquet_bytes, read_parquet, table_digest
from hf_unlearn.evaluation.tables import described, with_description


def card() -> Scorecard:
    measured = {"forget_loss": {"value": 1.0, "low": 0.5, "high": None, "n": 4}}
    run = {"task": "people", "seed": 0, "measures": measured}
    tables, texts = {"forget": table()}, {"forget": pa.table({"prompt": ["é", "b"], "answer": ["", None]})}
    return Scorecard([ModelScores(model="unlearned", **run, tables=tables, generations=texts, history=[{"step": 1}]),
                      ModelScores(model="original", **run)])  # fmt: skip


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def same(found: pa.Table, written: pa.Table) -> bool:
    return found.equals(written) and described(found) == described(written)


def test_every_flipped_byte_in_a_table_is_found_or_harmless(tmp_path):
    written, path, found = table(), tmp_path / "forget.parquet", 0
    data = parquet_bytes(written)
    path.write_bytes(data)
    assert same(read_parquet(path), written)
    places = range(0, len(data), 7)
    for place in places:
        path.write_bytes(flipped(data, place))
        try:
            assert same(read_parquet(path), written), place
        except ValueError as error:
            assert str(error).startswith(str(path)) and "damaged" in str(error) and len(str(error)) < 400
            found += 1
    assert found > len(places) / 3


def test_a_table_is_the_same_however_it_lies_in_memory_and_old_ones_are_read(tmp_path):
    """Cut, put together, written by another's hand; the digest goes by values."""
    long = pa.concat_tables([table(2), table(5).slice(2)])
    assert table_digest(with_description(long, described(table()))) == table_digest(
        with_description(long.combine_chunks(), described(table()))
    )
    assert table_digest(table(4).slice(0, 3)) == table_digest(table(3)) != table_digest(table(4).slice(1))
    nulls = table(zlib_bytes=pa.array([3, None, 5]), margin=pa.array([0.5, None, -0.5]))
    for rows in (long, nulls, nulls.slice(1), table(0), table().drop_columns(["token_nll"])):
        save_tables({"forget": rows}, tmp_path)
        assert same(read_parquet(tmp_path / "forget.parquet"), rows)
    pq.write_table(table(), tmp_path / "forget.parquet")
    assert same(load_tables(tmp_path)["forget"], table())
    (tmp_path / "forget.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"forget.parquet cannot be read: it is damaged, or no Parquet file \("):
        load_tables(tmp_path)


@pytest.mark.parametrize("name", ["scorecard.json", "history.json", "rows.parquet", "generations.parquet"])
def test_flipped_bytes_in_the_files_of_a_score_card_are_found(tmp_path, name):
    card().save(tmp_path)
    path = tmp_path / name
    data, before = path.read_bytes(), Scorecard.load(tmp_path)
    for place in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(flipped(data, place))
        try:
            after = Scorecard.load(tmp_path)
        except ValueError as error:
            assert str(error).startswith(str(path)), error
            continue
        for a, b in zip(before.runs, after.runs, strict=True):
            assert a.to_dict() == b.to_dict() and a.history == b.history
            for kind in ("tables", "generations"):
                ours, theirs = getattr(a, kind), getattr(b, kind)
                assert ours.keys() == theirs.keys() and all(same(theirs[s], ours[s]) for s in ours)


@pytest.mark.parametrize("content, words", [
    ("[]", "should hold a JSON object"), ("{", "cannot be read, it is damaged or no JSON"), ("", "cannot be read"),
    ('{"schema": [1]}', "has schema"), ('{"schema": 2}', "`runs` are not what"), ('{"schema": 2, "runs": 3}', "`runs`"),
    ('{"schema": 2, "runs": [{"x": 1}]}', "`runs`"), ('{"schema": 2, "runs": [7]}', "`runs`"),
])  # fmt: skip
def test_a_score_card_of_another_shape_is_told_with_its_file(tmp_path, content, words):
    (tmp_path / "scorecard.json").write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        Scorecard.load(tmp_path)
    assert "scorecard.json" in str(caught.value)
    (tmp_path / "scorecard.json").unlink()
    with pytest.raises(FileNotFoundError, match="there is no score card"):
        Scorecard.load(tmp_path)


def test_a_score_card_without_digests_is_read(tmp_path):
    card().save(tmp_path)
    content = json.loads((tmp_path / "scorecard.json").read_text())
    del content["digest"]
    (tmp_path / "scorecard.json").write_text(json.dumps(content))
    rows = pq.read_table(tmp_path / "rows.parquet")
    said = {k: v for k, v in rows.schema.metadata.items() if k == b"hf_unlearn"}
    pq.write_table(rows.replace_schema_metadata(said), tmp_path / "rows.parquet")
    assert same(Scorecard.load(tmp_path)["unlearned"].tables["forget"], table())


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    card().save(tmp_path)
    card().to_html(tmp_path / "report.html")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, left = Path.write_bytes, [2]

    def write(self, content):
        left[0] -= 1
        if left[0] < 0:
            real(self, content[:5])
            raise OSError(28, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    other = card()
    other.runs[0].tables = {"forget": table(5)}
    other.runs[0].history = []  # its file goes with the old card, not before
    with pytest.raises(OSError, match="No space"):
        other.save(tmp_path)
    with pytest.raises(OSError, match="No space"):
        other.to_html(tmp_path / "report.html")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_an_earlier_card_go_where_the_new_one_has_none(tmp_path):
    """They would be taken for the new card's, by task, role and seed; the old forget rows' texts would stay."""
    card().save(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    plain = Scorecard([ModelScores("people", "unlearned", 0, {"forget_loss": {"value": 2.0}})])
    plain.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scorecard.json"]
    again = Scorecard.load(tmp_path)["unlearned"]
    assert again.measures["forget_loss"]["value"] == 2.0
    assert (again.tables, again.generations, again.history) == ({}, {}, [])
    again = card()
    again.runs[0].tables = {}
    card().save(tmp_path)
    again.save(tmp_path)  # each file for itself
    assert {path.name for path in tmp_path.iterdir()} >= {"generations.parquet", "history.json", "scorecard.json"}
    assert not (tmp_path / "rows.parquet").exists() and Scorecard.load(tmp_path)["unlearned"].generations


def test_tables_of_an_earlier_model_go_where_a_folder_is_to_hold_these_alone(tmp_path):
    save_tables({"forget": table(), "forget_int4": table()}, tmp_path)
    save_tables({"forget": table(5)}, tmp_path)
    assert set(load_tables(tmp_path)) == {"forget", "forget_int4"}
    save_tables({"forget": table(5)}, tmp_path, alone=True)
    assert {split: rows.num_rows for split, rows in load_tables(tmp_path).items()} == {"forget": 5}
