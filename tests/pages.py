"""The README and the pages of `docs`, read for what tests check: commands, examples, names and links."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A project started from the template has a README of its own, and need not have the pages.
IS_TEMPLATE = (ROOT / "README.md").read_text().startswith("# optwrap\n")
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES} if IS_TEMPLATE else {}


def section(page, heading):
    return TEXTS[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def anchors(text):
    """Return the anchors that GitHub gives to the headings of a page.

    >>> anchors("## NaN and `inf`, in a step")
    {'nan-and-inf-in-a-step'}
    """
    headings = re.findall(r"^#+ (.*)", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def inline(text):
    """Return what stands in backticks within the text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def commands_of(text):
    """Yield (program, its arguments) of every command in bash blocks and backticks.

    >>> list(commands_of("`OMP_NUM_THREADS=1 python train.py -m seed=0,1 && pytest -q`"))
    [('train', ('-m', 'seed=0,1')), ('pytest', ('-q',))]
    """
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *inline(text)]:
        typed = re.sub(r'^eval "\$\((.*)\)"$', r"\1", line.replace(r"\|", "|"))
        if not re.search(r"\w+\.py\b|\bpytest\b|\bpip\b|\bbenchmarks\b", typed):
            continue
        for command in re.split(r" && ", typed):
            words = shlex.split(command, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                del words[0]
            match words:
                case ["python", "-m", "tests.optwrap.benchmarks", *rest]:
                    yield "benchmarks", tuple(rest)
                case ["python", script, *rest] if script != "-m":
                    yield script.removesuffix(".py"), tuple(rest)
                case ["torchrun", *rest]:
                    yield "torchrun", tuple(rest)
                case ["pip", "install", "-e", *rest]:
                    yield "pip", tuple(rest)
                case ["pytest", *rest]:
                    yield "pytest", tuple(rest)


COMMANDS = sorted({each for text in TEXTS.values() for each in commands_of(text)})


def commands(program):
    """Return the distinct commands of a program, less those that need a page's own code, which other tests run."""
    own = {"experiment=spirals", "experiment=resnet50_in1k", "data._target_=experiments.crops.crops"}
    return [words for name, words in COMMANDS if name == program and not own & set(words)]
