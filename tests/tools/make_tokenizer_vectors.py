#!/usr/bin/env python3
"""Makes tests/golden/tokenizers: small tokenizers of every kind, texts, and what Hugging Face makes of them.

Usage: make_tokenizer_vectors.py OUTPUT_FOLDER   (needs: pip install tokenizers==0.23.3; spm_train for the .model)

Writes texts.jsonl.gz (one JSON string a line), corpus.jsonl.gz (what they were trained on), KIND/tokenizer.json (and spiece.model), and KIND/ids.bin.gz: for each
text, in order, a little-endian u16 count and that many u16 ids, without special tokens; then the same with them; then
the text that decoding makes of the former, as u32 length and UTF-8.
"""
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = """The quick brown fox jumps over the lazy dog, doesn't it? I'll say: we've 1234567 reasons, they're 3.14159 good.
To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows.
Falsches Üben von Xylophonmusik quält jeden größeren Zwerg. Straße, Maß, ẞ.
Portez ce vieux whisky au juge blond qui fume. L'été, là-bas, où cœur naïf, Noël, garçon.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba? ¡Sí!
Жил-был на свете серый волк, съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὦ ξεῖν', ἀγγέλλειν Λακεδαιμονίοις ὅτι τῇδε κείμεθα. ΟΔΟΣ ΣΟΦΟΣ.
我能吞下玻璃而不伤身体。龍年快樂,2024年3月5日。㐀㐁𠀀𠀁 你好世界
いろはにほへと ちりぬるを ガギグゲゴ ガギグ カタカナとひらがなと漢字。
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 한국어
नमस्ते दुनिया, यह एक परीक्षण है। क्षत्रिय ज्ञान श्री
สวัสดีชาวโลก นี่คือการทดสอบ กำลัง น้ำ
مرحبا بالعالم، هذا اختبار. ١٢٣٤٥ لُغَةٌ عَرَبِيَّة
שלום עולם, זהו מבחן. שָׁלוֹם
Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau. Việt Nam Tiếng
Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. İstanbul'da ışık ILIK.
வணக்கம் உலகம் ಕನ್ನಡ తెలుగు മലയാളം ગુજરાતી ਪੰਜਾਬੀ বাংলা ଓଡ଼ିଆ සිංහල
ქართული ენა Հայերեն ភាសាខ្មែរ ພາສາລາວ မြန်မာ བོད་ཡིག ᠮᠣᠩᠭᠣᠯ አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ
def f(x: int) -> str:\n\t\treturn f"{x:>10}" if x != 0 else 'zero'  # comment\n
for (size_t i = 0; i < n; ++i) { a[i] += b[i] * 0x1F; } // loop\r\n\r\n#include <vector>
SELECT * FROM users WHERE name LIKE '%O''Brien%' AND id >= 1000000;
{"key": [1, 2.5e-10, null, true], "nested": {"a\\u00e9": "b"}}
<html><body class="x">&nbsp;&copy; 2024</body></html> https://example.org/a?b=c&d=%20#e user@example.com
😀😃🎉👍🏽👩‍🔬👨‍👩‍👧‍👦🇩🇪🇫🇷❤️‍🔥☺️©®™✓→∀∃∈ℝ²³½⅔Ⅷ①㊀㋿ﬁﬂﬀ
e\u0301 o\u0308\u0323 a\u0323\u0308 \u1e9b\u0323 \u212b \u2126 \uac00\u11a8 \u1100\u1161\u11a8 x\u0300\u0301\u0302\u0303
zero\u200bwidth\u200djoin\ufeffbom\u00a0nbsp\u2003em\u3000ideographic\u2028line\u2029para\u0085nel\u00adsoft""".encode().decode("utf-8")
SENTENCES = [s.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r").encode("utf-16", "surrogatepass").decode("utf-16")
             for s in SENTENCES.split("\n")]
PIECES = ["'s", "'S", "'ſ", "'ll", "'LL", "'Re", "'d", "'", " '", "n't", "<|endoftext|>", "<s>", "</s>", "[MASK]", " [MASK] ",
          "[CLS]", "<unk>", "word", "wording", " word ", "NEWTOK", " newtok ", "<0x41>", "##ing", "▁", "▁▁a", "Ġ", "\u2581",
          "\n", "\n\n", "\r\n", "\t", " ", "  ", "   ", "        ", " \n", "\n ", " \t \n  ", "\u00a0", "\u3000", "\u2003", "\u0085",
          "\v", "\f", "\x00", "\x1f", "\x7f", "\x9f", "1", "12", "123", "1234", "1234567890", "٣٤", "१२३", "½", "Ⅷ", "²", "㉈",
          "a", "A", "Z", "é", "E\u0301", "ß", "ẞ", "İ", "ı", "ſ", "K", "Å", "ﬁ", "㍿", "ǆ", "ᾳ", "ΐ", "Σ", "ς", ".", "...", "!?", "-", "--", "—", "$", "€",
          "+", "=", "^", "`", "|", "~", "@", "#", "_", "__init__", "http://", "\\n", "\ufffd", "\U0001f600", "\u200d", "\ufe0f",
          "\U0001f1e9\U0001f1ea", "中", "文", "が", "か\u3099", "가", "각", "\U00020000", "\U0010ffff", "\ue000", "\u0378", "\u1e9b\u0323"]


