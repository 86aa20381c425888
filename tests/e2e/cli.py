"""Every command from outside: help, exit codes, JSON that parses, results that agree with each other; and the reference pages of docs/."""
import json
import re
import struct
import subprocess

import common
from common import ROOT, Folder, check, decant, environment, leftovers, main, rows, succeed, write_recipe, write_rows


def commands():
    text = succeed("--help", cwd=ROOT).out
    return re.findall(r"^  (\w+) ", text, re.M)


def said_json(*words, cwd):
    """The result of a command with --json: one JSON value on stdout and nothing else."""
    done = succeed(words[0], "--json", *words[1:], cwd=cwd)
    try:
        return json.loads(done.out)
    except ValueError as error:
        raise AssertionError(f"decant {' '.join(map(str, words))} --json: {error}\n{done.out}")


def npy(path):
    """Shape and floats of a float32 file in C order."""
    data = path.read_bytes()
    check(data[:6] == b"\x93NUMPY", f"{path} is no .npy")
    n = struct.unpack("<H", data[8:10])[0]
    header = data[10:10 + n].decode()
    check("'descr': '<f4'" in header and "'fortran_order': False" in header, header)
    shape = [int(d) for d in re.search(r"'shape': \(([^)]*)\)", header)[1].split(",") if d.strip()]
    values = struct.unpack(f"<{(len(data) - 10 - n) // 4}f", data[10 + n:])
    return shape, values


def help_texts():
    names = commands()
    check(len(names) >= 16 and len(set(names)) == len(names), names)
    for name in names:
        text = succeed(name, "--help", cwd=ROOT).out
        check(text.startswith(f"usage: decant {name}") and "exit codes:" in text and "--json" in text, f"decant {name} --help:", text)
        check(succeed("help", name, cwd=ROOT).out == text, f"decant help {name} is not decant {name} --help")
        check(max(map(len, text.splitlines())) <= 200, f"decant {name} --help: a line is too long")
    check(succeed("help", cwd=ROOT).out == succeed("--help", cwd=ROOT).out == decant(cwd=ROOT).out, "three overviews differ")
    check(re.fullmatch(r"decant \d+\.\d+\.\d+\n", succeed("--version", cwd=ROOT).out), "--version")
    key = succeed("help", "recipe", "lora.r", cwd=ROOT).out
    check("lora.r" in key and "rank" in key and "8" in key, key)
    check(decant("help", "recipe", "lora.rr", cwd=ROOT).code == 2, "help of a key that is not there")
    check(decant("help", "rnu", cwd=ROOT).code == 2, "help of a command that is not there")


def reference_pages():
    """docs/ holds what the program says. To bring it up to date: decant help --markdown PAGE > docs/PAGE.md"""
    for page in ("recipe", "commands"):
        said, kept = succeed("help", "--markdown", page, cwd=ROOT).out, ROOT / f"docs/{page}.md"
        check(kept.is_file() and kept.read_text() == said, f"docs/{page}.md is not what 'decant help --markdown {page}' says; write it anew")


def doctor():
    made = said_json("doctor", cwd=ROOT)
    check(made["version"] and made["processor"]["cores_online"] >= 1 and made["memory"]["total"] > 0, made)
    check(succeed("doctor", cwd=ROOT).out.strip(), "doctor says nothing")


def models(folder):
    """One run of all stages; its models by name."""
    write_recipe(folder, export=["f32", "q8_0"])
    done = succeed("run", "recipe.yaml", "--json", cwd=folder)
    check(json.loads(done.out) == {"output_dir": "out", "report": "out/report.html"}, done.out)
    check("student, distilled" not in done.out, "a table beside the JSON")
    return {"hf": folder / "out/merged", "gguf": folder / "out/export/out-F32.gguf", "teacher": folder / "out/teacher/model",
            "q8_0": folder / "out/export/out-Q8_0.gguf"}


TEXTS = ["A red circle lies at the left.", "", " ", "tab\tand\nnewline", "h\u00e9llo \u4f60\u597d \U0001f680", "<|im_start|>user\n<|im_end|>", "a" * 300]


