"""Writes schedule_golden.h: learning rates of transformers' schedules. `python schedule_golden.py > schedule_golden.h`"""
import torch
import transformers
from transformers import get_scheduler

CASES = [("constant", 3e-4, 4, 10), ("constant_with_warmup", 3e-4, 4, 10), ("linear", 2e-5, 3, 11), ("linear", 1e-3, 0, 5),
         ("linear", 1e-3, 6, 6), ("cosine", 2e-4, 1, 9), ("cosine", 1e-3, 0, 4), ("cosine", 1e-3, 5, 5)]

print(f"/* made by schedule_golden.py with transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}. */")
print("static const golden_schedule golden_schedules[] = {")
for name, rate, warmup, total in CASES:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=rate)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    rates = []
    for _ in range(total + 2):  # two steps behind the end
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    values = ", ".join(repr(float(r)) for r in rates)
    print(f"    {{DC_SCHEDULE_{name.upper()}, {rate!r}, {warmup}, {total}, {{{values}}}}},")
print("};")
