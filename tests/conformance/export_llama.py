"""Files that decant exports, in llama.cpp: F32 logits within NMSE 1e-9 of decant's own (F32 KV cache), Q8_0 and Q4_0 load and generate.
usage: export_llama.py DECANT [model ... | file.gguf ...]: real models by their names (smollm2, qwen05), which are exported here, or files that a
recipe has exported."""
import json
import pathlib
import sys
import tempfile

from judges import enter

enter("numpy", "xllamacpp")
import numpy as np

import llama_oracle
import real

BOUND = 1e-9


def tokens(decant, path, text):
    return json.loads(real.run(decant, "tokenize", "--model", path, "--json", text).stdout)["ids"]


def check(decant, path, name, kind, tmp):
    ids = tokens(decant, path, real.speeches(1)[0][:900])[:150]
    (tmp / "ids.json").write_text(json.dumps(ids))
    real.run(decant, "logits", "--model", path, "--ids", tmp / "ids.json", "--out", tmp / "ours.npy")
    theirs, ours = llama_oracle.logits(path, ids), np.load(tmp / "ours.npy")
    error = real.nmse(theirs, ours)
    agreement = float((theirs.argmax(-1) == ours.argmax(-1)).mean())
    # llama.cpp rounds activations to 8 bits where weights are quantized: there only the words must agree.
    good = error <= BOUND if kind == "f32" else agreement > 0.85
    print(f"{name:8} {kind:5} {path.stat().st_size / 1e6:8.1f} MB   NMSE {error:.2e}   same top-1 {100 * agreement:.1f} %   {'ok' if good else 'BAD'}")
    return good


def check_generation(decant, path, kind, tmp):
    """Eight tokens that llama.cpp finds likeliest, one after another; with F32 weights they are decant's own."""
    ids = tokens(decant, path, "The people of this country")
    n = len(ids)
    for _ in range(8):
        ids.append(int(llama_oracle.logits(path, ids)[-1].argmax()))
    (tmp / "ids.json").write_text(json.dumps(ids[n:]))
    theirs = real.run(decant, "detokenize", "--model", path, "--ids", tmp / "ids.json").stdout.strip()
    ours = real.run(decant, "generate", "--model", path, "--prompt", "The people of this country", "--max-new-tokens", 8).stdout.strip()
    print(f"{'':8} {kind:5} llama.cpp goes on with {theirs!r}, decant with {ours!r}")
    return kind != "f32" or theirs in ours


def check_model(decant, name, tmp):
    fine = True
    for kind in ("f32", "q8_0", "q4_0"):
        out = tmp / f"{name}-{kind}.gguf"
        real.run(decant, "export", "--model", real.gguf(name), "--out", out, "--type", kind, "--no-parity")
        fine &= check(decant, out, name, kind, tmp) and check_generation(decant, out, kind, tmp)
        out.unlink()
    return fine


def check_file(decant, path, tmp):
    kind = path.stem.rsplit("-", 1)[-1].lower()
    return check(decant, path, "file", kind, tmp) and check_generation(decant, path, kind, tmp)


decant, *names = sys.argv[1:]
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    fine = [check_file(decant, pathlib.Path(name), tmp) if name.endswith(".gguf") else check_model(decant, name, tmp)
            for name in names or ("smollm2", "qwen05")]
sys.exit(not all(fine))
