#!/usr/bin/env python3
"""Makes tokenizers of many shapes and new texts for each, with what Hugging Face's library makes of them.

Usage: sweep_tokenizers.py OUTPUT_FOLDER [SEED [SHAPES [TEXTS]]]     (needs: pip install tokenizers==0.23.3)

Then: BDH_TOKENIZER_VECTORS=OUTPUT_FOLDER build/libs/tokenizer/tokenizer_files_test --gtest_filter='*Outside*'

Each shape is a folder as those of tests/golden/tokenizers (tokenizer.json.gz, ids.bin.gz), with a texts.jsonl.gz of its
own, and decode.bin.gz with ids by chance. The first shapes are those that models have, each with ten times as many texts; the others are put together by chance
from every part that we read.
"""
import base64
import gzip
import json
import os
import random
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_tokenizer_vectors as base

BEHAVIOURS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>", "<unk>"]
CODE = ["def ", "return", "self.x", "=", " == ", "!=", "{", "}", "();", "[i]", "->", "::", "//", "/* c */", "#include <a>", "0x1F", "1e-9", "\t\t",
        "\n    ", "\"s\"", "'c'", "\\n", "&amp;", "<br/>", "**bold**", "```\n", "- [ ] ", "| a | b |", "$x^2$", "CamelCase", "snake_case", "ALLCAPS", "it's", "I'LL"]
EMOJI = ["👩\u200d🔬", "👨\u200d👩\u200d👧", "🏳️\u200d🌈", "🇫🇷", "🇩", "👍🏽", "❤️", "☺", "1️⃣", "🫠", "🧑🏿\u200d🚀", "\u200d", "\ufe0f", "\U000e0067"]
MARKS = ["\u0300", "\u0301", "\u0308", "\u0323", "\u0327", "\u0345", "\u05b8", "\u064b", "\u093c", "\u0e49", "\u3099", "\u20dd", "\u1ab0", "\u0f71", "\u0f72", "\u1037"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u2028", "\u2029", "\u0085", "\u3000", "\u200b", "\u202f", "\u1680", "\u2003", "\ufeff", "\v", "\f", " \n ", "\n\n\n", "\u180e"]
CONTROLS = [chr(c) for c in list(range(32)) + list(range(0x7f, 0xa0))] + ["\ufffd", "\ufffe", "\U0001ffff", "\ue000", "\u00ad", "\u2060", "\u061c"]


def new_texts(rng, count, added):
    """`added` are contents of added tokens: they come beside all else."""
    words = [w for s in base.SENTENCES for w in s.split(" ") if w]
    assigned = [chr(c) for c in range(0x20, 0x30000) if not 0xD800 <= c < 0xE000]
    pools = [words, CODE, EMOJI, MARKS, SPACES, CONTROLS, base.PIECES, assigned, added or words, list("abcXYZ019 .,'-_")]

    def one():
        kind = rng.randrange(8)
        if kind == 0:
            return "".join(rng.choice(words) + rng.choice(SPACES) for _ in range(rng.randint(1, 10)))
        if kind == 1:
            return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 14)))
        if kind == 2:
            return rng.randbytes(rng.randint(1, 30)).decode("utf-8", "replace")
        if kind == 3:
            return "".join(rng.choice(SPACES) if rng.random() < .6 else rng.choice(words)[:3] for _ in range(rng.randint(1, 14)))
        if kind == 4:
            return "".join(rng.choice(words)[:4] + "".join(rng.choice(MARKS) for _ in range(rng.randrange(4))) for _ in range(rng.randint(1, 6)))
        if kind == 5:
            return "".join(rng.choice(CODE) for _ in range(rng.randint(1, 12)))
        if kind == 6:
            glue = ["", "", " ", "  ", "\n", "\t", "a", "1", "_", "é", "中", "\u00a0", "."]
            return "".join(rng.choice(added or SPECIALS) + rng.choice(glue) + (rng.choice(words) if rng.random() < .3 else "") for _ in range(rng.randint(1, 6)))
        block = rng.randrange(0, 0x20000, 64)
        chars = [chr(c) for c in range(block, block + 64) if not 0xD800 <= c < 0xE000] or ["x"]
        return "".join(rng.choice(chars) + (rng.choice(SPACES) if rng.random() < .1 else "") for _ in range(rng.randint(1, 16)))

    return [one() for _ in range(count)]


def charsmap():
    with gzip.open(os.path.join(os.path.dirname(__file__), "../golden/tokenizers/t5/tokenizer.json.gz")) as f:
        return json.load(f)["normalizer"]["normalizers"][0]


def from_json(tokenizer, **parts):
    data = json.loads(tokenizer.to_str())
    data.update(parts)
    return Tokenizer.from_str(json.dumps(data))


