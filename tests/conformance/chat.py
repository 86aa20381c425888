"""Chat templates of real models, rendered by decant and by transformers: texts and assistant spans must be equal.

usage: chat.py CHAT_TOOL

Templates are read where they lie: from the GGUF files of $DECANT_MODELS and from $DECANT_SHARED (../shared); none of their text is in this repository.
Beside them stand templates written here in the style of other families (tools, reasoning, alternation).
"""
import datetime
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys

import judges

judges.enter("transformers", "gguf", "jinja2")

import transformers.utils.chat_template_utils as ctu
from gguf import GGUFReader

SHARED = pathlib.Path(os.environ.get("DECANT_SHARED") or "../shared")
NOW = 1700000000

STYLES = {
    "schemas, dates, roles that must fit": """
{%- set today = strftime_now("%d %b %Y") if strftime_now is defined else "never" -%}
{%- set ns = namespace(turns=0, calls=[], asked=false) -%}
{%- set head, rest = ("", messages) -%}
{%- if messages[0]["role"] in ("system", "developer") -%}
    {%- set head, rest = (messages[0]["content"] | trim, messages[1:]) -%}
{%- endif -%}
{{- "<<" ~ today ~ ">>\n" ~ (head or "no instructions") ~ "\n" -}}
{%- if tools -%}
    {%- for t in tools -%}
        {{- loop.index ~ "/" ~ loop.length ~ " " }}{{- t.function | tojson(indent=2) }}{{- "\n" if not loop.last else ";\n" -}}
    {%- endfor -%}
{%- endif -%}
{%- for turn in rest -%}
    {%- if turn.role == "user" -%}
        {%- if ns.turns is odd and not ns.calls -%}{{- raise_exception("a user follows a user in turn " ~ loop.index) -}}{%- endif -%}
        {%- set ns.asked = true -%}
        {{- "U> " + turn.content | trim -}}
    {%- elif "tool_calls" in turn -%}
        {%- if turn.tool_calls | length > 1 -%}{{- raise_exception("one call at once") -}}{%- endif -%}
        {%- set f = turn.tool_calls[0].function -%}
        {%- set ns.calls = ns.calls + [f.name] -%}
        {{- "C> " ~ f.name ~ "(" -}}
        {%- if f.arguments is string -%}{{- f.arguments -}}{%- else -%}
            {%- for k, v in f.arguments.items() -%}{{- k ~ "=" ~ (v | tojson) ~ ("" if loop.last else ", ") -}}{%- endfor -%}
        {%- endif -%}
        {{- ")" -}}
    {%- elif turn.role == "tool" -%}
        {{- "R> " ~ (turn.content | tojson if turn.content is iterable and turn.content is not string else turn.content) ~ " by " ~ ns.calls[-1] -}}
    {%- else -%}
        {{- "A> " + turn["content"] -}}
    {%- endif -%}
    {%- set ns.turns = ns.turns + 1 -%}
    {{- "\n" -}}
{%- endfor -%}
{%- if add_generation_prompt and ns.asked -%}{{- "A>" -}}{%- endif -%}
""",
    "generation": """{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}
{% else %}{{ m.content }}</s>
{% endif %}{% endfor %}""",
    "brackets, last user, reasoning": """
{%- set people = messages | rejectattr("role", "in", ["tool", "system"]) | list -%}
{%- set users = people | selectattr("role", "equalto", "user") | list -%}
{%- set last = users[-1] if users else none -%}
{%- for m in people -%}
    {%- if m.role == "user" -%}
        {%- if m == last and tools is not none -%}
            {{- "{tools: " -}}
            {%- for t in tools -%}
                {%- for key, val in t.function.items() if key != "parameters" -%}
                    {{- key ~ ":" ~ (val if val is string else val | tojson) ~ ("" if loop.last else ",") -}}
                {%- endfor -%}
                {{- " | " if not loop.last else "}" -}}
            {%- endfor -%}
        {%- endif -%}
        {{- "[" + m["content"] + "]" -}}
    {%- elif m["role"] == "assistant" -%}
        {%- set why, said = (m.reasoning_content | default("", true), m.content | default("", true)) -%}
        {%- if not why and "</think>" in said -%}
            {%- set parts = said.split("</think>", 1) -%}
            {%- set why, said = (parts[0].split("<think>")[-1].strip("\n"), parts[-1].lstrip("\n")) -%}
        {%- endif -%}
        {%- if why and (loop.last or loop.nextitem.role != "user") -%}{{- "(" ~ why | replace("\n", " / ") ~ ") " -}}{%- endif -%}
        {{- said | trim + eos_token -}}
    {%- else -%}
        {{- raise_exception("no place for " + m.role) -}}
    {%- endif -%}
{%- else -%}
    {{- "nobody speaks" -}}
{%- endfor -%}
""",
    "macros over schemas": """{%- macro kind(p) -%}
{%- if p.type is string -%}{{ p.type|upper }}{%- elif p.type is iterable -%}{{ p.type|map('upper')|join('|') }}{%- else -%}ANY{%- endif -%}
{%- endmacro -%}
{%- macro params(properties, required, depth=0) -%}
{%- for key, value in properties | dictsort -%}
{{ '  ' * depth }}{{ key }}: {{ kind(value) }}{% if required is defined and required and key in required %} (required){% endif %}{% if value.enum is defined %} {{ value.enum|join(', ') }}{% endif %}{% if value.description %} // {{ value.description }}{% endif %}

{% if value.properties is defined %}{{ params(value.properties, value.required, depth + 1) }}{% endif -%}
{%- endfor -%}
{%- endmacro -%}
{% if tools %}{% for tool in tools %}{% set f = tool.function or tool %}{{ f.name }}
{{ params(f.parameters.properties, f.parameters.required) }}{% endfor %}{% endif %}
{% for m in messages %}{{ '[' ~ m.role ~ ']' }}{{ m.content if m.content is string else m.content|selectattr('type', 'equalto', 'text')|map(attribute='text')|join }}
{% endfor %}{{ '[assistant]' if add_generation_prompt }}""",
}