def tokens(folder, made):
    write_lines = "".join(json.dumps(t) + "\n" for t in TEXTS)
    (folder / "texts.jsonl").write_text(write_lines)
    of_model = {}
    for name in ("hf", "gguf"):
        lines = succeed("tokenize", "--model", made[name], "--lines", "texts.jsonl", cwd=folder).out
        ids = [json.loads(line) for line in lines.splitlines()]
        check(len(ids) == len(TEXTS) and all(isinstance(i, int) for line in ids for i in line), lines)
        of_model[name] = ids
        (folder / "ids.jsonl").write_text(lines)
        back = succeed("detokenize", "--model", made[name], "--lines", "ids.jsonl", cwd=folder).out
        check([json.loads(line) for line in back.splitlines()] == TEXTS, f"{name}: text -> ids -> text:", back)
    check(of_model["hf"] == of_model["gguf"], "the GGUF's ids are not the HF directory's")
    for text, ids in zip(TEXTS, of_model["hf"]):
        (folder / "one.txt").write_text(text)
        check(said_json("tokenize", "--model", made["hf"], "--file", "one.txt", cwd=folder)["ids"] == ids, f"--file and --lines differ on {text!r}")
        if text.strip():
            check(said_json("tokenize", "--model", made["hf"], "--", text, cwd=folder)["ids"] == ids, f"TEXT and --lines differ on {text!r}")
        (folder / "ids.json").write_text(json.dumps(ids))
        if ids:
            said = said_json("detokenize", "--model", made["hf"], "--ids", "ids.json", cwd=folder)
            check(said["text"] == text, said)
    return of_model["hf"][0]


def logits(folder, made, ids):
    (folder / "ids.json").write_text(json.dumps(ids))
    found = {}
    for name in ("hf", "gguf", "q8_0"):
        succeed("logits", "--model", made[name], "--ids", "ids.json", "--out", f"{name}.npy", cwd=folder)
        shape, found[name] = npy(folder / f"{name}.npy")
        check(shape == [len(ids), 300], name, shape)
    succeed("logits", "--model", made["teacher"], "--ids", "ids.json", "--out", "teacher.npy", cwd=folder)
    power = sum(x * x for x in found["hf"])
    error = {name: sum((x - y) ** 2 for x, y in zip(found[name], found["hf"])) / power for name in found}
    check(error["gguf"] < 1e-12, "F32 GGUF against the HF directory: NMSE", error)
    check(1e-12 < error["q8_0"] < 1e-2, "Q8_0 against the HF directory: NMSE", error)
    _, teacher = npy(folder / "teacher.npy")
    check(max(abs(x - y) for x, y in zip(teacher, found["hf"])) > 1e-4, "teacher and student say the same")
    check(not leftovers(folder, ".tmp"), leftovers(folder, ".tmp"))


def generate(folder, made):
    say = ("generate", "--prompt", "A red ", "--max-new-tokens", "12")
    one = said_json(*say, "--model", made["hf"], cwd=folder)
    check(said_json(*say, "--model", made["gguf"], cwd=folder)["text"] == one["text"], "greedy text of HF directory and GGUF")
    plain = succeed(*say, "--model", made["hf"], cwd=folder).out
    check(one["text"].strip() in plain, "the text of --json is another one:", one, plain)
    hot = [said_json(*say, "--model", made["hf"], "--temperature", "1.5", "--seed", seed, cwd=folder)["text"] for seed in (1, 1, 2)]
    check(hot[0] == hot[1] and hot[0] != hot[2], "seeds and text:", hot)


def conversations(folder, made):
    """generate --chat and a task's messages see what transformers' apply_chat_template hands to a template."""
    template = made["hf"] / "chat_template.jinja"
    template.write_text("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}{% if tools is none and add_generation_prompt %}A{% endif %}")
    said = said_json("generate", "--chat", "--prompt", "A red ", "--max-new-tokens", "2", "--model", made["hf"], cwd=folder)
    ids = said_json("tokenize", "--model", made["hf"], "--", "A red <|endoftext|>A", cwd=folder)["ids"]
    check(said["prompt_tokens"] == len(ids), said, ids)
    write_rows(folder / "chats.jsonl", [{"prompt": [{"role": "user", "content": "A red "}], "completion": "x"}])
    task = said_json("eval", "--model", made["hf"], "--data", "chats.jsonl", "--task", "exact", "--max-new-tokens", "2", cwd=folder)
    check(task["n"] == 1, task)
    done = decant("generate", "--chat", "--prompt", b"\xff".decode(errors="surrogateescape"), "--model", made["hf"], cwd=folder)
    check(done.code == 1 and "UTF-8" in done.err, f"a prompt that is no UTF-8: exit {done.code}", done.err)
    template.unlink()


def evaluate(folder, made):
    write_rows(folder / "held_out.jsonl", rows(12, 9))
    alone = said_json("eval", "--model", made["hf"], "--data", "held_out.jsonl", cwd=folder)
    check(alone["perplexity"] > 1 and 0 <= alone["accuracy"] <= 1 and alone["tokens"] > 0, alone)
    pair = said_json("eval", "--model", made["q8_0"], "--data", "held_out.jsonl", "--against", made["hf"], cwd=folder)["against"]
    same = said_json("eval", "--model", made["gguf"], "--data", "held_out.jsonl", "--against", made["hf"], cwd=folder)["against"]
    check(abs(same["kl"]) < 1e-9 < pair["kl"] < 1e-3 and same["top1_agreement"] == 1, pair, same)
    check(abs(same["nll"] - alone["nll"]) < 1e-6, "two ways to one perplexity:", alone, same)
    task = said_json("eval", "--model", made["hf"], "--data", "held_out.jsonl", "--task", "json_fields", "--limit", "3", "--max-new-tokens", "4", cwd=folder)
    check(task["n"] == 3 and task["right"] == 0, task)