def trained(model, trainer, pre=None, normalizer=None, lines=None):
    t = Tokenizer(model)
    if pre is not None:
        t.pre_tokenizer = pre
    if normalizer is not None:
        t.normalizer = normalizer
    t.train_from_iterator(lines or base.corpus(), trainer)
    return t.model


def bpe(**kinds):
    affix = {k: kinds[k] for k in ("continuing_subword_prefix", "end_of_word_suffix") if k in kinds}
    lines = base.corpus() if not kinds.get("metaspace") else [s.replace(" ", "▁") for s in base.corpus()]
    specials = SPECIALS + (["<0x%02X>" % b for b in range(256)] if kinds.get("bytes") else [])
    t = Tokenizer(models.BPE())
    if not kinds.get("metaspace"):
        t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.train_from_iterator(lines[:160] if kinds.get("metaspace") else lines, trainers.BpeTrainer(vocab_size=1300, min_frequency=2, limit_alphabet=260, show_progress=False,
                                                      max_token_length=12, special_tokens=specials, **affix))
    data = json.loads(t.to_str())["model"]
    if kinds.get("some_bytes"):  # Of bytes that are not all there.
        for b in range(0, 256, 3):
            data["vocab"]["<byte %02X>" % b] = data["vocab"].pop("<0x%02X>" % b)
    data.update({"unk_token": kinds.get("unk"), "fuse_unk": kinds.get("fuse", False), "byte_fallback": bool(kinds.get("bytes")),
                 "ignore_merges": kinds.get("ignore_merges", False)})
    return data


def model_pool():
    byte_level = json.loads(base.byte_bpe(None).to_str())["model"]
    wordpiece = json.loads(Tokenizer(trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(
        vocab_size=1400, min_frequency=2, limit_alphabet=300, show_progress=False, special_tokens=SPECIALS),
        pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())).to_str())["model"]
    unigram = json.loads(Tokenizer(trained(models.Unigram(), trainers.UnigramTrainer(
        vocab_size=900, show_progress=False, unk_token="<unk>", special_tokens=SPECIALS + ["<0x%02X>" % b for b in range(256)]),
        pre_tokenizers.Metaspace(), normalizers.NFKC())).to_str())["model"]
    return {
        "byte_level": [byte_level, dict(byte_level, ignore_merges=True)],
        "bpe": [bpe(unk="<unk>"), bpe(unk="<unk>", fuse=True), bpe(), bpe(unk="<unk>", metaspace=True, fuse=True),
                bpe(unk="<unk>", bytes=True, metaspace=True, fuse=True), bpe(unk="<unk>", bytes=True, metaspace=True, ignore_merges=True),
                bpe(unk="<unk>", bytes=True, some_bytes=True), bpe(unk="<unk>", bytes=True, some_bytes=True, fuse=True),
                bpe(unk="[UNK]", end_of_word_suffix="</w>"), bpe(unk="[UNK]", fuse=True, continuing_subword_prefix="##"),
                bpe(unk="[UNK]", end_of_word_suffix="</w>", ignore_merges=True),
                bpe(unk="[UNK]", end_of_word_suffix="</w>", continuing_subword_prefix="@@")],
        "wordpiece": [wordpiece, dict(wordpiece, max_input_chars_per_word=5)],
        "unigram": [unigram, dict(unigram, byte_fallback=True)],
    }


def dump(part):
    return json.loads(part.__getstate__())


def normalizer_pool(rng):
    n = normalizers
    simple = [n.NFC(), n.NFD(), n.NFKC(), n.NFKD(), n.Lowercase(), n.StripAccents(), n.Strip(True, False), n.Strip(False, True), n.Strip(),
              n.Replace(" ", "▁"), n.Replace(Regex(r"\s+"), " "), n.Replace(Regex(" {2,}"), "▁"), n.Replace("''", '"'), n.Replace("e", ""), n.Prepend("▁"), n.Prepend(" "), n.Nmt(),
              n.BertNormalizer(clean_text=rng.random() < .5, handle_chinese_chars=rng.random() < .5, lowercase=rng.random() < .5,
                               strip_accents=rng.choice([None, True, False]))]
    simple = [dump(x) for x in simple] + [charsmap()]
    kind = rng.random()
    if kind < .2:
        return None
    if kind < .5:
        return rng.choice(simple)
    return {"type": "Sequence", "normalizers": [rng.choice(simple) for _ in range(rng.randint(2, 4))]}


