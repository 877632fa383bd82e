"""Row hashes on the disk tell nothing of a row without the owner's salt, and are compared with it."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.row_tables import table
from helpers.tiny import image_rows

from hf_unlearn.evaluation import ModelScores, Scorecard, load_tables, row_keys, save_tables
from hf_unlearn.evaluation.parquet import read_parquet
from hf_unlearn.evaluation.rows import data_hash, row_hashes
from hf_unlearn.evaluation.tables import described, with_description
from hf_unlearn.utils.salts import SALT, salt_for

ROWS = image_rows(3)
HASHES = row_hashes(ROWS)


def saved(folder):
    save_tables({"forget": table(row_hash=HASHES)}, folder)
    return read_parquet(folder / "forget.parquet")["row_hash"].to_pylist()


def test_hashes_on_the_disk_are_keyed_and_the_rows_are_still_compared(tmp_path):
    first, second = saved(tmp_path / "a"), saved(tmp_path / "b")
    assert not {*first, *second} & {*HASHES} and not {*first} & {*second}
    assert len({*first}) == 3 and {len(h) for h in first} == {32}
    load_tables(tmp_path / "a", splits={"forget": ROWS})
    with pytest.raises(ValueError, match="2 of 3 rows differ in content"):
        load_tables(tmp_path / "a", splits={"forget": ROWS.select([0, 2, 1])})
    save_tables(load_tables(tmp_path / "a"), tmp_path / "b")  # keyed once
    assert read_parquet(tmp_path / "b" / "forget.parquet")["row_hash"].to_pylist() == first


def test_folders_below_one_share_its_salt(tmp_path):
    salt_for(tmp_path)
    assert saved(tmp_path / "tables" / "original") == saved(tmp_path / "tables" / "retrained")
    assert [path.parent for path in tmp_path.rglob(SALT)] == [tmp_path]
    measured = {"forget_loss": {"value": 1.0, "low": None, "high": None, "n": 3}}
    run = ModelScores(task="t", model="original", seed=0, measures=measured, tables={"forget": table(row_hash=HASHES)})
    Scorecard([run]).save(tmp_path)
    loaded = Scorecard.load(tmp_path)["original"].tables["forget"]
    other = load_tables(tmp_path / "tables" / "original")["forget"]
    assert row_keys.differing(loaded, other["row_hash"].to_pylist(), row_keys.key_of(other), "x") == []
    assert row_keys.differing(loaded, HASHES[::-1], None, "x") == [0, 2]
    plain = table(row_hash=HASHES)
    assert row_keys.differing(plain, loaded["row_hash"].to_pylist(), row_keys.key_of(loaded), "x") == []


def card_of(rows, seed: int = 0) -> Scorecard:
    """A card whose provenance says what rows it is of, as `evaluate` makes it."""
    measured = {"forget_loss": {"value": 1.0, "low": None, "high": None, "n": 1}}
    hashes = row_hashes(rows)
    tables = {"forget": with_description(table(len(rows), row_hash=hashes), {"schema": 2, "data": data_hash(hashes)})}
    run = ModelScores(task="t", model="original", seed=seed, measures=measured, tables=tables)
    said = {"rows": len(rows), "hash": data_hash(hashes)}
    return Scorecard([run], {"t": {"data": {"forget": said}}})


def test_a_request_of_one_row_cannot_be_guessed_from_any_file(tmp_path):
    plain = data_hash(row_hashes(ROWS.select([0]))).encode()
    card = card_of(ROWS.select([0]))
    card.to_html(tmp_path / "alone" / "report.html")  # where there is no salt yet, and none is drawn
    assert not list(tmp_path.rglob(SALT))
    card.save(tmp_path / "a")
    save_tables(card["original"].tables, tmp_path / "a" / "tables")
    card.to_html(tmp_path / "a" / "report.html")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6 and not [path for path in files if plain in path.read_bytes()]
    loaded = Scorecard.load(tmp_path / "a")
    loaded.save(tmp_path / "b")  # keyed once
    assert Scorecard.load(tmp_path / "b").provenance == loaded.provenance
    said = loaded.provenance["t"]["data"]["forget"]
    assert loaded.to_dict()["provenance"] == Scorecard.load(tmp_path / "b").to_dict()["provenance"]
    assert said["salt"] == described(loaded["original"].tables["forget"])["data_salt"]
    assert said["hash"] == described(loaded["original"].tables["forget"])["data"]


def test_cards_of_other_rows_are_told_apart_through_the_salt(tmp_path):
    card_of(ROWS).save(tmp_path / "a")
    loaded, same, other = Scorecard.load(tmp_path / "a"), card_of(ROWS, 1), card_of(ROWS.select([0, 2, 1]), 1)
    assert len((loaded + same).runs) == len((same + loaded).runs) == 2
    for pair in ((loaded, other), (other, loaded)):
        with pytest.raises(ValueError, match="of other rows .forget."):
            pair[0] + pair[1]
    other.save(tmp_path / "a" / "c")  # under the same salt
    with pytest.raises(ValueError, match="of other rows"):
        loaded + Scorecard.load(tmp_path / "a" / "c")
    same.provenance["t"]["data"]["forget"] |= {"hash": "0" * 32, "salt": "of another folder"}
    assert len((loaded + same).runs) == 2  # not known
    same.provenance["t"]["data"]["forget"]["rows"] = 7
    with pytest.raises(ValueError, match="of other rows"):
        loaded + same


def test_a_card_of_an_older_version_is_read_and_compared(tmp_path):
    old = card_of(ROWS)
    (tmp_path / "scorecard.json").write_text(json.dumps(old.to_dict()))
    loaded = Scorecard.load(tmp_path)
    assert loaded.provenance == old.provenance
    with pytest.raises(ValueError, match="of other rows"):
        loaded + card_of(ROWS.select([0, 2, 1]), 1)


def test_without_the_salt_that_rows_cannot_be_compared_is_told(tmp_path, monkeypatch, caplog):
    saved(tmp_path / "a" / "b" / "c" / "d" / "e")
    shutil.copytree(tmp_path / "a", tmp_path / "sent", ignore=shutil.ignore_patterns("_*"))
    monkeypatch.setattr(row_keys, "_KNOWN", {})  # of another process
    load_tables(tmp_path / "sent" / "b" / "c" / "d" / "e", splits={"forget": ROWS.select([0, 2, 1])})
    assert "by their number alone" in caplog.text and SALT in caplog.text
    with pytest.raises(ValueError, match="3 rows, the split has 2"):
        load_tables(tmp_path / "sent" / "b" / "c" / "d" / "e", splits={"forget": ROWS.select([0, 2])})
