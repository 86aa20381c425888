"""Tokenizers against their judges: ids equal to HF's tokenizers and to llama.cpp's, decoding, export, training.

usage: tokenizer.py TOK_TOOL [--speed]   (--speed: only measures, on one thread). ../shared is $DECANT_SHARED when that is set.
"""
import sys

import judges

judges.enter("tokenizers", "transformers")

import json
import os
import pathlib
import random
import subprocess
import tempfile
import time
import unicodedata

import tokenizers
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("DECANT_SHARED", ROOT.parent / "shared"))
TOOL = str(pathlib.Path(sys.argv[1]).resolve())
RANDOM_STRINGS = 2000
bad = []


if not (SHARED / "data" / "sotu.jsonl.zst").exists():
    judges.skip(f"{SHARED} has no data/sotu.jsonl.zst")


def unpack(path):
    return subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout


def tool(*args, lines=None, fails=False):
    p = subprocess.run([TOOL, *map(str, args)], input="\n".join(lines) + "\n" if lines is not None else None, capture_output=True,
                       text=True)
    if (p.returncode != 0) != fails:
        raise SystemExit(f"tok_tool {' '.join(map(str, args))}: exit {p.returncode}: {p.stderr[:600]}")
    return p.stderr if fails else p.stdout


def encode(model, texts, *flags):
    return [json.loads(s) for s in tool(model, "encode", *flags, lines=[json.dumps(t) for t in texts]).splitlines()]


def decode(model, ids, *flags):
    return [json.loads(s) for s in tool(model, "decode", *flags, lines=[json.dumps(i) for i in ids]).splitlines()]


def check(what, texts, ours, theirs):
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    if len(ours) != len(theirs):
        wrong.append(min(len(ours), len(theirs)))
    print(f"{'FAILED' if wrong else 'equal '}  {what}: {len(theirs) - len(wrong)} of {len(theirs)}")
    for i in wrong[:3]:
        a, b = ours[i], theirs[i]
        at = next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        print(f"    text {i}: {texts[i][:300]!r}\n    place {at}: {a[max(0, at - 2):at + 8]!r} but {b[max(0, at - 2):at + 8]!r}")
    if wrong:
        bad.append(what)


def random_texts(seed, specials):
    """Strings that mix what tokenizers stumble over: every plane, marks, spaces, line ends, contractions, digits, added tokens."""
    rng = random.Random(seed)
    spaces = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\v", "\x1c", "   \n "]
    words = ["'s", "'S", "'ſ", "'re", "'LL", "don't", "I'VE", "123", "4567890", "½", "٣٤", "x²", "…", "—", "</s>", "e\u0301", "ﬁ", "Å",
             "각", "\u1100\u1161\u11a8", "ÅÅ", "नमस्ते", "ไทย", "日本語", "🇩🇪", "👩‍👩‍👧", "\u0344", "ẛ̣", "q̣̇", "ſ", "'", "''", "\x00", "\ufeff"]

    def scalar():
        while True:
            c = rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x20000),
                            rng.randrange(0x110000)])
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    out = []
    for _ in range(RANDOM_STRINGS):
        parts = []
        for _ in range(rng.randrange(1, 30)):
            k = rng.random()
            parts.append(rng.choice(spaces) if k < 0.25 else rng.choice(words) if k < 0.45 else rng.choice(specials) if specials and k < 0.5
                         else scalar() if k < 0.85 else "".join(rng.choice("abcXYZ .,!01") for _ in range(rng.randrange(1, 8))))
        out.append("".join(parts))
    return out + ["", " ", "a", "\n", "  ", " a", "a ", "'", "'s", "a" * 3000, " " * 3000, "ab" * 2000, "é" * 1500, "1" * 1000]


def every_scalar():
    """All code points, in runs, between letters, and before letters: classes and their versions."""
    c = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    return [" ".join("a" + x + "b" for x in c[i:i + 2000]) for i in range(0, len(c), 2000)]


def marked_texts():
    """Canonical decompositions, and heaps of marks in any order: what normalization composes and reorders."""
    rng = random.Random(17)
    decompositions = [unicodedata.decomposition(chr(c)).split() for c in range(0x110000)]
    bases = ["".join(chr(int(x, 16)) for x in d) for d in decompositions if d and d[0][0] != "<"]
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    return bases + [rng.choice(bases + ["x"] * 1000) + "".join(rng.choices(marks, k=rng.randrange(1, 6))) for _ in range(10000)]


