"""Token shards and stores as h5py with hdf5plugin sees them. usage: stores.py STORE_TOOL"""
import pathlib
import subprocess
import sys
import tempfile

import judges

judges.enter("h5py", "hdf5plugin", "numpy")
import h5py
import hdf5plugin  # noqa: F401 (registers filter 32015)
import numpy as np

DOCS, V, DRAWS, TOPK = 40, 151936, 50, 4
checks = 0


def same(what, found, wanted):
    global checks
    checks += 1
    if not np.array_equal(found, wanted):
        sys.exit(f"{what}: {found!r}, expected {wanted!r}")


def check_tables(f):
    """The tables of chunks say what HDF5 says; the pipeline is what docs/formats.md says."""
    for name in list(f):
        if name.endswith(".chunks"):
            continue
        column, table = f[name], f[name + ".chunks"]
        chunks = [column.id.get_chunk_info(i) for i in range(column.id.get_num_chunks())]
        same(f"{name}.chunks", table[:, :2], np.array([(c.byte_offset, c.size) for c in chunks], np.uint64).reshape(-1, 2))
        plist = column.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        wide = column.dtype.itemsize >= 4 or column.dtype == np.float16
        same(f"filters of {name}", filters, [2, 32015] if wide else [32015])
        try:
            import xxhash
        except ImportError:
            continue
        raw = pathlib.Path(f.filename).read_bytes()
        same(f"sums of {name}", table[:, 2], [xxhash.xxh64(raw[o:o + n]).intdigest() for o, n, _ in table[:].tolist()])
        same(f"sum of {name}.chunks", table.attrs["xxh64"], np.uint64(xxhash.xxh64(table[:].tobytes()).intdigest()))


def check_tokens(path):
    with h5py.File(path) as f:
        lengths = [1 + d * 7 % 50 for d in range(DOCS)]
        docs = [[(d * 131 + i * 977) % V for i in range(n)] for d, n in enumerate(lengths)]
        masks = [[int(i > 0 and (d + i) % 3 == 1) for i in range(n)] for d, n in enumerate(lengths)]
        same("type of ids", f["ids"].dtype, np.dtype("<u4"))
        same("ids", f["ids"][:], np.concatenate(docs))
        same("mask", f["mask"][:], np.concatenate(masks))
        same("offset", f["offset"][:], np.cumsum([0] + lengths))
        same("trained", f["trained"][:], [sum(m) for m in masks])
        same("source", f["source"][:], [d // 20 for d in range(DOCS)])
        same("row", f["row"][:], [3 * d for d in range(DOCS)])
        same("weight", f["weight"][:], [1 + d % 4 / 4 for d in range(DOCS)])
        a = f.attrs
        same("attributes", [a["format"].decode(), a["version"], a["set"].decode(), a["vocab_size"], a["docs"], a["last"]],
             ["decant.tokens", 1, "train", V, DOCS, 1])
        check_tables(f)


def varints(data):
    out, value, shift = [], 0, 0
    for byte in data.tolist():
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            out.append(value)
            value = shift = 0
    return out


def check_store(path, sampled):
    with h5py.File(path) as f:
        a = f.attrs
        same("attributes", [a["format"].decode(), a["version"], a["kind"].decode(), a["temperature"], a["seed"], a["last"]],
             ["decant.targets", 1, "sampled" if sampled else "topk", 2.0, 42, 1])
        row_offset, id_offset, value_offset = (f[k][:].tolist() for k in ("row_offset", "id_offset", "value_offset"))
        same("row_offset", row_offset, np.cumsum([0] + [d % 4 for d in range(DOCS)]))
        same("type of entropy", f["entropy"].dtype, np.dtype("<f2"))
        for d in range(DOCS):
            rows = slice(row_offset[d], row_offset[d + 1])
            ids = varints(f["ids"][id_offset[d]:id_offset[d + 1]])
            values = f["counts" if sampled else "logp"][value_offset[d]:value_offset[d + 1]]
            values = [c + 1 for c in varints(values)] if sampled else values.tolist()
            same("entropy", f["entropy"][rows], [r / 2 for r in range(d % 4)])
            same("teacher_ce", f["teacher_ce"][rows], [d / 8] * (d % 4))
            if not sampled:
                same("logsumexp", f["logsumexp"][rows], [d + r / 16 for r in range(d % 4)])
            for r, n in enumerate(f["n"][rows].tolist()):
                same("n", n, 1 + (d + r) % 5 if sampled else TOPK)
                found = np.cumsum([ids[0]] + [gap + 1 for gap in ids[1:n]])
                same("ids of a row", found, [d * 10 + r + i * i * 9001 for i in range(n)])
                if sampled:
                    same("counts of a row", values[:n], [DRAWS - n + 1] + [1] * (n - 1))
                else:
                    same("logp of a row", np.float16(values[:n]), np.float16([-(i + 1) * np.log(2) for i in range(n)]))
                ids, values = ids[n:], values[n:]
            same("all of a document", (ids, values), ([], []))
        check_tables(f)


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], folder], check=True)
    folder = pathlib.Path(folder)
    check_tokens(folder / "tokens" / "train-00000.h5")
    check_store(folder / "sampled" / "train-00000.h5", True)
    check_store(folder / "topk" / "train-00000.h5", False)
print(f"stores: {checks} comparisons equal (h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version})")