def texts():
    rng = random.Random(20240301)
    out = ["", " ", "  ", "\n", "a", "é", "'", "\U0001f600"] + SENTENCES + PIECES
    words = [w for s in SENTENCES for w in s.split(" ") if w]
    spaces = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n ", "\r\n", "\u00a0", "\u3000"]
    assigned = [chr(c) for c in range(0x20, 0x20000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    anything = [chr(c) for c in list(range(0, 0xD800)) + list(range(0xE000, 0x110000))]
    while len(out) < 650:  # Words of the world.
        out.append("".join(rng.choice(words) + rng.choice(spaces) for _ in range(rng.randint(1, 9))))
    while len(out) < 1150:  # Corner cases in a row.
        out.append("".join(rng.choice(PIECES) for _ in range(rng.randint(2, 10))))
    while len(out) < 1500:  # Any assigned characters.
        out.append("".join(rng.choice(assigned) for _ in range(rng.randint(1, 12))))
    while len(out) < 1650:  # Of one block, letters and marks in strange orders.
        base = rng.randrange(0, 0x12000, 128)
        block = [chr(c) for c in range(base, base + 128) if not 0xD800 <= c < 0xE000] or ["x"]
        out.append("".join(rng.choice(block) for _ in range(rng.randint(1, 16))))
    while len(out) < 1800:  # Random bytes made valid.
        out.append(rng.randbytes(rng.randint(1, 24)).decode("utf-8", "replace"))
    while len(out) < 1950:  # Whitespace runs and breaks.
        out.append("".join(rng.choice(["a", "9", ".", " ", " ", " ", "\n", "\r", "\t", "\u00a0", "\u2028", "Ж"]) for _ in range(rng.randint(1, 20))))
    while len(out) < 2100:  # Anything at all, unassigned too.
        out.append("".join(rng.choice(anything) for _ in range(rng.randint(1, 8))))
    while len(out) < 2200:  # ASCII noise and repetition.
        out.append("".join(rng.choice("aabbe''sStT  .,0 1\n_#A") for _ in range(rng.randint(1, 40))))
    out += ["a" * 300, " " * 300, "ab" * 200, "\n" * 130, "word" * 60, "é" * 120, "." * 200, "1" * 150]
    return out


def corpus():
    rng = random.Random(7)
    words = [w for s in SENTENCES for w in s.split(" ") if w]
    lines = SENTENCES * 12
    lines += [" ".join(rng.choice(words) for _ in range(12)) for _ in range(400)]
    return lines


def byte_bpe(split, size=1200, normalizer=None, specials=("<|endoftext|>",), ignore_merges=False, prefix=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        t.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=split is None)
    t.pre_tokenizer = byte_level if split is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated", invert=False), byte_level])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def gpt2():
    t = byte_bpe(None)
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def roberta():
    t = byte_bpe(None, prefix=True, specials=("<s>", "<pad>", "</s>", "<unk>"))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    t.add_tokens([AddedToken("word", single_word=True), AddedToken("[MASK]", lstrip=True, rstrip=True),
                  AddedToken("  ", normalized=False)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t


def llama3():
    t = byte_bpe(LLAMA3, specials=("<|begin_of_text|>", "<|endoftext|>"), ignore_merges=True)
    bos = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B:1",
        special_tokens=[("<|begin_of_text|>", bos)])])
    return t


def qwen2():
    return byte_bpe(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"), normalizer=normalizers.NFC())


def regexes():
    """Patterns that PCRE2 runs: three splits in a row, as DeepSeek has them."""
    t = byte_bpe(None, size=900)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex(r"[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(DEEPSEEK), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def o200k():
    return byte_bpe(O200K, size=900)


def behaviours():
    """Every behaviour of Split, Digits and Punctuation, after odd patterns."""
    t = byte_bpe(None, size=700)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\w+"), "merged_with_previous"), pre_tokenizers.Split("-", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\d{2,3}+"), "contiguous"), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(r"[^\s]+\s?"), "removed", invert=True),
        pre_tokenizers.Split(Regex(r"^[a-z]|\h{4}$"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def llama2():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.train_from_iterator([s.replace("\n", " ") for s in corpus()[:150]], trainers.BpeTrainer(
        vocab_size=1500, min_frequency=2, show_progress=False, limit_alphabet=120, max_token_length=12,
        special_tokens=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]))
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(data))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)])
    return t


def clip():
    """End-of-word suffixes and their decoder."""
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=1500, min_frequency=2, show_progress=False, limit_alphabet=250,
                                                        special_tokens=["<unk>", "<s>"], end_of_word_suffix="</w>"))
    return t