def compare_hf(name, model, judge, texts, specials):
    more = random_texts(7, specials)
    for what, part in (("speeches", texts), ("random strings", more), ("all code points", every_scalar()),
                       ("marks", marked_texts())):
        theirs = [judge.encode(t, add_special_tokens=False).ids for t in part]
        ours = encode(model, part)
        check(f"{name}, {what}", part, ours, theirs)
        check(f"{name}, {what}, decoded", part, decode(model, theirs), [judge.decode(i, skip_special_tokens=False) for i in theirs])
    part = texts[:5] + more[:300]
    check(f"{name}, with special tokens", part, encode(model, part, "special"), [judge.encode(t).ids for t in part])
    check(f"{name}, decoded without special tokens", part, decode(model, encode(model, part), "skip"),
          [judge.decode(i, skip_special_tokens=True) for i in encode(model, part)])
    judge.encode_special_tokens = True
    check(f"{name}, special tokens as text", more, encode(model, more, "plain"),
          [judge.encode(t, add_special_tokens=False).ids for t in more])
    judge.encode_special_tokens = False
    rng = random.Random(3)
    ids = [[rng.randrange(judge.get_vocab_size()) for _ in range(30)] for _ in range(500)]
    check(f"{name}, random ids decoded", [""] * 500, decode(model, ids), [judge.decode(i, skip_special_tokens=False) for i in ids])
    if judge.normalizer is None:
        offsets = [[len(t[:a].encode()) for a, _ in judge.encode(t, add_special_tokens=False).offsets] for t in texts[:20]]
        plain = [t for t in texts[:20] if t.isascii()]
        ours = [o for (_, o), t in zip(encode(model, texts[:20], "offsets"), texts[:20]) if t.isascii()]
        theirs = [o for o, t in zip(offsets, texts[:20]) if t.isascii()]
        if judge.post_processor is None:
            check(f"{name}, offsets", plain, ours, theirs)


def hf_files(folder):
    out = pathlib.Path(folder)
    for name in ("qwen3", "llama3_1"):
        (out / name).mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (out / name / file).write_bytes(unpack(SHARED / "tokenizers" / name / (file + ".zst")))
    return [(name, out / name) for name in ("qwen3", "llama3_1")]


def load_llama():
    sys.path.insert(0, str(SHARED / "tools"))
    try:
        import llama_oracle
        llama_oracle.lib()
        return llama_oracle
    except (ImportError, SystemExit) as e:
        print(f"skipped: llama.cpp is not here ({e})")
        return None


def eog_of(oracle, model):
    import ctypes
    so = oracle.lib()
    so.llama_vocab_is_eog.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    so.llama_vocab_is_eog.restype = ctypes.c_bool
    return [i for i in range(model.n_vocab) if so.llama_vocab_is_eog(model._vocab, i)]


def compare_llama(oracle, name, path, texts):
    with oracle.Model(path, vocab_only=True) as m:
        specials = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|fim_prefix|>", "</s>", "<|begin_of_text|>", "<|eot_id|>"]
        more = random_texts(11, specials)
        for what, part in (("speeches", texts), ("random strings", more), ("all code points", every_scalar())):
            check(f"{name} against llama.cpp, {what}", part, encode(path, part), [m.tokenize(t, False) for t in part])
        check(f"{name} against llama.cpp, with BOS and EOS", more, encode(path, more, "special"), [m.tokenize(t, True) for t in more])
        info = json.loads(tool(path, "info"))
        check(f"{name} against llama.cpp, end-of-generation set", [""], [sorted(info["eog"])], [eog_of(oracle, m)])
        check(f"{name}, decode(encode(text))", texts, decode(path, encode(path, texts)), texts)


def known(text):
    """Code points that every version agrees on: llama.cpp knows those of Unicode 15.1 and no U+017F in contractions."""
    return "\u017f" not in text and all(unicodedata.category(c) != "Cn" for c in text)


