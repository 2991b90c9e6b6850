#!/usr/bin/env python3
"""Everybody works on one repository at once, some are killed: nothing that was acknowledged is lost.

usage: test-together.py REPOSITORY-TOOL KVSS SET-JSON [--seconds N] [--seed TEXT]

kvss and restic add, read, check, forget and prune, started at random from a seed that is printed, and tried again when
a lock refuses them. The checker knows what each acknowledged backup must hold. kill -9 strikes some of them; what a
dead restic left as a lock goes the way restic has for it (restic unlock), what a dead kvss left goes by itself.
Prints TAP.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

PASSWORD = "correct horse"
VICTIMS_LEFT = 4        # backups that a forget leaves at least


class Failed(Exception):
    pass


class Together:
    def __init__(self, options):
        self.options = options
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = tempfile.mkdtemp(prefix="kvss-together-", dir=base)
        self.repository = self.dir + "/repository"
        open(self.dir + "/kvss.conf", "w").close()
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD, KVSS_REPOSITORY=self.repository,
                        KVSS_STATE_DIR=self.dir + "/state", KVSS_CACHE_DIR=self.dir + "/cache",
                        KVSS_CONFIG=self.dir + "/kvss.conf", RESTIC_CACHE_DIR=self.dir + "/restic-cache",
                        RESTIC_REPOSITORY=self.repository)
        self.lock = threading.Lock()
        self.sets = set()       # ids of what kvss made
        self.must = {}          # id -> {path: hash}: acknowledged, and nobody was told to forget it
        self.counts = collections.Counter()
        self.failure = None
        self.end = 0
        self.n_files = 0

    # --- running ---

    def run(self, *command, may_fail=False):
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=300)
        if done.returncode != 0 and not may_fail:
            raise Failed("%s: exit %d: %s%s" % (command, done.returncode, done.stdout[-1500:], done.stderr[-1500:]))
        return done

    def start(self, rng, name, *command):
        """Runs it, perhaps kills it, again when it is locked out. Its output, or None when it was killed or time is up."""
        while True:
            kill_at = rng.uniform(0.005, 0.5) if rng.random() < 0.25 else None
            process = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
            try:
                out, said = process.communicate(timeout=kill_at or 300)
            except subprocess.TimeoutExpired:
                process.kill()
                out, said = process.communicate()
                if not kill_at:
                    raise Failed("%s: no end after 300 s: %s" % (name, said[-1000:])) from None
            if process.returncode == 0:
                self.counts[name] += 1
                return out
            if process.returncode == -9 and kill_at:
                self.counts["killed"] += 1
                self.after_death(name)
                return out if name == "kvss backup" else None
            if not self.is_locked_out(process.returncode, said):
                raise Failed("%s: exit %d: %s %s" % (name, process.returncode, out[-1500:], said[-1500:]))
            self.counts["locked out"] += 1
            if time.monotonic() > self.end:
                return None
            time.sleep(rng.uniform(0.05, 0.4))

    def is_locked_out(self, rc, said):
        """restic's word, the tool's code for LOCKED, the command's exit code for it."""
        return (b"repository is already locked" in said or b"unable to create lock" in said
                or said.startswith(b"kvss-repository-error-quark 4:") or (rc == 6 and b"kvss" in said))

    def after_death(self, name):
        """The lock of a dead restic keeps everybody out who wants to be alone, until somebody removes it."""
        if name.startswith("restic"):
            self.run("restic", "unlock")

    # --- what they do ---

    def file(self, rng, *parts):
        with self.lock:
            self.n_files += 1
            path = "%s/file-%d" % (self.dir, self.n_files)
        content = b"".join(random.Random(p).randbytes(rng.randrange(50000, 900000)) for p in parts)
        with open(path, "wb") as file:
            file.write(content)
        return path, hashlib.sha256(content).hexdigest()

    def content(self, rng):
        """Half of it is in many backups."""
        return self.file(rng, "common-%d" % rng.randrange(3), "own-%d" % rng.getrandbits(40))

    def kvss_backup(self, rng):
        vda, vda_hash = self.content(rng)
        vdb, vdb_hash = self.content(rng)
        out = self.start(rng, "kvss backup", self.options.tool, "backup", self.repository, "kvss",
                         "vms/web/disks/vda.raw=" + vda, "vms/web/disks/vdb.raw=" + vdb,
                         "set.json=" + self.options.set_json)
        os.unlink(vda)
        os.unlink(vdb)
        if out:     # the id was told, killed or not
            self.sets.add(out.split()[0].decode())
            self.must[out.split()[0].decode()] = {"vms/web/disks/vda.raw": vda_hash, "vms/web/disks/vdb.raw": vdb_hash}

    def restic_backup(self, rng):
        path, its_hash = self.content(rng)
        out = self.start(rng, "restic backup", "restic", "backup", "--json", path)
        os.unlink(path)
        if out:
            summary = json.loads(out.splitlines()[-1])
            self.must[self.full_id(summary["snapshot_id"])] = {path.lstrip("/"): its_hash}

    def full_id(self, prefix):
        ids = [name for name in os.listdir(self.repository + "/snapshots") if name.startswith(prefix)]
        if len(ids) != 1:
            raise Failed("restic's %s is not there" % prefix)
        return ids[0]

    def some_backup(self, rng):
        with self.lock:
            ids = sorted(self.must)
        return rng.choice(ids) if ids else None

    def read(self, rng, name, *command_of):
        """One file of a backup, by kvss or restic; the backup may be forgotten meanwhile."""
        its_id = self.some_backup(rng)
        if not its_id:
            return
        path, its_hash = rng.choice(sorted(self.must.get(its_id, {}).items()) or [(None, None)])
        if not path:
            return
        try:
            out = self.start(rng, name, *[part.replace("ID", its_id).replace("PATH", path) for part in command_of])
        except Failed:
            if its_id in self.must:
                raise
            return
        if out is not None and hashlib.sha256(out).hexdigest() != its_hash and its_id in self.must:
            raise Failed("%s: %s of %s is not what was stored" % (name, path, its_id[:8]))

    def kvss_read(self, rng):
        self.read(rng, "kvss read", self.options.tool, "dump", self.repository, "ID", "PATH")

    def restic_read(self, rng):
        self.read(rng, "restic read", "restic", "dump", "ID", "/PATH")

    def kvss_verify(self, rng):
        out = self.start(rng, "kvss verify", self.options.tool, "verify", self.repository, "--read-data")
        if out and not out.rstrip().endswith(b" damaged 0"):
            raise Failed("kvss verify: %s" % out[-2000:])

    def restic_check(self, rng):
        self.start(rng, "restic check", "restic", "check", "--read-data")

    def victims(self, rng, sets_only=False):
        with self.lock:
            ids = sorted(self.sets & set(self.must) if sets_only else self.must)
            chosen = rng.sample(ids, min(2, max(len(ids) - VICTIMS_LEFT, 0)))
            for its_id in chosen:
                del self.must[its_id]
        return chosen

    def restic_forget(self, rng):
        chosen = self.victims(rng)
        if chosen:
            self.start(rng, "restic forget", "restic", "forget", *chosen)

    def restic_prune(self, rng):
        self.start(rng, "restic prune", "restic", "prune", "--max-unused", rng.choice(["0", "10%", "unlimited"]))

    def kvss_prune(self, rng):
        self.start(rng, "kvss prune", self.options.kvss, "prune")

    def kvss_forget(self, rng):
        """By id, and only sets: which of them a policy takes is the policy's test."""
        chosen = self.victims(rng, sets_only=True)
        if chosen:
            self.start(rng, "kvss forget", self.options.kvss, "forget", *chosen)

    def acts(self):
        return [self.kvss_backup] * 5 + [self.restic_backup] * 2 + [self.kvss_read] * 3 + [self.restic_read] + \
               [self.kvss_verify] * 2 + [self.restic_check] + [self.restic_forget] * 2 + [self.restic_prune] + \
               [self.kvss_prune] * 2 + [self.kvss_forget] * 2

    # --- all of it ---

    def work(self, number):
        rng = random.Random("%s-%d" % (self.options.seed, number))
        acts = self.acts()
        try:
            while time.monotonic() < self.end and not self.failure:
                rng.choice(acts)(rng)
        except Exception as error:
            self.failure = self.failure or error
            raise SystemExit from error

    def locks(self):
        """What a killed restic had only half written has another name, and stays."""
        return [name for name in os.listdir(self.repository + "/locks") if len(name) == 64]

    def final_look(self):
        """All alone: everything is there, and both call it whole."""
        if self.locks():
            self.run("restic", "unlock")
        for its_id, files in self.must.items():
            for path, its_hash in files.items():
                out = self.run(self.options.tool, "dump", self.repository, its_id, path).stdout
                if hashlib.sha256(out).hexdigest() != its_hash:
                    raise Failed("%s of %s is not what was stored" % (path, its_id[:8]))
        out = self.run(self.options.tool, "verify", self.repository, "--read-data").stdout
        if not out.rstrip().endswith(b" damaged 0"):
            raise Failed("kvss verify: %s" % out[-2000:])
        self.run("restic", "check", "--read-data")
        if self.locks():
            raise Failed("locks stay: %s" % self.locks())

    def everything(self):
        """everybody at once on one repository, and some are killed"""
        self.run(self.options.tool, "make", self.repository)
        self.end = time.monotonic() + self.options.seconds
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(self.options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure
        self.final_look()
        print("# " + ", ".join("%s: %d" % pair for pair in sorted(self.counts.items())))
        print("# %d backups are there, whole" % len(self.must))
        if len(self.must) < 2 or not self.counts["kvss backup"]:
            raise Failed("too little happened to say anything")


def main():
    parser = argparse.ArgumentParser()
    for name in ("tool", "kvss", "set_json"):
        parser.add_argument(name, type=os.path.abspath)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", default=os.environ.get("KVSS_TEST_SEED") or "%08x" % random.getrandbits(32))
    options = parser.parse_args()
    if not shutil.which("restic"):
        print("1..0 # SKIP restic is not installed")
        return 0
    print("1..1\n# --seed %s" % options.seed, flush=True)
    together = Together(options)
    word = "ok"
    try:
        together.everything()
    except Exception as error:      # whatever a thread ran into
        print("# %s: %s" % (type(error).__name__, str(error).replace("\n", "\n# ")))
        word = "not ok"
    finally:
        shutil.rmtree(together.dir, ignore_errors=True)
    print("%s 1 - together: %s" % (word, Together.everything.__doc__))
    return word != "ok"


if __name__ == "__main__":
    sys.exit(main())
