"""Makes tests/data/chat_cases.json: small templates, and what transformers' template engine renders from them.

usage: PYTHON tests/data/gen_chat.py   (from the source root; PYTHON has transformers, see docs of the conformance tests)

A case is [template, text], text null where transformers raises. Every template here was written for decant.
"""
import json
import sys

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

V = {"x": 7, "f": 2.5, "s": "hello world", "u": "h\u00e9llo \u4e16\u754c \U0001f600", "e": "", "l": [3, 1, 2], "w": ["b", "A", "c"],
     "d": {"b": 1, "a": {"c": [1, 2, {"k": "v"}]}, "items": "shadow"}, "t": True, "n": None, "q": "it's \"q\" \\ \n\t",
     "users": [{"name": "Bo", "age": 3, "on": True}, {"name": "al", "age": 3, "on": False}, {"name": "Cy", "age": 1}],
     "big": 9007199254740993, "small": 1e-7, "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}]}

EXPRESSIONS = r"""
x | x + 1 | x - 10 | x * 3 | x / 2 | x // 2 | -x // 2 | x % 4 | -x % 4 | x ** 2 | 2 ** -1 | 7.5 // 2 | -7.5 % 2 | x / 0 | 1e3 | 1_000 | 0x1f | 1.5e-7 | 1e16 | 123456789012345678.0
-x ~ 'a' | +x | - -x | 2 ** 3 ** 2 | -2 ** 2 | 1 + 2 ~ 3 + 4 | 1 ~ 2 * 3 | true + 1 | x + f | s + x | s * 2 | 2 * s | l + l | l * 2 | (1, 2) + (3,) | n + 1
x == 7.0 | x != 7 | t == 1 | 'a' < 'b' | 1 < 2 < 3 | 3 > 2 > 2 | 1 < 'a' | l == [3, 1, 2] | (1,) == [1] | n == none | missing == other | big == 9007199254740992.0 | [1, 2] < [1, 3]
'lo' in s | 3 in l | 'b' in d | 4 not in l | n in l | 'x' in n | missing in s | '' in e | 1 in missing | {'a': 1} == {'a': 1.0}
not x | not e and x | e or s | n or missing or 'z' | x and s | x if t else s | x if e | s if n else x if t else 1 | (x if e) is defined
missing | missing.attr | d.nothing | d.nothing.more | n.attr | s.nothing | l.foo | missing + 1 | missing ~ 'x' | missing|length | missing|upper | missing|list | missing|tojson | missing() | x() | missing[0]
d.b | d['b'] | d.a.c[2].k | d['items'] | d.items()|list | d.get('b') | d.get('zz') | d.get('zz', 5) | d.keys()|list | d.values()|list|length | d.a.c[-1] | d.a.c[9] | l[1:] | l[::-1] | l[-2:] | l[5:] | l[::2] | l[:-1] | s[1:4] | s[::-1] | u[1] | u[::-1] | u[-1] | s[100] | l['a'] | l[0:2:0]
s.upper() | u.upper() | s.title() | s.capitalize() | 'HeLLo'.swapcase() | s.split() | s.split('o') | s.split('o', 1) | s.rsplit('o', 1) | ' a  b c '.split(None, 1) | ' a  b c '.rsplit(None, 1) | 'a,b,,'.split(',') | ''.split() | ''.split(',') | s.split('') | 'a\nb\r\nc\n'.splitlines() | 'a\nb'.splitlines(true)
s.startswith('he') | s.startswith(('x', 'h')) | s.endswith('ld') | s.startswith('l', 2) | s.find('o') | s.rfind('o') | s.find('zz') | u.find('\u4e16') | s.index('zz') | s.count('l') | s.count('') | s.replace('l', 'L') | s.replace('l', 'L', 1) | 'ab'.replace('', '-') | s.strip('hd') | '  a '.strip() | '\u3000a\u00a0'.strip() | 'xxaxx'.lstrip('x') | 'xxaxx'.rstrip('x') | ' a '.lstrip() ~ '.' | s.removeprefix('hello ') | s.removesuffix('zz') | s.partition(' ') | s.rpartition('l') | s.partition('zz')
'-'.join(w) | '-'.join(l) | ', '.join(d) | 'a'.center(4) ~ '.' | 'abc'.center(6, '*') | 'a'.ljust(3, '.') | 'a'.rjust(3) | '-5'.zfill(4) | '5'.zfill(3) | '{} and {}'.format(1, 'b') | '{0}{1}{0}'.format('a', 'b') | '{a}{{}}'.format(a=2) | '{a.b}{l[0]}{x!r}'.format(a=d, l=l, x=s) | '%s is %d' % ('a', 3) | '%5.2f|%-4s|%03d' % (f, 'a', 7) | '%s' % x | '%(b)s' % d | '%d' % 'a' | '100%%' % ()
'12'.isdigit() | 'ab1'.isalnum() | 'ab'.isalpha() | ' '.isspace() | 'AB'.isupper() | 'ab'.islower() | ''.isdigit() | '\u0661'.isdecimal() | '\u00b2'.isdigit() | '\u00b2'.isdecimal() | '\u2167'.isnumeric() | u.isascii() | '\u00df'.upper() | '\u0391\u03a3'.lower() | '\u0130'.lower()
l.count(1) | l.index(2) | l.index(9) | (1, 2).count(1) | l.append(1) | d.pop('b') | d.update({}) | l.__class__ | s.__len__ | d.copy() | range(3) | range(3)|list | range(1, 10, 3)|list | range(5, 0, -2)|list | range(1000000)|list | range(0) | range(2, 4) | range(1, 9, 2)
[1, 'a', none, true, 2.0, [1], (1,), {'k': 'v'}] | () | (1,) | {} | [] | {'a': 1, 2: 'b', none: 3} | q | [q] | ["it's"] | ['\x01\u200b\u00e9\n'] | {1: 2, 1.0: 3} | [missing] | (1, 2)[0] | {'a': {'b': 1}}.a.b | "a" "b" 'c' | 'a\tb\\n\x41\u0042\101\q' | 1.0 | 1e100 | 0.1 + 0.2 | -0.0 | 1e22 | 1e15 | 123456.789 | 5e-324 | true | false | none | True and None
s|upper | s|lower | s|title | 'a-b (c'|title | s|capitalize | s|length | u|length | d|length | l|length | x|length | l|first | l|last | s|first | s|last | []|first | []|last | l|sort | w|sort | w|sort(case_sensitive=true) | l|sort(reverse=true) | users|sort(attribute='age')|map(attribute='name')|join(',') | users|sort(attribute='name')|map(attribute='name')|list | [1, 'a']|sort
l|join | l|join(', ') | users|join('/', attribute='name') | l|reverse|list | s|reverse | l|sum | users|sum(attribute='age') | l|min | l|max | w|min | []|min | l|list | s|list | d|list | d|items|list | missing|items|list | d|dictsort | {'b': 1, 'A': 2}|dictsort | {'b': 1, 'A': 2}|dictsort(true) | {'b': 1, 'A': 2}|dictsort(by='value') | {'b': 1, 'A': 2}|dictsort(reverse=true)
missing|default('z') | e|default('z') | e|default('z', true) | n|default('z') | n|default('z', boolean=true) | missing|d('q') | s|replace('l', 'L') | s|replace('l', 'L', 2) | x|replace('7', '8') | s|trim | '  a '|trim ~ '.' | 'xax'|trim('x') | x|string ~ 'a' | '12'|int | '1.9'|int | 'zz'|int | 'zz'|int(5) | '0x1f'|int(0, 16) | 3.99|int | n|int | '2.5'|float | 'z'|float | x|float | -3|abs | f|round | 2.567|round(2) | 2.5|round | 3.5|round(method='floor') | 1.2|round(method='ceil') | 7|round | 1.005|round(2)
l|map('string')|list | w|map('upper')|join | users|map(attribute='name')|list | users|map(attribute='zz', default='-')|list | users|selectattr('on')|map(attribute='name')|list | users|rejectattr('on')|map(attribute='name')|list | users|selectattr('age', 'eq', 3)|list|length | users|selectattr('age', 'equalto', 3)|map(attribute='name')|join | users|selectattr('on', 'defined')|list|length | l|select('odd')|list | l|reject('gt', 1)|list | l|select('in', [1, 2])|list | [0, 1, '', 'a']|select|list | l|select('zz')|list | l|map('zz')|list | users|map(attribute='name')|map('lower')|list
l|unique|list | ['a', 'A', 'b']|unique|list | ['a', 'A']|unique(case_sensitive=true)|list | l|batch(2)|list | l|batch(2, 0)|list | l|map('string')|length | l|map('string')|last | l|map('string')|first | (l|map('string')) is iterable | (l|map('string')) is sequence | l|select('gt', 9) and 'yes' | users|groupby('age')|map(attribute='grouper')|list | (users|groupby('age'))[1].list|length | 'a b c'|wordcount | '%s-%s'|format(1, 2) | s|center(20) ~ '.'
'a\nb\n\nc'|indent | 'a\nb'|indent(2, true) | 'a\n\nb'|indent(2, blank=true) | 'a\nb'|indent('> ') | 'a\nb\n'|indent(2) ~ '.' | '<a&b>'|escape | '<a>'|e | '<a>'|safe | '<a>'|safe + '<b>' | '<a>' + ('<b>'|safe) | ('<a>'|e) ~ '<b>' | '<i>'|escape|escape
d|tojson | u|tojson | q|tojson | l|tojson(indent=2) | d|tojson(indent=4) | []|tojson(indent=2) | {'a': []}|tojson(indent=2) | d|tojson(sort_keys=true) | u|tojson(ensure_ascii=true) | d|tojson(separators=(',', ':')) | '<&>\''|tojson | n|tojson | t|tojson | f|tojson | 1e16|tojson | (1, 2)|tojson | {1: 2, none: 3, true: 4}|tojson | '\x7f\x00\x1f'|tojson | '\x7f'|tojson(ensure_ascii=true) | d.keys()|tojson | l|tojson(indent='--') | small|tojson
x is defined | missing is defined | missing is undefined | d.zz is defined | n is none | x is not none | s is string | x is number | t is number | x is integer | t is integer | f is float | t is boolean | t is true | n is false | d is mapping | l is mapping | l is iterable | x is iterable | s is sequence | d is sequence | d.items() is sequence | x is odd | x is even | x is divisibleby 7 | x is divisibleby(2) | x is eq 7 | x is sameas 7 | s is in ['hello world'] | 'A' is upper | 'a' is lower | x is gt 3 and x is lt 9 | x is not divisibleby 3 | missing is none | range is callable | x is callable | 'tojson' is filter | 'zz' is filter | missing is iterable | missing is string | x is zz | s|zz
d.items() | d.keys() | {'a': 1}.values() | {'a': 1}.items() | namespace(a=1) | namespace(a=1).a | namespace({'b': 2}).b | namespace(a=1).zz | dict(a=1, b=2) | dict([('a', 1)]) | dict({'a': 1}, b=2) | raise_exception('no ' ~ x) | strftime_now('%Y')|length | length > 3 | [1, 2, 3][1:]|length | (1, 2, 3)|length | d.a.c|length + 1 | x|string|length | (s|length) > 3
""".strip("\n")

STATEMENTS = [
    "{% if x %}a{% endif %}b", "{% if e %}a{% elif x %}b{% else %}c{% endif %}", "{% if e %}a{% elif n %}b{% else %}c{% endif %}",
    "{% for i in l %}{{ i }},{% endfor %}", "{% for i in [] %}a{% else %}none{% endfor %}", "{% for i in missing %}a{% else %}none{% endfor %}",
    "{% for i in n %}a{% endfor %}", "{% for i in x %}a{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }};{% endfor %}", "{% for a, b in l %}{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }};{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}", "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in l if i > 1 %}{{ loop.index }}{{ i }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% set ns = namespace(k=0) %}{% for i in [1,2,3,4] if ns.k < 2 %}{{ i }}{% set ns.k = ns.k + 1 %}{% endfor %}",
    "{% set ns = namespace(k=0) %}{% for i in [1,2,3,4] if ns.k < 2 %}{{ i }}{{ loop.last }}{% set ns.k = ns.k + 1 %}{% endfor %}",
    "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{{ i }}{% break %}{% endfor %}", "{% for i in l %}{% for j in l %}{% break %}{% endfor %}{{ i }}{% endfor %}", "{% break %}", "{% for i in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}({{ loop.depth }}:{{ loop(n.c) }}){% endfor %}", "{% for n in tree %}{{ loop(n.c) }}{% endfor %}",
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ x }}{% endset %}{{ a }}", "{% set a | upper %}abc{% endset %}{{ a }}", "{% set a | replace('b', 'x') | upper %}abc{% endset %}{{ a }}",
    "{% set a = 1 %}{% for i in l %}{% set a = i %}{{ a }}{% endfor %}{{ a }}", "{% set a = 1 %}{% if t %}{% set a = 2 %}{% endif %}{{ a }}", "{% for i in l %}{{ a }}{% set a = i %}{% endfor %}{{ a is defined }}",
    "{% set ns = namespace(v='') %}{% for i in l %}{% set ns.v = ns.v ~ i %}{% endfor %}{{ ns.v }}", "{% set x.y = 1 %}", "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set d2 = d %}{{ d2.b }}", "{% set x = x + 1 %}{{ x }}", "{% for x in l %}{{ x }}{% endfor %}{{ x }}", "{% set loop = 5 %}{{ loop }}",
    "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=5, a=4) }} {{ f() }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(z=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, z=3) }}", "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% for i in [1, 2] %}{% set j = i %}{% macro f() %}{{ j }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% set ns = namespace(f=none) %}{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}{% if loop.first %}{% set ns.f = f %}{% endif %}{{ ns.f() }}{% endfor %}",
    "{% macro f() %}{{ x }}{{ a }}{% endmacro %}{% set a = 9 %}{{ f() }}", "{% macro f(a) %}{% set a = 2 %}{{ a }}{% endmacro %}{{ f(1) }}{{ a is defined }}", "{% macro f(a) %}[{{ a }}]{% endmacro %}{% for i in l %}{{ f(i) }}{% endfor %}",
    "{% macro f(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% call f(1) %}body{{ x }}{% endcall %}", "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "{{ f }}{% macro f() %}{% endmacro %}", "{% macro f() %}a{% endmacro %}{{ f() | upper }}{{ f.name }}", "{% macro f(a, b=1, c) %}{% endmacro %}", "{{ x(*l) }}", "{% macro f(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(*l) }}{{ f(**{'a': 1, 'b': 2, 'c': 3}) }}{{ f(1, *[2, 3]) }}",
    "{% filter upper %}ab{{ s }}{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}", "{% print x %}", "{% raw %}{{ x }}{% endraw %}", "{%- raw -%} {{ x }} {%- endraw -%} a",
    "{% generation %}a{{ x }}{% endgeneration %}b", "{% for i in l %}<{% generation %}{{ i }}{% endgeneration %}>{% endfor %}", "{% generation %}{% set a = 1 %}{% endgeneration %}{{ a is defined }}",
    "a\n{% if x %}\nb\n{% endif %}\nc\n", "  {% if x %}  \n  b\n  {% endif %}  \n  c", "a {%- if x -%} b {%- endif -%} c", "a {%+ if x %} b {%+ endif %} c", "  {%+ if x %}\n b {% endif +%}\n c", "a\n  {{ x }}\n  b\n\n", "a  {{- x -}}  b", "  {# c #}\n  a {#- c -#} b", "{# a\n#}\nb", "a\n  {# c #}  \nb", "\n{% set a = 1 %}\n\n{{ a }}\n", "a\r\n{% if x %}\r\nb\r\n{% endif %}\r\nc\r\n",
    " {% for i in l %}\n  {{ i }}\n {% endfor %}\n", "x{{ '}}' }}y", "x{{ '{{' }}{{ \"%}\" }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': 1}['a'] }}{{ {} }}", "{ { x } }", "{{ x }", "{{ x", "{% if x", "{% if x %}", "{% endif %}", "{# x", "{{ 'abc }}", "{{ x ] }}", "{{ ( x }}", "{{ }}", "{{ x y }}", "{% zz %}", "{% for x %}{% endfor %}", "{% if %}{% endif %}", "{{ a b }}", "{{ x | }}", "{{ x. }}", "{{ 1 + }}", "{{ x is }}", "{% set 1 = 2 %}", "{% else %}", "{{ x, 1 }}", "{{ {'a' 1} }}", "{{ f(a=1, 2) }}", "{{ x | upper() | lower }}", "{{ -x | abs }}", "{{ (x, ) }}", "{{ x if }}", "{{ not }}", "{{ x is defined is defined }}",
    "{%- for m in messages %}{{ m['role'] + ': ' + m['content'] | trim }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}", "{%- set ns = namespace(found=false) -%}{%- for m in messages[::-1] -%}{%- if m.role == 'user' and not ns.found -%}{%- set ns.found = true -%}{{ messages|length - 1 - loop.index0 }}{%- endif -%}{%- endfor -%}",
    "{%- if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set sys = 'none' %}{% set rest = messages %}{% endif %}{{ sys }}|{% for m in rest %}{{ loop.index0 % 2 == 0 }}{{ m.content }};{% endfor %}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 1) %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}ok", "{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% set c = m.content %}{% if '</t>' in c %}{% set c = c.split('</t>')[-1].lstrip('\\n') %}{% endif %}{{ c }}|{% endfor %}", "{% macro show(p, depth=0) %}{% for k, v in p.items() %}{{ '  ' * depth }}{{ k }}{% if v is mapping %}:\n{{ show(v, depth + 1) }}{% else %}={{ v }}\n{% endif %}{% endfor %}{% endmacro %}{{ show({'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}) }}",
    "{% set date = strftime_now('%d %b %Y') if strftime_now is defined else 'then' %}{{ date | length }}", "{{ '' if bos_token is undefined else bos_token }}", "{% if tools is not none and tools %}t{% else %}no{% endif %}", "{% for a in [[1, 2], [3]] %}{% for b in a %}{{ loop.index }}{{ loop.last }}{% endfor %};{% endfor %}",
    "{% for i in l|map('string')|list + ['z'] %}{{ i }}{% endfor %}", "{% set g = l | map('string') %}{% for i in g %}{{ i }}{% endfor %}{% for i in g %}again{% endfor %}{{ 'true' if g }}", "{{ [1, 2, 3] | select('gt', 1) | list | length }}", "{% for i in range(3) %}{{ i }}{% endfor %}", "{% for i in d.a.c %}{{ i }}{% endfor %}", "{% include 'a' %}", "{% import 'a' as b %}", "{% extends 'a' %}",
]
MESSAGES = [{"role": "system", "content": "be \u00fcseful"}, {"role": "user", "content": " hi <t>\n"},
            {"role": "assistant", "content": "a</t>\n\nb", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": "\u00e9<"}}}]},
            {"role": "user", "content": "bye"}]


def expected(template, variables):
    try:
        return _compile_jinja_template(template).render(**variables)
    except Exception:  # the kinds of errors differ; that there is one must not
        return None


variables = {**V, "messages": MESSAGES, "tools": None, "add_generation_prompt": True, "eos_token": "</s>"}
templates = ["{{ " + e + " }}" for line in EXPRESSIONS.split("\n") for e in line.split(" | ")] + STATEMENTS
with open("tests/data/chat_cases.json", "w", encoding="ascii") as out:
    about = f"python {sys.version.split()[0]}, transformers {transformers.__version__}, jinja2 {jinja2.__version__}; PYTHON tests/data/gen_chat.py"
    out.write('{"made_by": %s,\n "variables": %s,\n "cases": [\n' % (json.dumps(about), json.dumps(variables)))
    out.write(",\n".join(json.dumps([t, expected(t, variables)]) for t in templates))
    out.write("\n]}\n")
