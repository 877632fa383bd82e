"""Files that are broken, of a shape that is not read, or something else than their names say: one clear line each."""

from __future__ import annotations

import gzip
import io

import datasets
import pytest

from hf_unlearn import load_rows


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def parquet(rows: int = 1000) -> bytes:
    buffer = io.BytesIO()
    datasets.Dataset.from_dict({"text": ["a"] * rows}).to_parquet(buffer)
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in, please</title>\n".lstrip()
LATIN = "text,label\ncaf\u00e9,1\n".encode("latin-1")


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.json", b"{not json", "is no JSON: line 1, Expecting property name"),
    ("a.jsonl", b'{"text": "a"}\n{"text":\n', "is no JSON: line 2, Expecting value"),
    ("b.jsonl", b"", "is empty: a file of 0 bytes"),
    ("c.jsonl", b"\n\n", "has no rows."),
    ("d.jsonl", b"{}\n{}\n", "has no rows."),
    ("e.jsonl", b'["a", "b"]\n["c", "d"]\n', 'holds ["a", "b"] in line 1 where a row should be.'),
    ("f.jsonl", b'"a"\n"b"\n', 'holds "a" where rows should be.'),
    ("g.jsonl", b'{"text": "a"}\n3\n', "holds 3 in line 2"),
    ("h.jsonl", b'{"text": "a", "text": "b"}\n', "gives 'text' twice in one row in line 1"),
    ("i.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}\n', "half a character in line 2"),
    ("j.jsonl", b"{'text': 'a'}\n", "is no JSON: line 1, Expecting property name enclosed in double quotes"),
    ("k.jsonl", b'// rows\n{"text": "a"}\n', "is no JSON: line 1, Expecting value"),
    ("l.jsonl", '{"text": "a"}\n'.encode("utf-16"), "is no text in UTF-8 (byte 0: invalid start byte)"),
    ("m.jsonl", '{"text": "caf\u00e9"}\n'.encode("latin-1"), "is no text in UTF-8 (byte 13: invalid contin"),
    ("n.jsonl", LFS, "is a pointer of Git LFS, not the file itself. Fetch that by `git lfs pull`."),
    ("o.jsonl", PAGE, "is a web page. Was it downloaded without a login"),
    ("p.jsonl", gzip.compress(b'{"text": "a"}\n'), "is packed by gzip. Give its name the ending .gz."),
    ("q.jsonl", parquet(), "is a Parquet file. Give its name the ending .parquet."),
    ("b.json", b"null", "begins with null where its first row should be"),  # Arrow ends the process there
    ("c.json", b'[null, {"text": "a"}]', "begins with null"),
    ("d.json", b"3", "holds 3 where rows should be"),
    ("e.json", b"[]", "has no rows."),
    ("f.json", b"{}", "has no rows."),
    ("g.json", b'{"version": 1, "data": [{"text": "a"}]}', "with the keys 'version', 'data', and no table of rows"),
    ("h.json", b'{"text": ["a", "b"], "label": [1]}', "with the keys 'text', 'label', and no table of rows"),
    ("i.json", b'{"train": [["a", "b", "c"]]}', "and no table of rows"),
    ("j.json", b'[{"text": "a"},]', "is no JSON: line 1, Expecting value at character 16"),
    ("k.json", b'[{"text": "a"}, {"text": "b"', "is no JSON: line 1, Expecting ',' delimiter"),
    ("l.json", b"text: a\nlabel: 1\n", "is no JSON: line 1, Expecting value at character 1"),
    ("a.csv", LATIN, "is no text in UTF-8 (byte 14: invalid continuation byte); save it in that encoding."),
    ("b.csv", b"text,label\na,b,c\nd,e,f\n", "lines have more values than the header has names (2)"),
    ("c.csv", b"text,label\n", "has no rows"),
    ("d.csv", b'text,label\n"a,1\nb,2\n', "cannot be read as csv: Error tokenizing data"),
    ("e.csv", b"text;label\na;1\n", "its header, 'text;label', is one name. Values must be separated by commas"),
    ("f.csv", b"text\tlabel\na\t1\n", "separated by commas"),
    ("g.csv", b"\n\n", "has no rows."),
    ("h.csv", b"text,text\na,b\n", "has 'text' twice in its header: which of the two is meant?"),
    ("i.csv", b"PK\x03\x04\x14\x00\x06\x00xx", "is a zip archive or a workbook of Excel. Unpack it, or save the table"),
    ("j.csv", PAGE, "is a web page."),
    ("k.csv", LFS, "is a pointer of Git LFS"),
    ("l.csv", "text,label\na,1\n".encode("utf-16"), "is no text in UTF-8"),
    ("m.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "is a workbook of Excel. Save the table as CSV in UTF-8."),
    ("n.csv", b"%PDF-1.7\n", "is a PDF."),
    ("o.csv", b'<?xml version="1.0"?>\n<rows/>\n', "is XML. Save the rows as CSV or JSON."),
    ("a.parquet", parquet()[:300], "cannot be read as parquet: Parquet magic bytes not found"),
    ("b.parquet", b"PAR1", "cannot be read as parquet"),
    ("c.parquet", parquet(0), "has no rows."),
    ("d.parquet", b"text,label\na,1\n", "cannot be read as parquet: Parquet magic bytes not found"),
    ("e.parquet", LFS, "is a pointer of Git LFS"),
    ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:40], "is damaged: Compressed file ended before"),
    ("b.jsonl.gz", gzip.compress(b'{"text":\n'), "is no JSON: line 1"),
    ("c.jsonl.gz", gzip.compress(b""), "has no rows."),
    ("a.json.gz", b'{"text": ["a"]}', "is damaged: Not a gzipped file"),
    ("a.csv.gz", gzip.compress(LATIN), "is no text in UTF-8"),
], ids=lambda value: value if isinstance(value, str) and len(value) < 12 else "")  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_one_line_with_its_name(tmp_path, caplog, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_rows(str(tmp_path / name))
    assert said in str(error.value) and str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
    assert not caplog.records  # told once


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.xlsx", "a.arrow", "a.jsonl.zst", "a.parquet.gz"])
def test_another_type_is_told_by_its_name_and_argument(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    for where, argument in (((str(tmp_path / name),), "`name`"), (("mine", str(tmp_path / name)), "`data_files`")):
        with pytest.raises(ValueError, match="is no file of type .jsonl, .json, .csv, .parquet") as error:
            load_rows(*where)
        assert name in str(error.value) and argument in str(error.value) and "\n" not in str(error.value)


def test_a_byte_that_is_no_text_is_found_wherever_the_reading_is_cut(tmp_path, monkeypatch):
    from hf_unlearn.data.rows import strangers

    text = '{"text": "na\u00efve caf\u00e9"}\n'.encode()
    for chunk in (1, 2, 3, 5, 100):
        monkeypatch.setattr(strangers, "CHUNK", chunk)
        (tmp_path / "a.jsonl").write_bytes(text)
        assert strangers.not_text(tmp_path / "a.jsonl") is None
        (tmp_path / "a.jsonl").write_bytes(text + b"\xe9\n")
        assert f"(byte {len(text)}: " in strangers.not_text(tmp_path / "a.jsonl")
        (tmp_path / "a.jsonl").write_bytes(text[:13])  # ends within a letter
        assert "unexpected end of data" in strangers.not_text(tmp_path / "a.jsonl")


def test_ids_of_several_kinds_are_words_and_one_of_several_rows_is_told(tmp_path, caplog):
    for content, ids in (('{"id": 1}\n{"id": "a"}\n', ["1", "a"]), ('{"id": 1.5}\n{"id": "1"}\n', ["1.5", "1"])):
        (tmp_path / "rows.jsonl").write_text(content)
        assert load_rows(str(tmp_path / "rows.jsonl"))["id"][:] == ids and not caplog.records
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n{"id": 7}\n{"id": 7}\n')
    assert load_rows(str(tmp_path / "rows.jsonl"))["id"][:] == ["1", "7", "7"]
    assert "has 2 different values in 3 rows; 7, say, stands in several." in caplog.text
