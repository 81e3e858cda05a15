#!/usr/bin/env python3
"""Our tokenizers beside Hugging Face's, in one run: encoding, two threads against two processes, training.

Usage: bench_tokenizers.py TOKENIZER_BENCH TEXT [FOLDER]

TOKENIZER_BENCH is build/tests/bench/tokenizer_bench, TEXT about 10 MB. Without `pip install tokenizers` only our
figures are printed.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
try:
    import tokenizers
except ImportError:
    tokenizers = None


def ours(*args):
    return json.loads(subprocess.run([sys.argv[1], *map(str, args)], check=True, capture_output=True).stdout)


def best(work, rounds=3):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def lines(text):
    """Cut behind \\n alone: splitlines would cut at other characters, too."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def theirs_train(text, size, parallel):
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if parallel else "false"
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = tokenizers.decoders.ByteLevel()
    t.train_from_iterator(lines(text), tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return t


def documents(text, size=64 << 10):
    out, part, length = [], [], 0
    for line in lines(text):
        part.append(line)
        length += len(line.encode())
        if length >= size:
            out.append("".join(part))
            part, length = [], 0
    return out + ["".join(part)]


def main():
    path = sys.argv[2]
    folder = sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp()
    megabytes = os.path.getsize(path) / 1e6
    print(f"{megabytes:.1f} MB of text")
    for size in (8192, 32768):
        row = ours("train", path, size, f"{folder}/ours-{size}.json")
        print(f"train to {size}: ours {row['seconds']:.2f} s", end="")
        if tokenizers:
            text = open(path, newline="").read()
            seconds = best(lambda: theirs_train(text, size, True), 1 if size > 10000 else 2)
            print(f", theirs {seconds:.2f} s with all threads ({seconds / row['seconds']:.2f} times ours)", end="")
            theirs = json.loads(theirs_train(text, size, True).to_str())["model"]["merges"]
            mine = json.load(open(f"{folder}/ours-{size}.json"))["model"]["merges"]
            print("; merges are " + ("the same" if [" ".join(m) for m in theirs] == mine else "NOT the same"), end="")
        print()
    json_path = f"{folder}/ours-32768.json"
    one = ours("encode", json_path, path)
    print(f"encode, one thread: ours {one['mb_per_s']:.1f} MB/s, {one['tokens']} tokens", end="")
    if tokenizers:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        t = tokenizers.Tokenizer.from_file(json_path)
        parts = documents(open(path, newline="").read())
        # Their fastest way, without offsets.
        seconds = best(lambda: t.encode_batch_fast(parts, add_special_tokens=False))
        count = sum(len(t.encode(p, add_special_tokens=False).ids) for p in parts)
        print(f"; theirs {megabytes / seconds:.1f} MB/s, {count} tokens: ours is {one['mb_per_s'] * seconds / megabytes:.1f} times theirs")
    else:
        print()
    two = ours("encode", json_path, path, 2)
    command = [sys.argv[1], "encode", json_path, path]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    together = sum(json.loads(p.communicate()[0])["mb_per_s"] for p in processes)
    print(f"two threads {two['mb_per_s']:.1f} MB/s, two processes {together:.1f} MB/s together: {two['mb_per_s'] / together:.2f}")


main()