PATTERNS = [" ", "-", "a", "ing", "..", Regex(r"\s+"), Regex(r"\w+"), Regex(r"\w+|[^\w\s]+"), Regex(r"\d"), Regex(r"\d{1,3}"), Regex(r"[A-Z]?[a-z]+"), Regex(r"\p{L}+|\p{N}+"), Regex(r"[^\r\n]+"),
            Regex(r"(?i)[aeiou]+"), Regex(r"\p{P}"), Regex(r"\p{Han}|\p{Hiragana}"), Regex(r"(?=[A-Z])"), Regex(r"\S+\s*"), Regex(base.LLAMA3), Regex(base.O200K), Regex(base.DEEPSEEK), Regex(r"x*"),
            Regex(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), Regex(r"^."), Regex(r".$"), Regex(r"(?<=[a-z])(?=[0-9])")]


def pre_tokenizer_pool(rng, byte_level):
    p = pre_tokenizers
    schemes = ["always", "first", "never"]
    simple = [p.Whitespace(), p.WhitespaceSplit(), p.BertPreTokenizer(), p.Punctuation(rng.choice(BEHAVIOURS)), p.Digits(rng.random() < .5),
              p.CharDelimiterSplit("-"), p.CharDelimiterSplit("é"), p.Metaspace(prepend_scheme=rng.choice(schemes), split=rng.random() < .6),
              p.Metaspace(replacement="_", prepend_scheme=rng.choice(schemes)),
              p.Split(rng.choice(PATTERNS), rng.choice(BEHAVIOURS), rng.random() < .3), p.Split(rng.choice(PATTERNS), rng.choice(BEHAVIOURS))]
    last = dump(p.ByteLevel(add_prefix_space=rng.random() < .4, use_regex=rng.random() < .5))
    count = rng.choice([0, 0, 1, 1, 2, 3])
    chosen = [dump(rng.choice(simple)) for _ in range(count)] + ([last] if byte_level else [])
    if not chosen:
        return None
    return chosen[0] if len(chosen) == 1 else {"type": "Sequence", "pretokenizers": chosen}


def decoder_pool(rng, kind):
    d = decoders
    schemes = ["always", "first", "never"]
    llama = d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    pool = {"byte_level": [d.ByteLevel()] * 4 + [d.Sequence([d.ByteLevel()]), d.Fuse()],
            "bpe": [d.BPEDecoder(), llama, d.Metaspace(prepend_scheme=rng.choice(schemes)), d.WordPiece("##"), d.Fuse(),
                    d.Sequence([d.ByteFallback(), d.Metaspace(prepend_scheme=rng.choice(schemes))]), d.Sequence([d.Replace("</w>", " "), d.Fuse(), d.Strip(" ", 1, 0)])],
            "wordpiece": [d.WordPiece("##", cleanup=True), d.WordPiece("##", cleanup=False)],
            "unigram": [d.Metaspace(prepend_scheme=rng.choice(schemes)), llama, d.Metaspace(replacement="▁", prepend_scheme="first"),
                        d.Sequence([d.ByteFallback(), d.Metaspace(), d.Fuse()])]}[kind]
    return None if rng.random() < .1 else dump(rng.choice(pool))


CONTENTS = ["<mask>", "[MASK]", "<|x|>", "word", "newtok", "Été", "ＡＢ", "  ", "\n", "a b", "é", "ﬁ", "İ", "<a>", "<a><b>", "ing", "12", "中文", "▁", "don't", "\u200d", "NEW", "new"]


def add_tokens(t, rng):
    contents = rng.sample(CONTENTS, rng.randint(0, 6))
    if t.normalizer is not None:
        # What is nothing when normalised is found everywhere, and makes theirs panic. Of two that become the same theirs
        # takes now one, now the other.
        made = [t.normalizer.normalize_str(c) for c in contents]
        contents = [c for c, m in zip(contents, made) if m and (made + CONTENTS).count(m) == (2 if m == c else 1)]
    for content in contents:
        # Theirs shows special tokens that normalising changes; ours shows none, so they are left out.
        special = rng.random() < .4
        token = AddedToken(content, single_word=rng.random() < .3, lstrip=rng.random() < .3, rstrip=rng.random() < .3,
                           normalized=rng.random() < .5 and not (special and t.normalizer is not None))
        (t.add_special_tokens if special else t.add_tokens)([token])
    specials = [s for s in SPECIALS if t.token_to_id(s) is not None]
    if rng.random() < .7:
        t.add_special_tokens(specials)
    return contents + specials