def bert(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=1500, min_frequency=2, show_progress=False, limit_alphabet=400,
                                                              special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.add_tokens(["newtok", AddedToken("word", single_word=True)])
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


def wordpiece_trained():
    """What their trainer makes of the corpus with the parts that ours writes. Which of equal pairs it takes is chance."""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=1500, min_frequency=2, show_progress=False, special_tokens=specials))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return t


def spm_train(*options):
    with tempfile.TemporaryDirectory() as temporary:
        with open(temporary + "/in.txt", "w") as f:
            f.write("\n".join(s.replace("\n", " ").replace("\0", "") for s in corpus()))
        subprocess.run(["spm_train", "--input=" + temporary + "/in.txt", "--model_prefix=" + temporary + "/m", "--minloglevel=2",
                        "--hard_vocab_limit=false", *options], check=True)
        with open(temporary + "/m.model", "rb") as f:
            return f.read()


def spm_bpe():
    """Merges and bytes to fall back on, as Llama 2 has them."""
    return spm_train("--vocab_size=1200", "--model_type=bpe", "--byte_fallback", "--character_coverage=0.98",
                     "--normalization_rule_name=identity", "--remove_extra_whitespaces=false", "--split_digits")


def spm():
    """A SentencePiece Unigram model, and T5's tokenizer.json around its pieces and its Precompiled charsmap."""
    model = spm_train("--vocab_size=1100", "--model_type=unigram", "--pad_id=0", "--eos_id=1", "--unk_id=2", "--bos_id=-1",
                      "--character_coverage=0.98")
    pieces, charsmap = [], b""

    def fields(data):
        at = 0
        while at < len(data):
            def varint():
                nonlocal at
                value = shift = 0
                while True:
                    byte = data[at]
                    at += 1
                    value |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        return value
            key = varint()
            if key & 7 == 0:
                yield key >> 3, varint()
            elif key & 7 == 2:
                size = varint()
                yield key >> 3, data[at:at + size]
                at += size
            else:
                yield key >> 3, data[at:at + 4]
                at += 4

    for number, value in fields(model):
        if number == 1:
            piece = dict(fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]))
        if number == 3:
            charsmap = dict(fields(value)).get(2, b"")
    import base64
    t = Tokenizer(models.Unigram(pieces, 2, False))
    data = json.loads(t.to_str())
    data["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}
    data["pre_tokenizer"] = data["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    t = Tokenizer.from_str(json.dumps(data))
    t.add_special_tokens(["<pad>", "</s>", "<unk>"])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return t, model


def unigram_first():
    """Metaspace with prepend_scheme first, accents stripped, bytes to fall back on."""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKD(), normalizers.StripAccents()])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    specials = ["<unk>", "<s>"] + ["<0x%02X>" % b for b in range(256)]
    t.train_from_iterator(corpus()[:40] , trainers.UnigramTrainer(vocab_size=1100, show_progress=False, unk_token="<unk>", special_tokens=specials))
    data = json.loads(t.to_str())
    data["model"]["byte_fallback"] = True
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


def unigram_trained():
    """What their trainer makes of the corpus with the parts that ours writes."""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=600, show_progress=False, unk_token="<unk>",
                                                            special_tokens=["<pad>", "</s>", "<unk>"]))
    return t


def write_gz(path, data):
    with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(data)


def rows(tokenizer, lines):
    blob = bytearray()
    for text in lines:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        for row in (ids, tokenizer.encode(text).ids):
            blob += struct.pack("<H%dH" % len(row), len(row), *row)
        decoded = tokenizer.decode(ids).encode() if ids else b""
        blob += struct.pack("<I", len(decoded)) + decoded
    return bytes(blob)


def main():
    out = sys.argv[1]
    lines = texts()
    os.makedirs(out, exist_ok=True)
    write_gz(out + "/texts.jsonl.gz", "".join(json.dumps(t) + "\n" for t in lines).encode())
    write_gz(out + "/corpus.jsonl.gz", "".join(json.dumps(t) + "\n" for t in corpus()).encode())
    t5, model = spm()
    kinds = {"gpt2": gpt2(), "roberta": roberta(), "llama3": llama3(), "qwen2": qwen2(), "regexes": regexes(), "o200k": o200k(),
             "behaviours": behaviours(), "llama2": llama2(), "clip": clip(), "bert": bert(True), "bert_cased": bert(False),
             "t5": t5, "unigram_first": unigram_first(), "unigram_trained": unigram_trained(), "wordpiece_trained": wordpiece_trained()}
    for name, tokenizer in kinds.items():
        os.makedirs(out + "/" + name, exist_ok=True)
        data = json.loads(tokenizer.to_str())
        write_gz(out + "/" + name + "/tokenizer.json.gz", json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        write_gz(out + "/" + name + "/ids.bin.gz", rows(tokenizer, lines))
    os.makedirs(out + "/spiece", exist_ok=True)
    write_gz(out + "/spiece/spiece.model.gz", model)
    os.makedirs(out + "/spiece_bpe", exist_ok=True)
    write_gz(out + "/spiece_bpe/spiece.model.gz", spm_bpe())


if __name__ == "__main__":
    main()
