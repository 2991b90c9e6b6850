#!/usr/bin/python3
"""The public headers against the library that was just built: test-headers.py LIBRARY SRC HEADER...

What a public header declares is exported under the public version, and nothing else is; headers lean on public headers only,
named relative to themselves, and on GLib's. Says which line is missing where."""
import os
import re
import subprocess
import sys
import tempfile

LIBRARY, SRC, *HEADERS = sys.argv[1:]
HEADERS = [os.path.realpath(header) for header in HEADERS]
MAP = "src/libkvss/libkvss.map.in"
PUBLIC = re.compile(r"LIBKVSS_\d+\.\d+$")
FOREIGN = {"glib.h", "gio/gio.h", "stdbool.h", "stddef.h", "stdint.h"}
count = 0


def output(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True).stdout


def verdict(name, problems):
    global count
    count += 1
    for problem in problems:
        print("# " + problem)
    print("%s %d - %s" % ("not ok" if problems else "ok", count, name), flush=True)


def short(path):
    return os.path.relpath(path, SRC)


def declared():
    """{function: header}, as the compiler sees it: static functions are none of the library's."""
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/all.c", "w") as source:
            source.writelines('#include "%s"\n' % h for h in HEADERS if not h.endswith("/kvss.h"))
        subprocess.run(["gcc", "-std=gnu17", "-fsyntax-only", "-aux-info", folder + "/all.txt", "-I" + SRC, folder + "/all.c"] +
                       output("pkg-config", "--cflags", "gio-2.0").split(), stdin=subprocess.DEVNULL, check=True)
        with open(folder + "/all.txt") as file:
            lines = re.findall(r"^/\* (.+):\d+:\w+ \*/ extern .*?(\w+) \(", file.read(), re.M)
    return {name: os.path.realpath(path) for path, name in lines if os.path.realpath(path) in HEADERS}


def exported():
    """{function: version}"""
    lines = output("nm", "-D", "--defined-only", "--with-symbol-versions", LIBRARY).splitlines()
    return dict(line.split()[-1].replace("@@", "@").split("@") for line in lines if " A " not in line)


def check_functions(wanted, there):
    public = {name for name, version in there.items() if PUBLIC.match(version)}
    verdict("every function of a public header is exported",
            ["%s declares %s(), which the library does not have" % (short(wanted[name]), name)
             for name in sorted(wanted.keys() - there.keys())] +
            ["%s declares %s(): give it its line in %s" % (short(wanted[name]), name, MAP)
             for name in sorted(wanted.keys() & there.keys() - public)])
    verdict("every function of the public version is in a public header",
            ["%s() is in %s, and no public header declares it" % (name, MAP)
             for name in sorted(public - wanted.keys())])
    verdict("everything that is exported is called kvss_",
            ["%s is exported" % name for name in sorted(there) if not name.startswith("kvss_")])
    with open(os.path.join(SRC, "libkvss/libkvss.map.in")) as file:
        lines = re.findall(r"^    (kvss_\w+);", file.read(), re.M)
    verdict("every line of the map names a function", ["%s: there is no %s()" % (MAP, name)
                                                      for name in sorted(set(lines) - there.keys())])


def check_text(header):
    with open(header) as file:
        text = file.read()
    problems = []
    for kind, name in re.findall(r'^# *include ([<"])([^>"]+)', text, re.M):
        if kind == "<" and name not in FOREIGN:
            problems.append("%s includes <%s>, which its users need not have" % (short(header), name))
        target = os.path.realpath(os.path.join(os.path.dirname(header), name))
        if kind == '"' and target not in HEADERS:
            problems.append("%s includes \"%s\", which is no public header beside it" % (short(header), name))
    last = text.rstrip().splitlines()[-1]
    if "\nG_BEGIN_DECLS\n" not in text or last != "G_END_DECLS":
        problems.append("%s is not between G_BEGIN_DECLS and G_END_DECLS" % short(header))
    return problems


def check_umbrella(header):
    with open(header) as file:
        names = set(re.findall(r"^#include <kvss/(.+)>$", file.read(), re.M))
    wanted = {short(h) for h in HEADERS if h != header}
    verdict("kvss.h includes every public header", ["%s: %s" % (short(header), name) for name in sorted(names ^ wanted)])


print("TAP version 13")
print("1..6")
umbrella = next(h for h in HEADERS if h.endswith("/libkvss/kvss.h"))
check_functions(declared(), exported())
verdict("public headers stand alone", [p for h in HEADERS if h != umbrella for p in check_text(h)])
check_umbrella(umbrella)
