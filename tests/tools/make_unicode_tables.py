#!/usr/bin/env python3
"""Writes libs/tokenizer/src/unicode_tables.inc: what Hugging Face's tokenizers takes for a letter, a space, a mark.

Usage: make_unicode_tables.py OUTPUT   (needs: pip install tokenizers==0.23.3)

The library mixes several Unicode versions: its regular expressions, Rust's char and three crates each have their own.
So every class is asked of the library itself, character by character, and pinned here.
"""
import sys
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CHARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# Categories of one letter are unions of these.
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()

# What patterns of known models name, in a later Unicode version than PCRE2's.
SCRIPTS = "Han Hiragana Katakana Hangul".split()


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        elif out and out[-1][1] == 0xD7FF and c == 0xE000:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def kept_by(pre_tokenizer):
    """The characters that are left of a text of all of them."""
    text = "".join(CHARS)
    codes = set()
    for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text):
        codes.update(map(ord, CHARS[begin:end]))
    return codes


def matching(pattern):
    return kept_by(pre_tokenizers.Split(Regex(pattern), "removed", invert=True))


def removed_by(pre_tokenizer):
    return set(map(ord, CHARS)) - kept_by(pre_tokenizer)


def isolated_by(make):
    text_piece = lambda c: [p for p, _ in make.pre_tokenize_str("a" + c + "a")]
    return {ord(c) for c in CHARS if len(text_piece(c)) == 3}


def emit(out, kind, name, items, comment):
    out.write(f"// {comment}\nconstexpr {kind} {name}[] = {{\n")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 118:
            out.write(line + "\n")
            line = "   "
        line += " " + item + ","
    out.write(line + "\n};\n")


def emit_ranges(out, name, codes, comment):
    emit(out, "Range", name, [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(codes)], comment)


def emit_map(out, name, mapping, comment):
    """Code points to strings: {from, offset, length} into one array."""
    emit(out, "char32_t", name + "Text", [f"{ord(c):#x}" for k in sorted(mapping) for c in mapping[k]], comment)
    items, at = [], 0
    for key in sorted(mapping):
        items.append(f"{{{key:#x}, {at}, {len(mapping[key])}}}")
        at += len(mapping[key])
    emit(out, "Mapping", name, items, "Where the text of each begins, and its length.")


def is_hangul(code):
    return 0xAC00 <= code <= 0xD7A3


def main():
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    canonical = {ord(c): nfd.normalize_str(c) for c in CHARS if not is_hangul(ord(c)) and nfd.normalize_str(c) != c}
    compatible = {ord(c): nfkd.normalize_str(c) for c in CHARS if not is_hangul(ord(c)) and nfkd.normalize_str(c) != c}
    compatible = {k: v for k, v in compatible.items() if canonical.get(k) != v}
    # A mark is moved in front of one of the highest class, U+0345.
    classes = {ord(c): unicodedata.combining(c) for c in CHARS
               if unicodedata.combining(c) and
               (c == "\u0345" or nfd.normalize_str("a\u0345" + c) != "a\u0345" + nfd.normalize_str(c))}
    pairs = {}
    for code, text in canonical.items():
        if nfc.normalize_str(text) != chr(code) or len(text) < 2:
            continue
        first = nfc.normalize_str(text[:-1])
        assert len(first) == 1, hex(code)
        pairs[(ord(first), ord(text[-1]))] = code
    lower = {ord(c): normalizers.Lowercase().normalize_str(c) for c in CHARS
             if normalizers.Lowercase().normalize_str(c) != c}
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    accents = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    strip = normalizers.StripAccents()
    cluster = pre_tokenizers.Split(Regex(r"\X"), "isolated")

    with open(sys.argv[1], "w") as out:
        out.write("// Made by tests/tools/make_unicode_tables.py; do not edit.\n")
        emit_ranges(out, "kLetter", matching(r"\p{L}"), r"\p{L} of the regular expressions.")
        emit_ranges(out, "kNumber", matching(r"\p{N}"), r"\p{N} of the regular expressions.")
        emit_ranges(out, "kRegexSpace", matching(r"\s"), r"\s of the regular expressions.")
        emit_ranges(out, "kRegexWord", matching(r"\w"), r"\w of the regular expressions.")
        for name in SCRIPTS:
            emit_ranges(out, "k" + name, matching(r"\p{%s}" % name), r"\p{%s} of the regular expressions." % name)
        runs = []
        for at, name in enumerate(CATEGORIES):
            runs += [(a, b, at) for a, b in ranges(matching(r"\p{%s}" % name))]
        emit(out, "CategoryRun", "kCategories", [f"{{{a:#x}, {b:#x}, {n}}}" for a, b, n in sorted(runs)],
             "General categories of the regular expressions: " + " ".join(CATEGORIES) + "; else Cn.")
        emit_ranges(out, "kWhitespace", removed_by(pre_tokenizers.WhitespaceSplit()), "Rust's char::is_whitespace.")
        emit_ranges(out, "kNumeric", isolated_by(pre_tokenizers.Digits(individual_digits=True)), "Rust's char::is_numeric.")
        emit_ranges(out, "kPunctuation", isolated_by(pre_tokenizers.Punctuation("isolated")), "What BERT splits at.")
        word = {ord(c) for c in CHARS if pre_tokenizers.Whitespace().pre_tokenize_str("a" + c)[0][0] == "a" + c}
        emit_ranges(out, "kWord", word, r"\w of Rust's regex.")
        emit_ranges(out, "kOther", {ord(c) for c in CHARS if c not in "\0\ufffd" and clean.normalize_str(c) == ""},
                    "What BertNormalizer cleans away: Cc, Cf, Cn, Co as its crate knows them.")
        emit_ranges(out, "kNonspacingMark", {ord(c) for c in CHARS if accents.normalize_str(c) == ""}, "Mn, for BertNormalizer.")
        emit_ranges(out, "kCombiningMark", {ord(c) for c in CHARS if strip.normalize_str(c) == ""}, "M, for StripAccents.")
        emit_ranges(out, "kExtend", {ord(c) for c in CHARS if len(cluster.pre_tokenize_str("a" + c)) == 1},
                    "What is of one grapheme cluster with a letter before it.")
        emit_ranges(out, "kPrepend", {ord(c) for c in CHARS if len(cluster.pre_tokenize_str(c + "a")) == 1},
                    "What is of one grapheme cluster with a letter after it.")
        class_ranges = []
        for code in sorted(classes):
            if class_ranges and class_ranges[-1][1] == code - 1 and class_ranges[-1][2] == classes[code]:
                class_ranges[-1][1] = code
            else:
                class_ranges.append([code, code, classes[code]])
        emit(out, "CategoryRun", "kCombiningClass", [f"{{{a:#x}, {b:#x}, {n}}}" for a, b, n in class_ranges],
             "Canonical combining classes other than 0.")
        emit(out, "Composition", "kCompositions", [f"{{{a:#x}, {b:#x}, {c:#x}}}" for (a, b), c in sorted(pairs.items())],
             "Pairs that NFC makes one.")
        emit_map(out, "kCanonical", canonical, "Full canonical decompositions, without Hangul.")
        emit_map(out, "kCompatible", compatible, "Full compatibility decompositions, where they differ.")
        emit_map(out, "kLower", lower, "Lower case, character by character.")


if __name__ == "__main__":
    main()
