#!/usr/bin/env python3
"""Writes teacher.jsonl, train.jsonl and eval.jsonl: a small language of support tickets.

    python3 configs/quickstart/generate.py [--out DIR] [--rows TEACHER TRAIN EVAL] [--wrong SHARE]

A shop for small household machines gets tickets; each becomes a JSON object with the team that answers it, whether it is urgent, and the
product it is about. Shop, products and every sentence are invented here. What makes the language worth a model:

- Wording varies: synonyms, greetings, asides about other products, spelling errors, three ways to name a product.
- Some tickets truly belong to two teams ("I paid for it but it never came"). Their label is drawn, 0.65 to 0.75 for one team, as two people
  at a help desk would differ. In eval.jsonl the likelier team counts.
- eval.jsonl holds out combinations: a (problem, product, urgency phrase) that occurs there occurs in no other file.
- teacher.jsonl has clean labels. In train.jsonl a share of the teams is wrong on purpose: annotation errors, as in real life.

Standard library only. The same arguments give the same bytes with any Python from 3.6: the generator of random numbers is written out here.
"""
import argparse
import hashlib
import json
import os

TEAMS = ["billing", "delivery", "repair", "returns", "account", "advice"]

# name -> what people call it
PRODUCTS = {
    "Brimlo": "kettle",
    "Fendra": "sweeper",
    "Glisk": "lamp",
    "Hovrik": "heater",
    "Kuvo": "fan",
    "Meltrix": "toaster",
}

# (a|b): one of them. {p}: the product. A leading "!" marks a danger, which is always urgent.
CLEAR = {
    "billing": [
        "I was charged (twice|two times) for the {p}.",
        "the (invoice|bill) for my {p} shows the wrong (amount|sum).",
        "my card was (charged|debited) (again|once more) for the {p}.",
        "I need (an invoice|a receipt) for the {p} with our company's name.",
        "the (discount|voucher) was not taken off the price of the {p}.",
        "you (ask for|demand) a second payment for the {p}.",
        "the (monthly rate|instalment) for my {p} is (higher|larger) than agreed.",
        "the bank says your payment request for the {p} has a wrong reference.",
        "the tax number on my last (invoice|bill) is wrong.",
        "I got a payment reminder although I (paid|settled everything) on time.",
    ],
    "delivery": [
        "the parcel with my {p} (has not arrived|never came|is still not here).",
        "the tracking of my {p} has said the same for (five|six|nine) days.",
        "the driver left my {p} (at the wrong house|with a stranger|in the rain).",
        "where is my {p}, it was (promised|announced) for (Monday|Friday)?",
        "can the {p} be brought to (another|a different) address?",
        "the courier came with the {p} when (nobody was|we were not) home.",
        "the parcel with the {p} is (stuck|waiting) in (customs|the depot).",
        "please bring the {p} (in the evening|after five), we work all day.",
        "your driver went past our house (again|once more).",
        "the pick-up point (had|knew of) no parcel for me.",
    ],
    "repair": [
        "my {p} (stopped working|does not start|went dead) after (two|three|four) (weeks|months).",
        "the switch of my {p} is (loose|jammed|broken).",
        "the {p} makes a (grinding|rattling|whistling) noise (lately|since Sunday).",
        "!the cable of my {p} (throws sparks|smells of fire).",
        "!there is smoke coming out of the {p}.",
        "I would like to have my {p} (mended|repaired|fixed).",
        "which workshop (mends|repairs|looks after) the {p}?",
        "my {p} switches itself off after (a minute|some seconds).",
        "a technician should look at the motor of my {p}.",
        "the spare part that you sent does not (fit|match).",
    ],
    "returns": [
        "I want to (send|give) the {p} back.",
        "how do I return the {p}, it is (too big|too heavy|not my colour)?",
        "please send me a return label for the {p}.",
        "the {p} was a (present|gift) and we have one, so take it back please.",
        "I changed my mind about the {p}, it is still (sealed|in its box).",
        "may I (swap|exchange) the {p} for another colour?",
        "I (withdraw from|cancel) the purchase of the {p} within the fourteen days.",
        "you sent a red {p} instead of a blue one, please (swap|exchange) it.",
        "the return label does not (print|open).",
        "the drop-off shop (refused|did not take) my return.",
    ],
    "account": [
        "I (cannot|can't) (log in|sign in) to my customer page.",
        "the mail with the new password never (comes|reaches me).",
        "please (delete|close) my customer account.",
        "my (mail address|phone number) has changed.",
        "how do I (register|add) my {p} on the customer page?",
        "someone else's {p} shows up in my profile.",
        "please (take|remove) the {p} from my profile.",
        "my profile lists the {p} under my old name.",
        "I no longer want the newsletter about the {p}.",
        "the app does not accept the code of my {p} at sign-in.",
    ],
    "advice": [
        "does the {p} also work (on|with) (a battery|110 volts|solar power)?",
        "is the {p} right for a (small|large) (kitchen|room|flat)?",
        "how do I clean the {p} (properly|without scratches)?",
        "is there a (manual|guide) for the {p} in (Danish|Polish|Welsh)?",
        "may the {p} stay outdoors in (winter|the rain)?",
        "how much power does the {p} (use|need) in an hour?",
        "is the {p} (better|quieter) than your older model?",
        "may (children|guests) use the {p} alone?",
        "which (model|colour) of the {p} do most people (take|buy)?",
        "do you have a shop where one can (try|see) things?",
    ],
}

