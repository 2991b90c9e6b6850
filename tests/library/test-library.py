#!/usr/bin/python3
"""The library as others meet it: test-library.py BUILD HEADER...

Installs into a folder of its own and uses nothing but that copy and its pkg-config file: headers in C and C++, symbols, the
two examples. The writer example runs, without a VM; with real guests both do in tests/vm/test_library.py."""
import concurrent.futures
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

BUILD, *HEADERS = sys.argv[1:]
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
PASSWORD = "library"
EVENTS = ["Identify", "PrepareForBackup", "PrepareForSnapshot", "Freeze", "Thaw", "PostSnapshot", "BackupComplete"]
sys.path.insert(0, TOP + "/tests/lib")
from installed import Installed  # noqa: E402


def run(*command, rc=0, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, **options)
    if done.returncode != rc:
        raise AssertionError("%s: exit %d, not %d: %s" % (" ".join(command), done.returncode, rc, done.stdout.strip()))
    return done.stdout


def symbols(path, *options):
    """[(name, version or None)]"""
    lines = run("nm", "-D", "--with-symbol-versions", *options, path).splitlines()
    names = [line.split()[-1].replace("@@", "@").partition("@") for line in lines if " A " not in line]
    return [(name, version or None) for name, _, version in names]


class Tests:
    def __init__(self, folder):
        self.folder = folder
        self.copy = Installed(BUILD, folder)
        self.env = dict(os.environ, KVSS_STATE_DIR=folder + "/state", KVSS_PASSWORD=PASSWORD, LC_ALL="C",
                        LD_LIBRARY_PATH=self.copy.libdir)
        self.env.pop("KVSS_CONFIG", None)

    def path(self, name):
        return self.folder + "/" + name

    def test_each_header_alone(self):
        """Each public header compiles by itself, as C and as C++."""
        names = sorted(os.path.relpath(p, self.copy.includedir)
                       for p in glob.glob(self.copy.includedir + "/kvss/**/*.h", recursive=True))
        assert len(names) == len(HEADERS), "%d installed, %d public: %s" % (len(names), len(HEADERS), names)

        def compile_one(job):
            name, compiler = job
            source = self.path(name.replace("/", "-") + compiler[-1])
            with open(source, "w") as file:
                file.write("#include <%s>\n#include <%s>\nint main(void) { return 0; }\n" % (name, name))
            run(*compiler[:-1], *WARNINGS, "-Wpedantic", "-fsyntax-only", source, *self.copy.cflags)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, [(name, compiler) for name in names for compiler in
                                        (("gcc", "-std=c11", ".c"), ("g++", "-std=c++17", ".cc"))]))

    def test_cxx_links(self):
        """A C++ program links with every public function."""
        public = [name for name, version in symbols(self.copy.library, "--defined-only")
                  if version and re.match(r"LIBKVSS_\d", version)]
        assert len(public) > 100, public
        with open(self.path("all.cc"), "w") as file:
            file.write("#include <kvss/kvss.h>\nvoid *all[] = { %s };\nint main() { return all[0] == all[1]; }\n" %
                       ", ".join("reinterpret_cast<void *>(%s)" % name for name in public))
        self.copy.build([self.path("all.cc")], self.path("all"), compiler="g++")
        run(self.path("all"), env=self.env)

    def test_soname(self):
        """The library's name is libkvss.so.0, and what it needs is there."""
        dynamic = run("readelf", "-d", self.copy.library)
        assert "[libkvss.so.0]" in dynamic, dynamic
        wanted = [name for name, _ in symbols(self.copy.library, "--undefined-only") if name.startswith("kvss_")]
        assert not wanted, wanted

    def test_command(self):
        """The installed kvss finds its library; its guardian needs none."""
        assert run(self.copy.bindir + "/kvss", "--version", env={}).startswith("kvss ")
        assert "libkvss" in run("readelf", "-d", self.copy.bindir + "/kvss")
        assert "libkvss" not in run("readelf", "-d", self.copy.guardian)

    def test_examples_are_small_and_public(self):
        """Both examples have fewer than 100 lines and need promised functions only."""
        for name in ("requester", "writer"):
            with open("%s/examples/%s.c" % (TOP, name)) as file:
                lines = len(file.readlines())
            assert lines < 100, "%s: %d lines" % (name, lines)
            self.copy.build(["%s/examples/%s.c" % (TOP, name)], self.path(name), WARNINGS)
            used = [(n, v) for n, v in symbols(self.path(name), "--undefined-only") if n.startswith("kvss_")]
            assert used, name
            assert all(v and re.match(r"LIBKVSS_\d", v) for _, v in used), used

    def test_examples_complain(self):
        """Wrong use of the examples ends with words and a code."""
        assert "usage" in run(self.path("requester"), rc=2, env=self.env)
        assert "REPOSITORY" in run(self.path("writer"), rc=1, env=self.env)
        assert "No such file" in run(self.path("writer"), self.path("nowhere"), self.path("log"), rc=1, env=self.env)

    def write(self, rc=0):
        """Runs the writer example: its events, its last line."""
        *events, last = run(self.path("writer"), self.path("repository"), self.path("log"), rc=rc,
                            env=self.env).splitlines()
        return [tuple(event.split(": ")) for event in events], last

    def backups(self):
        return json.loads(run(self.copy.bindir + "/kvss", "--json", "-r", self.path("repository"), "list", "backups",
                              env=self.env))

    def test_writer_example(self):
        """The writer example stores a log that ends with a whole entry, while somebody adds to it."""
        run(self.copy.bindir + "/kvss", "-r", self.path("repository"), "init", env=self.env)
        log = self.path("log")
        open(log, "w").close()
        adder = subprocess.Popen(
            ["sh", "-c", 'while :; do flock "$0" -c "echo begin >> $0; sleep 0.1; echo end >> $0"; sleep 0.05; done', log],
            stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while os.path.getsize(log) < 30:
                time.sleep(0.01)
            events, last = self.write()
            size = os.path.getsize(log)
            time.sleep(0.5)
            assert os.path.getsize(log) > size, "nobody writes after Thaw"
        finally:
            os.killpg(adder.pid, signal.SIGKILL)
            adder.wait()
        assert [e[0] for e in events] == EVENTS, events
        assert {e[2] for e in events} == {"S_OK"}, events
        assert [b["id"] for b in self.backups()] == [last], (self.backups(), last)
        stored = run("restic", "-r", self.path("repository"), "--no-cache", "dump", last, "/host/log/log",
                     env=dict(self.env, RESTIC_PASSWORD=PASSWORD))
        assert re.fullmatch("(begin\nend\n)+", stored), stored
        with open(log) as file:
            assert file.read().startswith(stored), "not this log"

    def test_writer_refuses(self):
        """A writer that refuses Freeze keeps the whole set out of the repository."""
        before = self.backups()
        with subprocess.Popen(["flock", self.path("log"), "-c", "echo held; sleep 60"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, start_new_session=True) as holder:
            try:
                holder.stdout.readline()
                events, last = self.write(rc=1)
            finally:
                os.killpg(holder.pid, signal.SIGKILL)
        assert [e[0] for e in events] == EVENTS[:4] + ["Abort"], events
        assert events[3][2] == "VSS_E_WRITERERROR_TIMEOUT", events
        assert "is in use" in last and "Freeze" in last, last
        assert self.backups() == before and before, self.backups()
        assert not glob.glob(self.path("state") + "/journals/*")


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kvss-library-") as folder:
        tests = Tests(folder)
        names = [name for name in vars(Tests) if name.startswith("test_")]
        print("TAP version 13\n1..%d" % len(names))
        for number, name in enumerate(names, 1):
            test = getattr(tests, name)
            try:
                test()
                print("ok %d - %s" % (number, test.__doc__.rstrip(".")), flush=True)
            except (AssertionError, subprocess.SubprocessError, OSError) as error:
                failed = 1
                print("# %s\nnot ok %d - %s" % (str(error).replace("\n", "\n# "), number, test.__doc__.rstrip(".")),
                      flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