def rebuilt(oracle, name, model, folder, texts):
    """Saved as an HF directory and as a GGUF, then read by transformers, by llama.cpp and by ourselves."""
    out = pathlib.Path(folder) / f"saved-{name}"
    tool(model, "save", out)
    judge = transformers.AutoTokenizer.from_pretrained(out)
    part = texts[:20] + random_texts(5, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    mine = encode(model, part)
    if model.suffix == ".gguf":  # a vocabulary may lack bytes: there the two sides drop them differently
        part = [t for t, back in zip(part, decode(model, mine)) if known(t) and back == t]
        mine = encode(model, part)
    ids = [judge.encode(t, add_special_tokens=False) for t in part]
    check(f"{name} saved, in transformers", part, mine, ids)
    check(f"{name} saved, with special tokens, in transformers", part, encode(model, part, "special"),
          [judge.encode(t, add_special_tokens=True) for t in part])
    check(f"{name} saved, decoded in transformers", part, decode(model, ids), [judge.decode(i) for i in ids])
    check(f"{name} saved, reopened", part, encode(out, part), mine)
    size = json.loads(tool(model, "info"))["size"]
    gguf = pathlib.Path(folder) / f"{name}.gguf"
    tool(model, "gguf", gguf, size + 64)
    tool(gguf, "same", model)
    if oracle:
        with oracle.Model(gguf, vocab_only=True) as m:
            check(f"{name} as GGUF, in llama.cpp", part, encode(gguf, part, "special"), [m.tokenize(t, True) for t in part])
            alike = [t for t in part if known(t) and unicodedata.normalize("NFC", t) == t and "</s>" not in t]  # llama.cpp: always control
            check(f"{name} and its GGUF in llama.cpp", alike, encode(model, alike, "special"), [m.tokenize(t, True) for t in alike])


def compare_training(folder, texts):
    part = texts[:60]
    split = tokenizers.pre_tokenizers
    regex = json.loads(unpack(SHARED / "tokenizers" / "qwen3" / "tokenizer.json.zst"))["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    for pre, rules, size, data in (
            ("gpt2", split.ByteLevel(add_prefix_space=False), 6000, part),
            ("smollm", split.Sequence([split.Digits(True), split.ByteLevel(add_prefix_space=False)]), 2000, part[:20]),
            ("qwen2", split.Sequence([split.Split(tokenizers.Regex(regex), "isolated"),
                                      split.ByteLevel(add_prefix_space=False, use_regex=False)]), 3000, part[:30]),
            ("gpt2", split.ByteLevel(add_prefix_space=False), 5000, ["abcabcabd " * 40, "aaaa aaa aa", *random_texts(9, [])[:400]])):
        judge = tokenizers.Tokenizer(tokenizers.models.BPE())
        judge.pre_tokenizer = rules
        judge.train_from_iterator(data, tokenizers.trainers.BpeTrainer(
            vocab_size=size, special_tokens=specials, initial_alphabet=split.ByteLevel.alphabet(), show_progress=False))
        theirs = json.loads(judge.to_str())["model"]
        out = pathlib.Path(folder) / f"trained-{pre}-{size}"
        tool("train", out, pre, size, *specials, lines=[json.dumps(t) for t in data])
        ours = json.loads((out / "tokenizer.json").read_text())["model"]
        check(f"training {pre} to {size}, vocabulary", [""], [sorted(ours["vocab"].items(), key=lambda x: x[1])],
              [sorted(theirs["vocab"].items(), key=lambda x: x[1])])
        check(f"training {pre} to {size}, merges", [""], [ours["merges"]], [[list(m) for m in theirs["merges"]]])


def variants():
    """(what, changes to a tokenizer.json): components and their options that the real files do not have."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bytes_only = dict(byte_level, use_regex=False)

    def split(pattern, behavior="Isolated", invert=False):
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    def sequence(*stages):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(stages)}}

    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"Split {behavior}, invert {invert}", sequence(split({"Regex": r"\p{L}+|\d"}, behavior, invert), bytes_only)
        yield f"Split by text, {behavior}", sequence(split({"String": " "}, behavior), byte_level)
    for name, pattern in (("gpt-4o", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                           r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                           r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
                          ("qwen35", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
                           r"\s*[\r\n]+|\s+(?!\S)|\s+"),
                          ("empty matches", r"(?=(\d{3})+(?!\d))"), ("words", r"\w+|[^\w\s]+"), ("not", r"[^\P{L}a-z]+|\P{L}|\D"),
                          ("Han", r"[\p{Han}]+|[\p{L}&&[^\p{Han}]]+"), ("lines", r"^.+$|\n")):
        yield f"pattern {name}", sequence(split({"Regex": pattern}), bytes_only)
    yield "Digits together", sequence({"type": "Digits", "individual_digits": False}, byte_level)
    yield "prefix space", sequence(dict(byte_level, add_prefix_space=True))
    yield "prefix space behind digits", sequence({"type": "Digits", "individual_digits": True}, dict(byte_level, add_prefix_space=True))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, {"normalizer": {"type": form}}
    yield "NFD, then NFKC", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFKC"}]}}
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    for k in range(32):
        on = {f: bool(k >> i & 1) for i, f in enumerate(flags)}
        yield f"added tokens with {', '.join(f for f in flags if on[f]) or 'no flags'}", {
            "normalizer": {"type": "NFC"},
            "added_tokens": [{"content": c, **on} for c in ("<x>", "<x>y", "one", "e\u0301", " b", "  ", "abc", "ab")]}


def compare_variants(folder):
    base = json.loads((pathlib.Path(folder) / "trained-gpt2-6000" / "tokenizer.json").read_text())
    words = ["<x>", "<x> ", " <x>", "<x>y", "one", "onetwo", "e\u0301", "é", " b", "abc", "ab"]
    part = random_texts(19, words)[:700] + every_scalar()[::16] + marked_texts()[::20]
    path = pathlib.Path(folder) / "variant.json"
    for what, changes in variants():
        after = 6000
        for token in changes.get("added_tokens", []):
            token["id"] = base["model"]["vocab"].get(token["content"], after)
            after += token["id"] == after
        path.write_text(json.dumps({**base, "added_tokens": [], **changes}))
        judge = tokenizers.Tokenizer.from_file(str(path))
        check(f"variant {what}", part, encode(path, part), [judge.encode(t, add_special_tokens=False).ids for t in part])


# A name of every rule, and some that share one.
PRE_NAMES = ("gpt-2 smollm llama-bpe smaug-bpe qwen2 qwen35 default falcon deepseek-v3 deepseek-coder gpt-4o tekken glm4 starcoder llama3 "
             "deepseek-r1-qwen minimax-m2 joyai-llm phi-2").split()


def compare_names(oracle, folder, texts):
    """One small trained vocabulary under every pre-tokenizer name, against llama.cpp."""
    try:
        import gguf
    except ImportError:
        print("skipped: gguf is not installed")
        return
    model = pathlib.Path(folder) / "trained-gpt2-6000"
    base = pathlib.Path(folder) / "trained.gguf"
    tool(model, "gguf", base, 6016)
    fields = gguf.GGUFReader(base).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    part = [t for t in random_texts(13, ["<|im_start|>", "<|im_end|>"]) if len(t) < 1000][:600] + [t[:3000] for t in texts[:10]]
    part += every_scalar()[::4]
    for pre in PRE_NAMES:
        path = pathlib.Path(folder) / "named.gguf"
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(pre)
        w.add_token_list(get("tokens"))
        w.add_token_types(get("token_type"))
        w.add_token_merges(get("merges"))
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        with oracle.Model(path, vocab_only=True) as m:
            check(f"pre-tokenizer {pre} against llama.cpp", part, encode(path, part, "special"), [m.tokenize(t, True) for t in part])


def speed(name, model, judge, texts):
    total = sum(len(t.encode()) for t in texts)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    start = time.perf_counter()
    for t in texts:
        judge.encode(t, add_special_tokens=False)
    theirs = total / 1e6 / (time.perf_counter() - start)
    ours = tool(model, "speed", lines=[json.dumps(t) for t in texts]).splitlines()
    print(f"speed {name}: tokenizers {theirs:.1f} MB/s, decant {'; '.join(ours)} (one thread, {total / 1e6:.1f} MB)")


def main():
    texts = [json.loads(s)["text"] for s in unpack(SHARED / "data" / "sotu.jsonl.zst").splitlines()]
    print(f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}, {len(texts)} speeches")
    oracle = load_llama()
    with tempfile.TemporaryDirectory() as folder:
        measured = []
        for name, path in hf_files(folder):
            judge = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
            specials = [t.content for t in judge.get_added_tokens_decoder().values()][:12]
            measured.append((name, path, judge))
            if "--speed" not in sys.argv:
                compare_hf(name, path, judge, texts, specials)
                rebuilt(oracle, name, path, folder, texts)
        ggufs = [("smollm2", judges.MODELS / "smollm2-135m-instruct-Q4_1.gguf"), ("qwen2.5", judges.MODELS / "qwen2.5-coder-0.5b-instruct.gguf")]
        for name, path in ggufs:
            if not path.exists():
                print(f"skipped: {path} is not here")
                continue
            judge = transformers.AutoTokenizer.from_pretrained(judges.MODELS, gguf_file=path.name)
            measured.append((name, path, judge.backend_tokenizer))
            if "--speed" not in sys.argv:
                check(f"{name} from GGUF against transformers, speeches", texts, encode(path, texts),
                      [judge.encode(t, add_special_tokens=False) for t in texts])
                if oracle:
                    compare_llama(oracle, name, path, texts)
                rebuilt(oracle, name, path, folder, texts)
        if "--speed" not in sys.argv:
            compare_training(folder, texts)
            compare_variants(folder)
            if oracle:
                compare_names(oracle, folder, texts)
            told = tool(measured[0][1], "same", measured[1][1], fails=True)
            print("mismatch is told as:", told.strip())
        else:
            for one in measured:
                speed(*one, texts)
    print("FAILED: " + "; ".join(bad) if bad else "tokenizer: ok")
    sys.exit(bool(bad))


main()
