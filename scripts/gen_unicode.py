"""Writes data/unicode_table.c: properties of all code points in a three-stage table.

usage: gen_unicode.py DIR16 DIR15 DIR17 PYTHON9 > data/unicode_table.c
Each DIR is a `pip install --target DIR unicodedata2==VERSION` of 16.0.0, 15.1.0 and 17.0.0; PYTHON9 is a Python 3.6, whose own
unicodedata is 9.0. Needs `regex` for the Han script.

Why four versions: the tokenizers library matches patterns by Unicode 16.0 (its Oniguruma), digits by 17.0 (Rust's char::is_numeric) and
normalizes by 9.0 (unicode-normalization-alignments); llama.cpp uses 15.1. All four were found by asking them for every code point, which
tests/conformance/tokenizer.py repeats.
"""
import json
import subprocess
import sys

import regex

CATEGORIES = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
SPACES = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
# Alphabetic symbols (PropList.txt, Other_Alphabetic of category So): \w beyond letters, marks, digits, connectors.
ALPHABETIC = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
LAST = 0x110000

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import unicodedata2 as u
at = [c for c in range(0x110000)]
safe = {}
if len(sys.argv) > 2:
    scalar = [c for c in at if not 0xd800 <= c < 0xe000]
    second = {0x1161 + i for i in range(21)} | {0x11a8 + i for i in range(27)}
    for c in scalar:
        d = u.decomposition(chr(c)).split()
        if len(d) == 2 and d[0][0] != '<' and u.normalize('NFC', chr(int(d[0], 16)) + chr(int(d[1], 16))) == chr(c):
            second.add(int(d[1], 16))
    for form in ('NFC', 'NFD', 'NFKC', 'NFKD'):
        safe[form] = [c for c in scalar if u.combining(chr(c)) == 0 and u.normalize(form, chr(c)) == chr(c)
                      and (form.endswith('D') or c not in second)]
json.dump(dict(version=u.unidata_version, category=[u.category(chr(c)) for c in at], safe=safe), sys.stdout)
"""


def ask(directory, *more):
    out = subprocess.run([sys.executable, "-c", ASK, directory, *more], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def assigned9(python):
    program = "import unicodedata as u; assert u.unidata_version == '9.0.0'; print([c for c in range(0x110000) if u.category(chr(c)) != 'Cn'])"
    return set(json.loads(subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout))


def main(dir16, dir15, dir17, python9):
    u16, u15, u17 = ask(dir16, "forms"), ask(dir15), ask(dir17)
    versions = [u["version"] for u in (u16, u15, u17)]
    assert versions == ["16.0.0", "15.1.0", "17.0.0"], versions
    safe = {form: set(u16["safe"][form]) for form in FORMS}
    old = assigned9(python9)
    han = regex.compile(r"\p{Han}")
    values, sets = [], {}
    for c in range(LAST):
        k = u16["category"][c]
        v = CATEGORIES.index(k)
        word = k[0] in "LM" or k in ("Nd", "Nl", "Pc") or c in ALPHABETIC or c in (0x200C, 0x200D)
        new = u15["category"][c] == "Cn" and k != "Cn"
        newer = k[0] != "N" and u17["category"][c][0] == "N"
        is_han = k not in ("Cn", "Cs") and han.match(chr(c)) is not None
        inert = c not in old and k != "Cn"
        for bit, on in ((5, k[0] == "L"), (6, k[0] == "M"), (7, k[0] == "N"), (8, k[0] == "P"), (9, k[0] == "S"),
                        (10, c in SPACES), (11, word), (12, is_han), (13, new), (14, newer),
                        (15, inert), *((16 + i, inert or c in safe[form]) for i, form in enumerate(FORMS))):
            v |= on << bit
        values.append(sets.setdefault(v, len(sets)))
    assert len(sets) < 256
    items, leaves = fold(values, 32)
    index, roots = fold(leaves, 32)
    assert max(roots) < 256
    write(list(sets), roots, index, items)


def fold(values, size):
    """Equal runs of `size` values stored once: (the distinct runs, the number of the run for each position)."""
    blocks, index = {}, []
    for at in range(0, len(values), size):
        index.append(blocks.setdefault(tuple(values[at:at + size]), len(blocks)))
    return [v for block in blocks for v in block], index


def lines(numbers, form="%d"):
    out, line = [], "   "
    for text in (form % n + "," for n in numbers):
        if len(line) + 1 + len(text) > 120:
            out.append(line)
            line = "   "
        line += (" " if line == "   " else "") + text
    return "\n".join(out + [line])


def write(sets, roots, index, items):
    print("/* data/unicode_table.c -- written by scripts/gen_unicode.py; do not edit. Unicode 16.0, with marks for 9.0, 15.1 and 17.0.")
    print(" *")
    print(" * Source: unicodedata2 16.0.0, 15.1.0 and 17.0.0, Python 3.6 (9.0), and the Han script of the regex module.")
    print(" * Three stages: 1024 code points share a root, 32 an index, and an item is the number of a property word. */")
    print('#include "data/unicode.h"\n')
    print("const uint32_t dc_unicode_words[] = {\n%s\n};\n" % lines(sets, "0x%x"))
    print("const uint8_t dc_unicode_roots[] = {\n%s\n};\n" % lines(roots))
    print("const uint16_t dc_unicode_index[] = {\n%s\n};\n" % lines(index))
    print("const uint8_t dc_unicode_items[] = {\n%s\n};" % lines(items))


main(*sys.argv[1:5])
