#!/usr/bin/env python3
"""Writes the files of tests/golden/parquet with pyarrow (26.0.1 made those that are committed).

    tests/tools/make_parquet.py tests/golden/parquet

Each file holds rows of Rows(): the test knows the same rule. Kept small: all of them together are under 400 KiB.
"""
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 300


def text(i):
    """None every 7th row; else words that repeat, in several scripts, some empty, one long."""
    if i % 7 == 3:
        return None
    if i % 11 == 5:
        return ""
    if i == 42:
        return "long " * 400
    words = ["dragon", "hatchling", "größe", "水", "🐉", "synapse"]
    return " ".join(words[(i * k + k) % 6] for k in range(1, 2 + i % 5)) + (f" {i}" if i % 3 else "")


def rows(n=ROWS):
    return [text(i) for i in range(n)]


def score(i):
    return None if i % 13 == 4 else i * 0.5


def table(n=ROWS, string=None):
    return pa.table(
        {
            "id": pa.array(range(n), pa.int64()),
            "text": pa.array(rows(n), string or pa.string()),
            "score": pa.array([score(i) for i in range(n)], pa.float64()),
            "count": pa.array([None if i % 13 == 4 else i * 3 - 50 for i in range(n)], pa.int32()),
        }
    )


def lists_beside():
    """Columns that are not read: lists of strings, of lists, of structs with strings, and a map, before and after the text."""
    def some(i, make):
        return None if i % 5 == 1 else [make(k) for k in range(i % 4)]

    data = table()
    tags = pa.array([some(i, str) for i in range(ROWS)], pa.list_(pa.string()))
    nested = pa.array([some(i, lambda k: ["a"] * k) for i in range(ROWS)], pa.list_(pa.list_(pa.string())))
    turns = pa.array([some(i, lambda k: {"role": "user", "text": f"turn {k}"}) for i in range(ROWS)],
                     pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())])))
    labels = pa.array([some(i, lambda k: (f"key {k}", k)) for i in range(ROWS)], pa.map_(pa.string(), pa.int32()))
    return data.add_column(1, "tags", tags).add_column(2, "nested", nested).append_column("messages", turns).append_column("labels", labels)


def main(folder):
    os.makedirs(folder, exist_ok=True)

    def write(name, data=None, **options):
        options.setdefault("compression", "none")
        pq.write_table(table() if data is None else data, os.path.join(folder, name + ".parquet"), **options)

    for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
        write("codec_" + codec, compression=codec)
    write("plain", use_dictionary=False)
    write("plain_v2", use_dictionary=False, data_page_version="2.0", compression="zstd")
    write("dictionary_v2", data_page_version="2.0", compression="snappy")
    write("dictionary_old", version="1.0")
    write("delta_length", use_dictionary=False, column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY", "count": "DELTA_BINARY_PACKED"})
    write("delta", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY", "score": "BYTE_STREAM_SPLIT"},
          data_page_version="2.0")
    write("groups", row_group_size=37)
    write("pages", data_page_size=256, write_batch_size=16)
    write("fallback", dictionary_pagesize_limit=300, data_page_size=512, write_batch_size=16)
    write("checksums", write_page_checksum=True, compression="snappy", data_page_size=1024, write_batch_size=32)
    write("large_string", table(string=pa.large_string()))
    write("binary", table(string=pa.binary()))
    write("no_statistics", write_statistics=False)
    write("page_index", write_page_index=True, data_page_size=512, write_batch_size=16)
    write("empty", table(0))
    write("all_null", pa.table({"text": pa.array([None] * 50, pa.string())}))
    required = pa.schema([pa.field("text", pa.string(), nullable=False)])
    write("required", pa.table({"text": pa.array([t or "" for t in rows()], pa.string())}, schema=required))
    write("required_v2", pa.table({"text": pa.array([t or "" for t in rows()], pa.string())}, schema=required),
          data_page_version="2.0", compression="gzip")
    nested = pa.array([None if t is None else {"text": t, "lang": "xx"} for t in rows()],
                      pa.struct([("text", pa.string()), ("lang", pa.string())]))
    write("struct", pa.table({"doc": nested, "id": pa.array(range(ROWS))}))
    write("list", pa.table({"text": pa.array([["a", "b"], None, ["c"]], pa.list_(pa.string())), "id": pa.array([1, 2, 3])}))
    write("lists_beside", lists_beside(), data_page_size=512, write_batch_size=16)
    write("numbers", pa.table({"id": pa.array([1, 2, 3]), "x": pa.array([1.0, 2.0, 3.0])}))
    write("two_texts", pa.table({"question": pa.array(["q"]), "answer": pa.array(["a"])}))


if __name__ == "__main__":
    main(sys.argv[1])