def add_processor(t, rng):
    ids = {s: t.token_to_id(s) for s in SPECIALS}
    if ids["[CLS]"] is None:
        return
    kind = rng.randrange(7)
    template = processors.TemplateProcessing(single=rng.choice(["[CLS] $A [SEP]", "$A [SEP]", "[CLS] $0 [SEP] [SEP]", "<s> $A:1 </s>", "$A"]),
                                             pair="[CLS] $A [SEP] $B", special_tokens=[(s, ids[s]) for s in ("[CLS]", "[SEP]", "<s>", "</s>")])
    if kind == 1:
        t.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    elif kind == 2:
        t.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=rng.random() < .5)
    elif kind in (3, 4):
        t.post_processor = template
    elif kind == 5:
        t.post_processor = processors.Sequence([processors.ByteLevel(), template])
    elif kind == 6:
        t.post_processor = processors.ByteLevel(trim_offsets=True)


def by_chance(rng, pool):
    kind = rng.choice(["byte_level", "bpe", "bpe", "wordpiece", "unigram"])
    model = rng.choice(pool[kind])
    t = from_json(Tokenizer(models.BPE()), model=model, normalizer=normalizer_pool(rng),
                  pre_tokenizer=pre_tokenizer_pool(rng, kind == "byte_level"), decoder=decoder_pool(rng, kind))
    added = add_tokens(t, rng)
    add_processor(t, rng)
    if rng.random() < .2:
        t.enable_truncation(4)
        t.enable_padding(length=8)
    return t, added


def known():
    """What models have."""
    t5, _ = base.spm()
    kinds = {"gpt2": base.gpt2(), "roberta": base.roberta(), "llama3": base.llama3(), "qwen2": base.qwen2(), "deepseek": base.regexes(),
             "o200k": base.o200k(), "behaviours": base.behaviours(), "llama2": base.llama2(), "clip": base.clip(), "bert": base.bert(True),
             "bert_cased": base.bert(False), "t5": t5, "unigram_first": base.unigram_first()}
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            part = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
            kinds["t5_%s_%d" % (scheme, split)] = from_json(t5, pre_tokenizer=part, decoder=part)
    legacy = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"}
    kinds["t5_legacy"] = from_json(t5, pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, legacy]}, decoder=legacy)
    return kinds


def survives(json_text, text):
    """Their library panics at some texts, and is stuck in later ones then: so each is tried on its own."""
    tokenizer = Tokenizer.from_str(json_text)
    try:
        tokenizer.decode(tokenizer.encode(text).ids)
        tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
        return True
    except BaseException as error:
        if "Panic" not in type(error).__name__:
            raise
        return False


def write(out, name, tokenizer, lines):
    json_text = tokenizer.to_str()
    tokenizer.no_truncation()  # Which we do not apply, on purpose.
    tokenizer.no_padding()
    try:
        blob = base.rows(tokenizer, lines)
    except BaseException as error:
        if "Panic" not in type(error).__name__:
            raise
        untruncated = tokenizer.to_str()
        lines = [text for text in lines[:200] if survives(untruncated, text)]
        blob = base.rows(Tokenizer.from_str(untruncated), lines)
    os.makedirs(out + "/" + name, exist_ok=True)
    base.write_gz(out + "/" + name + "/tokenizer.json.gz", json_text.encode())
    base.write_gz(out + "/" + name + "/texts.jsonl.gz", "".join(json.dumps(t) + "\n" for t in lines).encode())
    base.write_gz(out + "/" + name + "/ids.bin.gz", blob)
    base.write_gz(out + "/" + name + "/decode.bin.gz", decodings(tokenizer, random.Random(name), len(lines) // 2))


def decodings(tokenizer, rng, count):
    """Ids by chance, which no text has, and the texts that are made of them: u16 count, ids, u32 length, UTF-8."""
    known = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    falls_back = "ByteFallback" in json.dumps(json.loads(tokenizer.to_str())["decoder"])
    blob = bytearray()
    for _ in range(count):
        ids = [rng.choice(known) for _ in range(rng.randint(1, 12))]
        decoded = tokenizer.decode(ids)
        if falls_back and "\ufffd" in decoded:  # Theirs gives up a whole run of bytes, ours what is broken.
            continue
        blob += struct.pack("<H%dH" % len(ids), len(ids), *ids)
        blob += struct.pack("<I", len(decoded.encode())) + decoded.encode()
    return bytes(blob)


def main():
    out = sys.argv[1]
    seed, shapes, count = ([int(a) for a in sys.argv[2:]] + [1, 150, 300][len(sys.argv) - 2:])
    rng = random.Random(seed)
    for name, tokenizer in known().items():
        added = [a.content for a in tokenizer.get_added_tokens_decoder().values()]
        write(out, name, tokenizer, new_texts(rng, 10 * count, added))
    pool = model_pool()
    for i in range(shapes):
        tokenizer, added = by_chance(rng, pool)
        write(out, "shape%03d" % i, tokenizer, new_texts(rng, count, added))


if __name__ == "__main__":
    main()