# Tickets of two teams: (likelier, other, probability of the likelier, text).
AMBIGUOUS = [
    ("delivery", "billing", 0.70, "I paid for the {p} but it never (came|arrived)."),
    ("returns", "repair", 0.65, "the {p} (arrived|came) broken."),
    ("delivery", "returns", 0.70, "the box was (crushed|torn) and the {p} is (scratched|dented)."),
    ("billing", "returns", 0.75, "I sent the {p} back and (wait for|do not see) my money."),
    ("returns", "billing", 0.65, "what I got back for the {p} is (too little|not the full price)."),
    ("account", "billing", 0.70, "I cannot pay for the {p}, the page throws me out."),
    ("billing", "account", 0.70, "the card saved on my page is old, so the {p} was not paid."),
    ("advice", "repair", 0.65, "is it normal that the {p} hums (all the time|at night)?"),
    ("repair", "advice", 0.70, "the {p} gets (rather|quite) warm, should it?"),
    ("advice", "repair", 0.75, "how do I change the (filter|fuse) of my {p} myself?"),
    ("returns", "advice", 0.70, "the {p} does not do what the advert (says|promised)."),
    ("advice", "returns", 0.70, "does the {p} fit on a narrow shelf, otherwise it goes back?"),
    ("delivery", "account", 0.75, "my profile says that the {p} was handed over, I have (nothing|no parcel)."),
    ("account", "delivery", 0.65, "I moved, and the {p} still has the old address."),
    ("account", "repair", 0.70, "the warranty of my {p} is not on my page."),
    ("repair", "billing", 0.65, "what does it cost to mend the {p}?"),
    ("billing", "repair", 0.70, "the workshop sent a bill for my {p}, is that not free?"),
    ("repair", "returns", 0.75, "the {p} has worked badly from the (first|very first) day."),
    ("advice", "delivery", 0.65, "do you bring the {p} to the (islands|mountains) too?"),
    ("delivery", "repair", 0.70, "a (part|screw|foot) of the {p} was missing in the box."),
]

URGENT = [
    "It is (very|really) urgent.", "Please (answer|help) today.", "I need this solved (tonight|by tomorrow|at once).", "This cannot wait.",
    "We have guests tomorrow.", "I leave on a journey tomorrow.", "My mother needs it every day.", "(Right away|As fast as you can), please.",
]
CALM = [
    "No hurry.", "It can wait.", "Take your time.", "Whenever it suits you.", "It is not urgent at all.", "Next week is early enough.",
    "There is no need to rush.", "Answer when you have time.",
]
GREETINGS = ["Hello,", "Hi,", "Dear team,", "Good morning,", "Hey there,", "Hello again,"]
ASIDES = [
    "You helped me quickly last year.", "I read the whole manual tonight.", "My neighbour (loves|praises) her {q}.",
    "I also own a {q} and it is fine.", "The {q} was never a problem.", "Last time it was urgent, now I am calm.",
    "We (bought|ordered) some things from you in spring.", "I wrote to you once before.",
]
SUBJECTS = ["{p}:", "About the {p}:", "My {p}:", "Subject {p}:"]
CLOSINGS = ["Thanks!", "Thank you.", "Kind regards, Ada", "Best, Tomek", "Regards, Ines", "Yours, Bo"]


WRONG_SHARE = 0.15  # of the teams in train.jsonl
AMBIGUOUS_SHARE = 0.4  # of all tickets


