"""Makes C++ for the host of a CUDA source, where a compiler of the host cannot be told by definitions alone.

    usage: translate.py SOURCE > RESULT

Assembly becomes a call of the instruction's name, and shared memory whose size the launch says becomes a pointer to it.
"""

import re
import sys


def parts(text, separator):
    """`text` split at what separates outside of brackets and strings."""
    found, depth, start, at = [], 0, 0, 0
    while at < len(text):
        if text[at] == '"':
            at = text.index('"', at + 1)
        elif text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
        elif depth == 0 and text[at] == separator:
            found.append(text[start:at])
            start = at + 1
        at += 1
    return found + [text[start:]]


def call(statement):
    """The call for `"instruction operands" : results : arguments : ...`; nothing that compiles for more than one instruction."""
    template, *groups = parts(statement, ":")
    instruction = re.match(r'\s*"\s*([\w.:]+)', template)
    if not instruction:
        return "::emulated::ptx::several_instructions()"
    operands = []
    for group in groups[:2]:
        for operand in filter(str.strip, parts(group, ",")):
            operands.append(re.fullmatch(r'\s*"[^"]*"\s*\((.*)\)\s*', operand, re.S).group(1))
    name = re.sub(r"\W+", "_", instruction.group(1))
    return f"::emulated::ptx::{name}({', '.join(operands)})"


def translated(source):
    result, at = [], 0
    for found in re.finditer(r"\basm\s*(volatile)?\s*\(", source):
        end, depth, quoted = found.end(), 1, False
        while depth:
            quoted ^= source[end] == '"'
            depth += 0 if quoted else (source[end] == "(") - (source[end] == ")")
            end += 1
        result += [source[at : found.start()], call(source[found.end() : end - 1])]
        at = end
    source = "".join(result) + source[at:]
    return re.sub(
        r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];", r"\1* \2 = reinterpret_cast<\1*>(::emulated::dynamic_shared());", source
    )


sys.stdout.write(translated(open(sys.argv[1], encoding="utf-8").read()))
