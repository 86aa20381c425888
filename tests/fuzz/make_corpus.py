"""Writes the binary inputs of corpus/gguf and corpus/safetensors. usage: python3 tests/fuzz/make_corpus.py (standard library only)"""
import json, pathlib, struct

here = pathlib.Path(__file__).parent / "corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def value(kind, v):
    return text(v) if kind == STRING else struct.pack("<" + FORMAT[kind], v)


def kv(key, kind, v):
    return text(key) + struct.pack("<i", kind) + value(kind, v)


def array(key, kind, items):
    return text(key) + struct.pack("<iiQ", ARRAY, kind, len(items)) + b"".join(value(kind, v) for v in items)


def gguf(name, kvs, tensors, version=3, align=32):
    out = b"GGUF" + struct.pack("<Iqq", version, len(tensors), len(kvs)) + b"".join(kvs)
    offset = 0
    for tensor, dims, kind, size in tensors:
        out += text(tensor) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}q", *dims) + struct.pack("<iQ", kind, offset)
        offset += -(-size // align) * align
    out += b"\0" * (-len(out) % align)
    (here / "gguf").mkdir(parents=True, exist_ok=True)
    (here / "gguf" / name).write_bytes(out + b"\1" * offset)


def safetensors(name, header, size):
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    (here / "safetensors").mkdir(parents=True, exist_ok=True)
    (here / "safetensors" / name).write_bytes(struct.pack("<Q", len(head)) + head + b"\1" * size)


gguf("empty", [], [])
gguf("scalars", [kv(f"k.{k}", k, 1) for k in FORMAT] + [kv("general.architecture", STRING, "llama")], [])
gguf("arrays", [array(f"a.{k}", k, [0, 1, 2]) for k in FORMAT] + [array("t", STRING, ["a", "", "\u0120b"]), array("n", U8, [])], [], 2)
gguf("tensors", [kv("general.alignment", U32, 64)], [("a.weight", (3, 2), 0, 24), ("b", (256,), 12, 144), ("c", (32, 1, 2), 8, 68)], 3, 64)
gguf("part-of-two", [kv("split.no", U16, 0), kv("split.count", U16, 2), kv("split.tensors.count", I32, 2)], [("a", (1,), 0, 4)])

safetensors("empty", {}, 0)
safetensors("two", {"__metadata__": {"format": "pt"}, "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}}, 26)
safetensors("types", {n: {"dtype": n, "shape": [2], "data_offsets": [2 * o, 2 * o + 2 * s]} for n, o, s in
                      [("F64", 0, 8), ("I64", 8, 8), ("I32", 16, 4), ("F16", 20, 2), ("I16", 22, 2), ("I8", 24, 1), ("U8", 25, 1), ("BOOL", 26, 1)]}, 54)
safetensors("hole", {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8)
safetensors("zero", {"a": {"dtype": "F32", "shape": [0, 5], "data_offsets": [0, 0]}, "\u00e9": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, 1)