CONTENTS = ["hi", " padded \n", "two\nlines", "h\u00e9llo \u4e16\u754c \U0001f600", "<think>\nwhy\n</think>\n\nanswer", "quote \" ' \\ <|im_end|>", "",
            "<tool_response>x</tool_response>", "</think>early", "{{ not a template }} {% if %}"]
TOOL = {"type": "function", "function": {"name": "weather", "description": "Get \"weather\" <now>", "parameters": {
    "type": "object", "required": ["city"], "properties": {"unit": {"type": "string", "enum": ["c", "f"]}, "City": {"type": ["string", "null"]},
    "city": {"type": "object", "description": "wh\u00e9re", "properties": {"a": {"type": "number"}}}}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "K\u00f6ln", "n": [1, 2.5, None, True], "o": {}}}}


def conversations():
    rng = random.Random(7)
    yield [{"role": "user", "content": "hi"}]
    yield [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    yield [{"role": "assistant", "content": "first"}]
    yield [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "{\"t\": 3}"},
           {"role": "tool", "content": "again"}, {"role": "assistant", "content": "3 degrees"}]
    yield [{"role": "user", "content": "w?"}, {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "3"}]
    yield [{"role": "user", "content": "w?"}, {"role": "assistant", "reasoning_content": "because", "content": "x"}]
    yield [{"role": "user", "content": "w?"}, {"role": "assistant", "thinking": "because", "content": "x"}, {"role": "user", "content": "y"}]
    yield [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "x", "tool_calls": [{**CALL, "function": {**CALL["function"], "arguments": "{\"s\": 1}"}}]}]
    yield [{"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "text", "text": " two"}]}]
    for _ in range(100):
        turns = [{"role": "system", "content": rng.choice(CONTENTS)}] if rng.random() < 0.4 else []
        for k in range(rng.randrange(1, 8)):
            turns.append({"role": "user" if k % 2 == 0 else "assistant", "content": rng.choice(CONTENTS)})
            if rng.random() < 0.15:
                turns.append({"role": "assistant", "content": rng.choice(CONTENTS), "tool_calls": [CALL] * rng.randrange(1, 3)})
                turns.append({"role": "tool", "content": rng.choice(CONTENTS)})
        yield turns


def templates():
    found = dict(STYLES)
    for path in sorted(judges.MODELS.glob("*.gguf")):
        field = GGUFReader(path).fields.get("tokenizer.chat_template")
        if field:
            found[path.name] = bytes(field.parts[field.data[0]]).decode()
    for path in sorted((SHARED / "tokenizers").glob("*/tokenizer_config.json.zst")):
        text = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
        template = json.loads(text).get("chat_template")
        if template:
            found[path.parent.name] = template
    if len(found) == len(STYLES):
        print("no real template was found: only decant's own are compared")
    return found


def expected(template, messages, tools, add_generation_prompt, more):
    messages = [{k: v for k, v in m.items() if v is not None} for m in messages]
    try:
        marks = "generation %}" in template
        text, spans = ctu.render_jinja_template([messages], tools=tools, chat_template=template, return_assistant_tokens_mask=marks,
                                                add_generation_prompt=add_generation_prompt, **more)
        text = text[0]
        spans = [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans[0]] if marks else []
        return {"text": text, "spans": spans}
    except Exception as error:
        return {"error": str(error)}


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW)


ctu.datetime = Fixed
jobs, wanted, names = [], [], []
for name, template in templates().items():
    ctu._compile_jinja_template.cache_clear()
    for messages, tools, prompt in itertools.product(conversations(), [None, [TOOL, TOOL]], [False, True]):
        more = {"bos_token": "<s>", "eos_token": "</s>"}
        if prompt and len(messages) % 2:
            more["enable_thinking"] = False
        job = {"template": template, "messages": messages, "add_generation_prompt": prompt, "more": more, "now": NOW}
        if tools:
            job["tools"] = tools
        jobs.append(json.dumps(job) + "\n")
        wanted.append(expected(template, messages, tools, prompt, more))
        names.append(name)
got = subprocess.run([sys.argv[1]], input="".join(jobs), capture_output=True, text=True, check=True).stdout.splitlines()
assert len(got) == len(wanted), (len(got), len(wanted))
bad = 0
for name, job, want, line in zip(names, jobs, wanted, got):
    have = json.loads(line)
    if ("error" in want) != ("error" in have) or ("error" not in want and want != have):
        bad += 1
        if bad <= 5:
            print(f"{name}: {json.loads(job)['messages']}\n  wanted {want!r}\n  got    {have!r}")
counts = {n: (names.count(n), sum("error" in w for w, m in zip(wanted, names) if m == n)) for n in dict.fromkeys(names)}
for n, (total, errors) in counts.items():
    print(f"{n}: {total} renderings, {errors} of them refused by both")
print(f"{len(names)} renderings, {bad} differ")
sys.exit(1 if bad else 0)
