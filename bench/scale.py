"""What a repository costs that has grown: many chunks, many backups, a disk of nothing but holes.

No VM and no other tool: make-repository writes index files and sets that only count.
"""
import os
import re
import shutil
import tempfile

import measure
from measure import BenchError, MIB, run

PASSWORD = "bench password"
CHUNKS = 10_000_000
SETS = 1000
VMS = 100
VM_CHUNKS = 2 * 163840  # of a VM that make-repository makes with its disks
TIB = 1 << 40


class Scale:
    def __init__(self, kvss, chunks, say):
        top = os.path.dirname(kvss)
        self.kvss = kvss
        self.make = top + "/bench/make-repository"
        self.tool = top + "/tests/interop/repository-tool"
        self.chunks = chunks
        self.say = say
        self.rows = [["", "time", "CPU time", "memory"]]
        for program in (kvss, self.make, self.tool):
            if not os.access(program, os.X_OK):
                raise BenchError("%s is not there: it is built with kvss" % program)

    def begin(self, name):
        self.repository = os.path.join(self.folder, name)
        self.cache = self.repository + ".cache"
        self.env = {"KVSS_REPOSITORY": self.repository, "KVSS_PASSWORD": PASSWORD, "KVSS_CACHE_DIR": self.cache,
                    "KVSS_STATE_DIR": self.repository + ".state"}
        self.run(self.kvss, "-q", "init")

    def run(self, *command):
        return run(list(command), self.folder + "/log", env=self.env)

    def measured(self, what, *command):
        cost = self.run(*command)
        self.rows.append([what, "%.2f s" % cost.seconds, "%.2f s" % cost.cpu, "%.0f MiB" % (cost.memory / MIB)])
        self.say("  %s: %.2f s, CPU %.2f s" % (what, cost.seconds, cost.cpu))
        return cost

    def list(self, what):
        return self.measured(what, self.kvss, "list", "backups")

    def forget_sets(self):
        """Without what is known of its sets, a list has to look into the index."""
        for folder in os.listdir(self.cache):
            os.unlink(os.path.join(self.cache, folder, "sets"))

    def many_chunks(self):
        count = re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", str(self.chunks))
        self.begin("chunks")
        self.say("making index files of %s chunks" % count)
        self.run(self.make, "chunks", self.repository, str(self.chunks))
        self.run(self.make, "sets", self.repository, "1", "1")
        shutil.rmtree(self.cache)
        self.list("%s chunks: opened for the first time" % count)
        self.forget_sets()
        self.list("%s chunks: opened again" % count)
        self.run(self.make, "sets", self.repository, "1", "2")
        self.list("%s chunks: opened after another backup" % count)
        shutil.rmtree(self.repository)

    def looked_through(self):
        """Chunks that a set needs, in packs that are there: what verify and prune go through."""
        vms = max(1, round(self.chunks / VM_CHUNKS))
        count = "{:,}".format(vms * VM_CHUNKS)
        self.begin("disks")
        self.say("making a set of %s chunks and its packs" % count)
        self.run(self.make, "disks", self.repository, str(vms))
        self.list("%s chunks of one set: opened for the first time" % count)
        self.measured("%s chunks of one set: verified, structure" % count, self.kvss, "verify")
        self.measured("%s chunks of one set: looked through for prune" % count, self.kvss, "prune", "--dry-run")
        shutil.rmtree(self.repository)

    def many_sets(self):
        self.begin("sets")
        self.say("making %d sets of %d VMs" % (SETS, VMS))
        self.run(self.make, "sets", self.repository, str(SETS), str(VMS))
        self.list("%d backups of %d VMs: listed for the first time" % (SETS, VMS))
        self.list("%d backups of %d VMs: listed again" % (SETS, VMS))
        shutil.rmtree(self.repository)

    def sparse_disk(self):
        self.begin("sparse")
        path = os.path.join(self.folder, "disk.raw")
        with open(path, "wb") as file:
            file.truncate(TIB)
        self.measured("1 TiB of holes: backed up", self.tool, "backup", self.repository, "kvss", "vda.raw=" + path)

    def table(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(len(self.rows[0]))]
        lines = ["| %s |" % " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                       for i, (cell, width) in enumerate(zip(row, widths))) for row in self.rows]
        lines.insert(1, "|%s|" % "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":"
                                          for i, width in enumerate(widths)))
        return "\n".join(lines)

    def print(self):
        base = os.environ.get("KVSS_LAB_TMP") or "/var/tmp"
        self.folder = tempfile.mkdtemp(prefix="kvss-scale.", dir=base)
        try:
            self.many_chunks()
            self.looked_through()
            self.many_sets()
            self.sparse_disk()
            print("\n".join(measure.machine(self.folder, self.kvss)))
            print("\n" + self.table())
        finally:
            shutil.rmtree(self.folder)