def inspect(folder, made):
    seen = [*made.values(), "out", "out/data", "out/data/train-00000.h5", "out/teacher", "out/teacher/train-00000.h5", "out/train/adapter",
            "out/train/checkpoint-8", "out/train/metrics.jsonl", "out/recipe.json", "out/tokenizer", "out/merged/model.safetensors", "recipe.yaml",
            "train.jsonl", "hf.npy", "out/export/out-F32.parity.json"]
    for path in seen:
        made_json = said_json("inspect", path, cwd=folder)
        check(isinstance(made_json, dict) and made_json, path, made_json)
        check(succeed("inspect", path, cwd=folder).out.strip(), f"inspect {path} says nothing")


def deploy(folder, made):
    words = ("--model", made["teacher"], "--out", "t.gguf", "--type", "q4_0")
    said_json("export", *words, cwd=folder)
    parity = json.loads((folder / "t.parity.json").read_text())
    check(parity["kl"] >= 0, parity)
    check(decant("export", *words, cwd=folder).code != 0, "export wrote over a file without --force")
    succeed("export", *words, "--force", "--no-parity", cwd=folder)
    adapter = ("--adapter", folder / "out/train/adapter")
    base_of = folder / "base"
    write_recipe(folder, "base.yaml", output_dir=str(base_of), lora=None, distill=None, train__max_steps=1, train__learning_rate=0, export=None, eval=None)
    succeed("run", "base.yaml", cwd=folder)
    base = base_of / "train/model"
    said_json("merge", "--model", base, *adapter, "--out", "joined", cwd=folder)
    check((folder / "joined/model.safetensors").read_bytes() == (made["hf"] / "model.safetensors").read_bytes(), "merge of two paths is not the recipe's merge")
    (folder / "ids.json").write_text("[5, 60, 70, 80]")
    succeed("logits", "--model", base, *adapter, "--ids", "ids.json", "--out", "with.npy", cwd=folder)
    succeed("logits", "--model", "joined", "--ids", "ids.json", "--out", "joined.npy", cwd=folder)
    _, a = npy(folder / "with.npy")
    _, b = npy(folder / "joined.npy")
    check(sum((x - y) ** 2 for x, y in zip(a, b)) < 1e-11 * sum(x * x for x in b), "adapter on the fly and merged")
    page = folder / "again.html"
    check(said_json("report", "out", "--out", page, cwd=folder)["report"] == str(page), "report --json")
    text = page.read_text()
    check("<svg" in text and "http" not in re.sub(r'xmlns="[^"]*"', "", text), "the report loads something from outside, or has no curve")


def on_models():
    with Folder() as folder:
        made = models(folder)
        ids = tokens(folder, made)
        logits(folder, made, ids)
        generate(folder, made)
        conversations(folder, made)
        evaluate(folder, made)
        inspect(folder, made)
        deploy(folder, made)


def planned_heads(folder, **changes):
    """Megabytes of "head and loss" in the plan's line, of each stage that trains the student."""
    write_recipe(folder, **changes, distill__chunk_size=4096, train__max_steps=1, export=None, eval=None)
    log = succeed("run", "recipe.yaml", cwd=folder).err
    found = dict(re.findall(r"^(train|control) +plan .* head and loss ([\d.]+) MB$", log, re.M))
    check(len(found) == 2, "not a plan in MB of each:", log)
    return {stage: float(size) for stage, size in found.items()}


def planned_memory():
    """Evaluations with stored targets have a chunk of logits of their own, the control's too, beside the one of its labels: the plan counts them."""
    with Folder() as folder:
        both, alone = planned_heads(folder, output_dir="a"), planned_heads(folder, output_dir="b", data__eval=None)
        check(4096 * 300 * 4 / 1e6 < alone["control"] < alone["train"], "logits of 4096 rows take more; targets come on top", alone)
        for stage, size in alone.items():
            wanted = size + alone["train"]
            check(abs(both[stage] - wanted) <= 0.16, f"{stage}: {both[stage]} MB with evaluations, their sum is {wanted}")


def closed_output():
    """A reader that goes away, or a full device, is an error and no success."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([common.PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
        check(done.returncode == 1 and done.stderr, "--help to a full device", done)
        done = subprocess.run([common.PROGRAM, "help", "--markdown", "recipe"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
        check(done.returncode == 1 and "output" in done.stderr, "help to a full device", done)


main([help_texts, reference_pages, doctor, on_models, planned_memory, closed_output])