class Random:
    """splitmix64: the same numbers in every version of Python."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def real(self):
        return (self.next() >> 11) / 9007199254740992.0

    def below(self, n):
        return self.next() % n

    def pick(self, items):
        return items[self.below(len(items))]


def vary(rng, text):
    """One of each (a|b|c)."""
    out, rest = "", text
    while "(" in rest:
        before, rest = rest.split("(", 1)
        choices, rest = rest.split(")", 1)
        out += before + rng.pick(choices.split("|"))
    return out + rest


def say_product(rng, name):
    noun = PRODUCTS[name]
    return rng.pick([name, noun, name + " " + noun, name + " " + noun])


def misspell(rng, text):
    """Two letters change places, or one is lost, inside a longer word that names no product."""
    words = text.split(" ")
    plain = [i for i, w in enumerate(words) if len(w) > 4 and w.isalpha() and w.islower() and w not in PRODUCTS.values()]
    if plain:
        i = rng.pick(plain)
        w, at = words[i], 1 + rng.below(len(words[i]) - 3)
        words[i] = w[:at] + (w[at + 1] + w[at] + w[at + 2:] if rng.below(2) else w[at + 1:])
    return " ".join(words)


def held_out(problem, product, phrase):
    """A sixth of all combinations, by their hash: the same ones whatever is drawn."""
    return hashlib.sha256("\n".join([problem, product, phrase]).encode()).digest()[0] % 6 == 0


def ticket(rng, ambiguous_share):
    """(text, {team: probability}, urgent, product, is held out) of one ticket."""
    if rng.real() < ambiguous_share:
        first, second, share, problem = rng.pick(AMBIGUOUS)
        teams = {first: share, second: 1 - share}
    else:
        team = rng.pick(TEAMS)
        problem, teams = rng.pick(CLEAR[team]), {team: 1.0}
    draw = rng.real()
    phrase = rng.pick(URGENT) if draw < 0.35 else rng.pick(CALM) if draw < 0.65 else ""
    urgent = phrase in URGENT or problem[0] == "!"

    has_product = "{p}" in problem
    name = rng.pick(sorted(PRODUCTS)) if has_product else "none"
    core = vary(rng, problem.lstrip("!"))
    if has_product:
        core = core.replace("{p}", say_product(rng, name))

    aside = vary(rng, rng.pick(ASIDES)) if rng.real() < 0.25 else ""
    if "{q}" in aside:
        other = rng.pick([n for n in sorted(PRODUCTS) if n != name])
        aside = aside.replace("{q}", say_product(rng, other)) if has_product else ""
    greeting = rng.pick(GREETINGS) if rng.real() < 0.4 else ""
    closing = rng.pick(CLOSINGS) if rng.real() < 0.3 else ""
    main = greeting + " " + core if greeting else core[0].upper() + core[1:]
    if has_product and rng.real() < 0.5:
        subject = rng.pick(SUBJECTS).replace("{p}", say_product(rng, name))
        main = subject[0].upper() + subject[1:] + " " + main
    wish = vary(rng, phrase)
    parts = [aside, main, wish] if aside and not greeting and rng.below(2) else [main, aside, wish]
    text = " ".join(p for p in parts + [closing] if p)
    if rng.real() < 0.25:
        text = misspell(rng, text)
    return text, teams, urgent, name, held_out(problem, name, phrase)


def draw_team(rng, teams):
    u = rng.real()
    for team, share in teams.items():
        if u < share:
            return team
        u -= share
    return team


def make(seed, n, evaluation, wrong, ambiguous_share, seen):
    """n rows; texts are never repeated, not in another file either."""
    rng, rows = Random(seed), []
    while len(rows) < n:
        text, teams, urgent, product, out = ticket(rng, ambiguous_share)
        team = max(teams, key=teams.get) if evaluation else draw_team(rng, teams)
        if rng.real() < wrong:
            team = rng.pick([t for t in TEAMS if t != team])
        if out != evaluation or text in seen:
            continue
        seen.add(text)
        answer = json.dumps({"team": team, "urgent": urgent, "product": product}, separators=(",", ":"))
        rows.append(json.dumps({"prompt": text + "\n", "completion": answer}))
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--rows", type=int, nargs=3, default=[6000, 240, 400], metavar=("TEACHER", "TRAIN", "EVAL"))
    parser.add_argument("--wrong", type=float, default=WRONG_SHARE, help="share of wrong teams in train.jsonl")
    parser.add_argument("--ambiguous", type=float, default=AMBIGUOUS_SHARE, help="share of tickets that belong to two teams")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    seen = set()
    sets = [("eval", args.rows[2], True, 0.0), ("train", args.rows[1], False, args.wrong), ("teacher", args.rows[0], False, 0.0)]
    for i, (name, n, evaluation, wrong) in enumerate(sets):
        text = make(1000 * args.seed + i + 1, n, evaluation, wrong, args.ambiguous, seen)
        with open(os.path.join(args.out, name + ".jsonl"), "w", encoding="utf-8", newline="\n") as f:
            f.write(text)


if __name__ == "__main__":
    main()
