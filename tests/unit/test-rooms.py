#!/usr/bin/python3
"""Includes point downward, in the pictures that DESIGN.md and src/repository/README.md draw

A room may include those of the lines below its own, and no other. The pictures are read as they stand, so that they stay true."""
import glob
import os
import re
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = "(this folder)"
count = 0


def verdict(name, problems):
    global count
    count += 1
    for problem in problems:
        print("# " + problem)
    print("%s %d - %s" % ("not ok" if problems else "ok", count, name), flush=True)


def read(path):
    with open(path) as file:
        return file.read()


def blocks(text):
    """Lists of lines that Markdown shows as they stand: between fences, or indented by four."""
    fenced = [block.split("\n") for block in text.split("```")[1::2]]
    return fenced + [block.split("\n") for block in re.findall(r"(?:^    .*\n)+", text, re.M)]


def picture(text, rooms):
    """{room: line} of the block that names most of them. The top line is 0; words stand two spaces apart."""
    best = {}
    for block in blocks(text):
        lines = {}
        for number, line in enumerate(block):
            lines.update((word, number) for word in re.split(r" {2,}", line.strip()) if word in rooms)
        best = max(best, lines, key=len)
    return best


def rooms_of(folder):
    return {name for name in os.listdir(folder) if glob.glob(folder + "/" + name + "/**/*.c", recursive=True)}


def includes(path, src):
    """What it includes of ours, relative to @src, however it was named."""
    for name in re.findall(r'^#include "([^"]+)"', read(path), re.M):
        beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
        yield os.path.relpath(beside if os.path.exists(beside) else os.path.join(src, name), src)


def problems_of(folder, src, lines, everywhere=()):
    """@everywhere: headers, relative to @src, that all rooms may include."""
    inside = "" if folder == src else os.path.relpath(folder, src) + "/"
    found = ["%s/ is not in the picture" % room for room in sorted(rooms_of(folder) - lines.keys())]
    for path in sorted(glob.glob(folder + "/**/*.[ch]", recursive=True)):
        room = room_in(os.path.relpath(path, folder))
        for name in includes(path, src):
            other = room_in(name[len(inside):]) if name.startswith(inside) and name not in everywhere else None
            if other in lines and room in lines and other != room and lines[other] <= lines[room]:
                found.append("%s includes %s, which is not below it" % (os.path.relpath(path, src), name))
    return found


def room_in(path):
    return path.split("/")[0] if "/" in path else HERE


def check(name, document, folder, src, everywhere=()):
    lines = picture(read(document), rooms_of(folder) | {HERE})
    verdict(name, problems_of(folder, src, lines, everywhere))


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def check_that_it_finds():
    """A picture of three rooms, and files that do not keep to it."""
    with tempfile.TemporaryDirectory() as src:
        for room, text in ("high", '#include "low/low.h"\n'), ("low", '#include "high/high.h"\n'), ("side", '#include "low/low.h"\n'):
            write("%s/%s/%s.c" % (src, room, room), text)
        lines = picture("Words.\n\n    high         words of high things\n    low   side   others\n", rooms_of(src))
        found = problems_of(src, src, lines)
        del lines["side"]
        fewer = problems_of(src, src, lines)
    wanted = ["low/low.c includes high/high.h, which is not below it", "side/side.c includes low/low.h, which is not below it"]
    verdict("what does not keep to a picture is found",
            [repr(found)] * (found != wanted) + [repr(fewer)] * ("side/ is not in the picture" not in fewer))


print("TAP version 13\n1..3")
check_that_it_finds()
src = TOP + "/src"
check("the roles in DESIGN.md", TOP + "/DESIGN.md", src, src)
check("the rooms of the repository", src + "/repository/README.md", src + "/repository", src, ("repository/repository.h",))
