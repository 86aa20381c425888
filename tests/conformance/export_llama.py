"""Files that decant exports, in llama.cpp: F32 logits within NMSE 1e-9 of decant's own (F32 KV cache), Q8_0 and Q4_0 load and generate.
usage: export_llama.py DECANT [model ...]"""
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


def check(decant, name, tmp):
    path, fine = real.gguf(name), True
    ids = json.loads(real.run(decant, "tokenize", "--model", path, "--json", real.speeches(1)[0][:900]).stdout)["ids"][:150]
    (tmp / "ids.json").write_text(json.dumps(ids))
    for kind in ("f32", "q8_0", "q4_0"):
        out = tmp / f"{name}-{kind}.gguf"
        real.run(decant, "export", "--model", path, "--out", out, "--type", kind, "--no-parity")
        real.run(decant, "logits", "--model", out, "--ids", tmp / "ids.json", "--out", tmp / "ours.npy")
        theirs, ours = llama_oracle.logits(out, ids), np.load(tmp / "ours.npy")
        error = real.nmse(theirs, ours)
        agreement = float((theirs.argmax(-1) == ours.argmax(-1)).mean())
        # llama.cpp rounds activations to 8 bits where weights are quantized: there only the words must agree.
        good = error <= BOUND if kind == "f32" else agreement > 0.85
        fine &= good
        print(f"{name:8} {kind:5} {out.stat().st_size / 1e6:8.1f} MB   NMSE {error:.2e}   same top-1 {100 * agreement:.1f} %   {'ok' if good else 'BAD'}")
        out.unlink()
    return fine


decant, *names = sys.argv[1:]
with tempfile.TemporaryDirectory() as tmp:
    fine = [check(decant, name, pathlib.Path(tmp)) for name in names or ("smollm2", "qwen05")]
sys.exit(not all(fine))
