"""No folder includes one that design.md puts above it or beside it."""
import pathlib, re, sys

ALLOWED = {
    "core": set(),
    "kernels": {"core"},
    "data": {"core"},
    "model": {"core", "kernels"},
    "train": {"core", "kernels", "data", "model"},
    "lora": {"core", "kernels", "model"},
    "distill": {"core", "kernels", "data", "model", "train"},
    "export": {"core", "kernels", "data", "model", "lora", "train"},
    "cascade": {"core", "data", "model", "train"},
    "cli": {"core", "kernels", "data", "model", "train", "lora", "distill", "export", "cascade"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"/]+)/', re.M)

bad = []
for folder, allowed in ALLOWED.items():
    for path in sorted(pathlib.Path(folder).glob("*.[ch]*")):
        for used in INCLUDE.findall(path.read_text()):
            if used != folder and used not in allowed:
                bad.append(f"{path}: includes {used}/, but {folder} may use only {', '.join(sorted(allowed)) or 'nothing'}")
print("\n".join(bad) or "layers: ok")
sys.exit(bool(bad))
