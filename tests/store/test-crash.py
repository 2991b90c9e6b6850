#!/usr/bin/env python3
"""Every crash that a recording allows: the repository opens, and every backup that was acknowledged is whole.

usage: test-crash.py RECORD-IO JUDGE REPOSITORY-TOOL KVSS SET-JSON [--sweep] [--seed TEXT] [NAME...]

An acknowledged backup is one whose id the program wrote to its standard output. What a crash leaves is in the head
of crashes.py. The mutation tests leave away a kind of fsync from the recording: the sweep must then find a loss.
Prints TAP, with the seed that makes it do the same again.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import crashes

PASSWORD, NEW_PASSWORD = "correct horse", "battery staple"


class Failed(Exception):
    pass


class Store:
    """A repository and its state folder under one root, where every state is put as well: notes name places."""

    def __init__(self, options):
        self.options = options
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="kvss-crash-", dir=base))
        self.root = self.dir + "/root"
        self.repository = self.root + "/repository"
        self.state = self.root + "/state"
        open(self.dir + "/kvss.conf", "w").close()
        os.mkdir(self.root)
        self.env = dict(os.environ, KVSS_PASSWORD=PASSWORD, RESTIC_PASSWORD=PASSWORD, KVSS_STATE_DIR=self.state,
                        KVSS_CACHE_DIR=self.dir + "/cache", KVSS_REPOSITORY=self.repository,
                        KVSS_CONFIG=self.dir + "/kvss.conf", RESTIC_CACHE_DIR=self.dir + "/restic-cache")
        self.judges = {}        # password -> process
        self.n_disks = 0

    def close(self):
        for process in self.judges.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *command, env=None, check=True):
        done = subprocess.run(command, env=dict(self.env, **(env or {})), stdin=subprocess.DEVNULL, timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if check and done.returncode != 0:
            raise Failed("%s: exit %d: %s%s" % (" ".join(command), done.returncode, done.stdout[-500:], done.stderr[-2000:]))
        return done

    def init(self):
        self.run(self.options.tool, "make", self.repository)

    def disk(self, seed, *lengths):
        """A file of noise (positive lengths) and zeroes (negative ones)."""
        self.n_disks += 1
        path = "%s/disk-%d" % (self.dir, self.n_disks)
        with open(path, "wb") as file:
            for number, length in enumerate(lengths):
                if length > 0:
                    file.write(random.Random("%s-%d" % (seed, number)).randbytes(length))
                else:
                    file.seek(-length, os.SEEK_CUR)
            file.truncate()
        return path

    def backup_command(self, *disks):
        return [self.options.tool, "backup", self.repository, "kvss", "set.json=" + self.options.set_json] + \
               ["vms/web/disks/vd%s.raw=%s" % (chr(ord("a") + n), disk) for n, disk in enumerate(disks)]

    def backup(self, *disks, **options):
        return self.run(*self.backup_command(*disks), **options)

    def recording_env(self, log, **more):
        return dict(LD_PRELOAD=self.options.record, KVSS_TEST_RECORD=log, KVSS_TEST_RECORD_ROOT=self.root, **more)

    def judge(self, how="look", *files, password=PASSWORD):
        """(word, what): ok and the ids of the snapshots; none or bad, and why. "add" adds a backup of the files."""
        if password not in self.judges:
            self.judges[password] = subprocess.Popen([self.options.judge], env=dict(self.env, KVSS_PASSWORD=password),
                                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process = self.judges[password]
        process.stdin.write("\t".join([how, self.repository, self.state, *files]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().split()
        if not answer:
            raise Failed("the judge died (%d)" % process.wait())
        if answer[0] != "ok":
            return answer[0], " ".join(answer[1:])
        return "ok", frozenset(answer[1:])

    def restic_check(self):
        """None, or what restic says."""
        done = self.run("restic", "-r", self.repository, "--no-cache", "check", "--read-data", check=False)
        return None if done.returncode == 0 else done.stdout[-1000:] + done.stderr[-1000:]


class Recording:
    """What was there before, the events, and what had to be there when each was over."""

    def __init__(self, store, base, log, required=(), going=(), opens=True):
        self.store = store
        self.base = base                        # a folder
        self.events = crashes.read_recording(log, store.root)
        self.required = frozenset(required)     # ids of before that nothing may lose
        self.going = frozenset(going)           # ids of before that are being forgotten
        self.opens = opens                      # before the first event

    def end(self):
        disk = crashes.Disk(self.base)
        for event in self.events:
            disk.apply(event)
        return disk.state(lambda folder: folder.now(), lambda file: file.now)

    def said(self, event):
        """Ids that are acknowledged: lines of their own."""
        return frozenset(re.findall(r"^[0-9a-f]{64}$", event.data.decode(), re.M)) if event.what == "say" else frozenset()


def run_killed(store, log, command, stall):
    """Runs it until it is about to sync what is named, and kills it there. False: it ended before."""
    sign = log + ".stalled"
    process = subprocess.Popen(command, env=dict(store.env, **store.recording_env(log, KVSS_TEST_RECORD_STALL=stall)),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not os.path.exists(sign):
        time.sleep(0.01)
    process.kill()
    out = process.communicate()
    if not os.path.exists(sign) and process.returncode != 0:
        raise Failed("%s: exit %d: %r" % (command, process.returncode, out))
    was_killed = os.path.exists(sign)
    if was_killed:
        os.unlink(sign)
    return was_killed


def record(store, *commands, required=(), going=(), opens=True, check=True, **env):
    """Runs commands one after the other, or those in a list beside each other, and records them.

    (COMMAND, STALL) is killed when it syncs what STALL names."""
    base = store.dir + "/base"
    log = store.dir + "/log"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(store.root, base)
    if os.path.exists(log):
        os.unlink(log)
    for command in commands:
        if isinstance(command, tuple):
            if not run_killed(store, log, *command):
                return None
            continue
        if isinstance(command[0], str):
            done = store.run(*command, env=store.recording_env(log, **env), check=check)
            continue
        processes = []
        for one, more in command:
            processes.append(subprocess.Popen(one, env=dict(store.env, **store.recording_env(log, **more)),
                                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            time.sleep(0.3)
        for process in processes:
            out = process.communicate(timeout=100)
            if check and process.returncode != 0:
                raise Failed("a command beside others failed: %r" % (out,))
    recording = Recording(store, base, log, required, going, opens)
    if recording.end() != crashes.read_state(store.root):
        raise Failed("the recording is not complete: its replay ends elsewhere than the program did")
    if check is None:
        recording.done = done
    return recording


class Sweep:
    def __init__(self, recording, seed, options, ignore=None, first_only=False, again=None, how=None,
                 n_mixed=None):
        self.recording = recording
        self.store = recording.store
        self.rng = random.Random(seed)
        self.options = options
        self.ignore = ignore            # fsyncs that are left away: a function of the event
        self.first_only = first_only    # one loss is enough
        self.again = again or []        # files that are backed up anew in every state
        self.n_mixed = n_mixed or (6 if options.sweep else 1)
        self.how = how or ("add" if again else "look")
        self.seen = {}                  # digest -> the judge's answer
        self.losses = []
        self.n_states = 0
        self.asked = []                 # states that were whole, for samples

    def lose(self, number, kind, why):
        event = str(self.recording.events[number]) if number >= 0 else "before the first call"
        self.losses.append("crash after call %d (%s), %s: %s" % (number, event, kind, why))

    def ask(self, state):
        name = crashes.digest(state)
        if name not in self.seen:
            crashes.write_state(state, self.store.root)
            self.seen[name] = self.store.judge(self.how, *self.again)
            if self.seen[name][0] == "ok":
                self.asked.append(state)
        return self.seen[name]

    def check(self, number, kind, state, required, allowed, opens):
        self.n_states += 1
        word, what = self.ask(state)
        if word == "bad" or (word == "none" and (opens or required)):
            self.lose(number, kind, what)
        elif word == "ok" and not required <= what:
            self.lose(number, kind, "gone: %s" % ", ".join(sorted(i[:8] for i in required - what)))
        elif word == "ok" and not what <= allowed:
            self.lose(number, kind, "there is a backup that nobody made")

    def run(self):
        """All prefixes. After it: losses."""
        recording = self.recording
        disk = crashes.Disk(recording.base)
        required, opens = set(recording.required), recording.opens
        allowed = required | recording.going | {i for e in recording.events for i in recording.said(e)}
        allowed |= self.snapshots_made()
        for number, event in enumerate(recording.events):
            if not (event.what == "sync" and self.ignore and self.ignore(event)):
                disk.apply(event)
            required |= recording.said(event) - recording.going
            opens = opens or event.what == "say"
            for kind, state in disk.states(self.rng, self.n_mixed):
                self.check(number, kind, state, required, allowed, opens)
                if self.losses and self.first_only:
                    return self
        return self

    def snapshots_made(self):
        """A snapshot is there from its rename on; its id is told a moment later."""
        return {os.path.basename(e.fields[1]) for e in self.recording.events
                if e.what == "rename" and os.path.dirname(e.fields[1]).endswith("/snapshots")}

    def sample(self, n_restic, n_add):
        """restic's opinion, and a next backup, on some of the states."""
        states = list(self.asked)
        self.rng.shuffle(states)
        for number, state in enumerate(states[:max(n_restic, n_add)]):
            crashes.write_state(state, self.store.root)
            word, what = self.store.judge("add" if number < n_add else "look")
            if word != "ok":
                self.losses.append("the next backup: %s" % (what,))
            said = self.store.restic_check() if number < n_restic and shutil.which("restic") else None
            if said:
                self.losses.append("restic: " + said)

    def assert_none(self):
        if self.losses:
            raise Failed("%d losses, for example:\n%s" % (len(self.losses), "\n".join(self.losses[:5])))
        print("# %d crashes, %d different states" % (self.n_states, len(self.seen)), flush=True)


def with_store(test):
    def run(options):
        store = Store(options)
        try:
            test(store, options)
        finally:
            store.close()
    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


# --- recordings ---------------------------------------------------------------------------------------------------------

def record_backups(store):
    """Two backups of two disks one after the other; the second finds half of it there already."""
    store.init()
    vda, vdb = store.disk("a", 700000, -600000, 300000), store.disk("b", 400000)
    vda2 = store.disk("a", 700000, -600000) + ""
    return record(store, store.backup_command(vda, vdb), store.backup_command(vda2, store.disk("c", 500000)))


def record_beside(store):
    """One run has an index file in place that is not durable; another one builds on it and ends first."""
    store.init()
    disk = store.disk("a", 600000)
    slow = (store.backup_command(disk), {"KVSS_TEST_RECORD_STALL": "/repository/index:1500"})
    return record(store, [slow, (store.backup_command(disk), {})])


class Pruned:
    """Three backups that share, of which the second goes; and what it alone had."""

    def __init__(self, store):
        self.store = store
        store.init()
        common = store.disk("common", 500000)
        self.own = store.disk("own", 600000, -300000, 500000)
        ids = [store.backup(*disks).stdout.split()[0] for disks in
               ((common, store.disk("first", 300000)), (common, self.own), (common, store.disk("third", 400000)))]
        self.stay, self.going = {ids[0], ids[2]}, {ids[1]}
        self.forget = [store.options.kvss, "forget", ids[1]]
        self.prune = [store.options.kvss, "prune", "--max-unused", "0"]

    def record(self, *commands):
        return record(self.store, *commands, required=self.stay, going=self.going)


# --- tests --------------------------------------------------------------------------------------------------------------

@with_store
def test_init(store, options):
    """init: there is no repository, or one that opens"""
    recording = record(store, [options.tool, "make", store.repository], opens=False)
    Sweep(recording, options.seed + "init", options).run().assert_none()


@with_store
def test_backup(store, options):
    """backup: every crash leaves all that was acknowledged, and nothing by halves"""
    sweep = Sweep(record_backups(store), options.seed + "backup", options).run()
    sweep.sample(n_restic=40 if options.sweep else 3, n_add=200 if options.sweep else 10)
    sweep.assert_none()


@with_store
def test_beside(store, options):
    """backup beside another one: it counts on nothing that a crash may take"""
    Sweep(record_beside(store), options.seed + "beside", options).run().assert_none()


@with_store
def test_prune(store, options):
    """forget and prune: what stays is whole at every moment, and what went can be backed up anew"""
    pruned = Pruned(store)
    recording = pruned.record(pruned.forget, pruned.prune, store.backup_command(pruned.own))
    sweep = Sweep(recording, options.seed + "prune", options, again=[pruned.own]).run()
    sweep.sample(n_restic=40 if options.sweep else 2, n_add=0)
    sweep.assert_none()


@with_store
def test_killed_prune(store, options):
    """a forget or prune that is killed before it syncs, the next one, and then a crash"""
    n_killed = 0
    for folder in ("snapshots", "index"):
        for number in range(20):
            shutil.rmtree(store.repository, ignore_errors=True)
            pruned = Pruned(store)
            victim, before = (pruned.forget, []) if folder == "snapshots" else (pruned.prune, [pruned.forget])
            recording = pruned.record(*before, (victim, "/repository/%s:60000:%d" % (folder, number)), pruned.prune)
            if not recording:
                break
            n_killed += 1
            name = "%s-%d" % (folder, number)
            Sweep(recording, options.seed + name, options, again=[pruned.own]).run().assert_none()
    if n_killed < 2:
        raise Failed("nothing was killed")
    print("# killed at %d fsyncs" % n_killed, flush=True)


def is_folder_sync(name):
    return lambda event: re.fullmatch(name, event.path)


MUTATIONS = [
    ("files", lambda event: re.search(r"repository/tmp/kvss-", event.path)),
    ("folders of packs", is_folder_sync("repository/data/..")),
    ("the folder of index files", is_folder_sync("repository/index")),
    ("the folder of snapshots", is_folder_sync("repository/snapshots")),
    ("notes of locks", is_folder_sync("state/locks(/.*)?")),
]


@with_store
def test_mutations(store, options):
    """the sweep can fail: each kind of fsync that is left away is a loss it finds"""
    recording = record_backups(store)
    for name, ignore in MUTATIONS:
        sweep = Sweep(recording, options.seed + name, options, ignore=ignore, first_only=True).run()
        if not sweep.losses:
            raise Failed("nobody missed the fsyncs of %s" % name)
        print("# without fsync of %s: %s" % (name, sweep.losses[0]), flush=True)


@with_store
def test_prune_mutations(store, options):
    """the sweep of prune can fail: an index that is not durable when the packs go is a loss it finds"""
    pruned = Pruned(store)
    recording = pruned.record(pruned.forget, pruned.prune)
    for name in ("index", "snapshots"):
        sweep = Sweep(recording, options.seed + name, options, ignore=is_folder_sync("repository/" + name),
                      first_only=True, again=[pruned.own]).run()
        if not sweep.losses:
            raise Failed("nobody missed the fsyncs of %s" % name)
        print("# without fsync of %s: %s" % (name, sweep.losses[0]), flush=True)


@with_store
def test_failed_sync(store, options):
    """a failed fsync ends the run with an error, and no backup is acknowledged"""
    store.init()
    store.backup(store.disk("a", 300000))
    before = store.judge()[1]
    disk = store.disk("b", 500000)
    kept = store.dir + "/kept"
    shutil.copytree(store.root, kept)
    number = refused = 0
    while True:
        shutil.rmtree(store.root)
        shutil.copytree(kept, store.root)
        recording = record(store, store.backup_command(disk), required=before, check=None,
                           KVSS_TEST_RECORD_FAIL=str(number))
        failed = [n for n, e in enumerate(recording.events) if e.what == "failed-sync"]
        said = [n for n, e in enumerate(recording.events) if recording.said(e)]
        if not failed:
            break
        place = str(recording.events[failed[0]])
        if said and said[0] > failed[0]:
            raise Failed("%s, and a backup was acknowledged" % place)
        if not said and recording.done.returncode != 1:
            raise Failed("%s: exit %d without a backup" % (place, recording.done.returncode))
        refused += not said
        answer = store.judge()
        if answer[0] != "ok" or (not said and answer[1] != before):
            raise Failed("%s: afterwards: %s" % (place, answer))
        if options.sweep or number % 3 == 0:
            Sweep(recording, options.seed + place, options).run().assert_none()
        number += 1
    if refused < 5:
        raise Failed("only %d fsyncs before a backup is acknowledged" % refused)
    print("# %d fsyncs failed, %d of them before the backup was there" % (number, refused), flush=True)


@with_store
def test_failed_sync_of_prune(store, options):
    """a failed fsync ends a prune with an error, and nothing that stays is lost"""
    pruned = Pruned(store)
    store.run(*pruned.forget)
    kept = store.dir + "/kept"
    shutil.copytree(store.root, kept)
    number = refused = 0
    while True:
        shutil.rmtree(store.root)
        shutil.copytree(kept, store.root)
        recording = record(store, pruned.prune, required=pruned.stay, check=None, KVSS_TEST_RECORD_FAIL=str(number))
        places = [e for e in recording.events if e.what == "failed-sync"]
        if not places:
            break
        is_lock = places[0].path == "repository/locks"      # the last one is given back after all is done
        if recording.done.returncode == 0 and not is_lock:
            raise Failed("%s, and prune said that all is well" % places[0])
        refused += recording.done.returncode != 0
        if options.sweep or number % 3 == 0:
            Sweep(recording, options.seed + str(number), options, again=[pruned.own]).run().assert_none()
        number += 1
    if refused < 4:
        raise Failed("only %d fsyncs of a prune failed" % refused)
    print("# %d fsyncs failed, %d of them ended the prune" % (number, refused), flush=True)


def record_repair(store):
    """Two backups that share; the pack of what they share cannot be opened by its header any more."""
    store.init()
    common = store.disk("common", 400000)
    ids = [store.backup(common, store.disk(name, 200000)).stdout.split()[0] for name in ("first", "second")]
    packs = [os.path.join(folder, name) for folder, _, names in os.walk(store.repository + "/data") for name in names]
    with open(max(packs, key=os.path.getsize), "r+b") as pack:
        pack.seek(-5, os.SEEK_END)
        byte = pack.read(1)[0]
        pack.seek(-1, os.SEEK_CUR)
        pack.write(bytes([byte ^ 1]))
    return record(store, [store.options.kvss, "repair", "--read-data"], required=ids)


@with_store
def test_repair(store, options):
    """repair: what could be read can be read at every moment, and the next repair ends it"""
    recording = record_repair(store)
    if not any(e.what == "unlink" and "/index/" in e.path for e in recording.events):
        raise Failed("no index file was replaced")
    Sweep(recording, options.seed + "repair", options, how="repair").run().assert_none()
    sweep = Sweep(recording, options.seed + "index", options, ignore=is_folder_sync("repository/index"), first_only=True,
                  how="repair", n_mixed=6).run()
    if not sweep.losses:
        raise Failed("nobody missed the fsyncs of the folder of index files")
    print("# without fsync of the folder of index files: %s" % sweep.losses[0], flush=True)


def sweep_keys(store, options, recording, n_seen, holds):
    """holds(which of the old and the new password open, was it told that it is done, is it the end)"""
    disk, rng, seen, losses, said = crashes.Disk(recording.base), random.Random(options.seed), {}, [], False
    for number, event in enumerate(recording.events, 1):
        disk.apply(event)
        said = said or event.what == "say"
        for kind, state in disk.states(rng, 6 if options.sweep else 2):
            name = crashes.digest({path: content for path, content in state.items() if "/keys" in path})
            if name not in seen:
                crashes.write_state(state, store.root)
                seen[name] = [store.judge(password=word)[0] == "ok" for word in (PASSWORD, NEW_PASSWORD)]
            if not holds(seen[name], said, number == len(recording.events)):
                losses.append("crash after call %d (%s), %s: old and new open: %s" % (number, event, kind, seen[name]))
    if losses:
        raise Failed("%d losses, for example:\n%s" % (len(losses), "\n".join(losses[:5])))
    if len(seen) < n_seen:
        raise Failed("only %d states of the keys were seen" % len(seen))


def with_backup(store):
    store.init()
    store.backup(store.disk("a", 300000))


@with_store
def test_passwd(store, options):
    """another password: one of the two opens at every moment, and afterwards only the new one"""
    with_backup(store)
    recording = record(store, [options.kvss, "key", "passwd"], KVSS_NEW_PASSWORD=NEW_PASSWORD)
    sweep_keys(store, options, recording, 3,
               lambda opens, said, ended: any(opens) and (not said or opens[1]) and (not ended or not opens[0]))


@with_store
def test_key_add(store, options):
    """one more password: the old one opens at every moment, and the new one as soon as it is told"""
    with_backup(store)
    recording = record(store, [options.kvss, "key", "add"], KVSS_NEW_PASSWORD=NEW_PASSWORD)
    sweep_keys(store, options, recording, 2, lambda opens, said, ended: opens[0] and (not (said or ended) or opens[1]))


@with_store
def test_key_remove(store, options):
    """a password that is removed: the other one opens at every moment, and once it is told only that one"""
    with_backup(store)
    done = store.run(options.kvss, "--json", "key", "add", env={"KVSS_NEW_PASSWORD": NEW_PASSWORD})
    recording = record(store, [options.kvss, "key", "remove", json.loads(done.stdout)["id"]])
    sweep_keys(store, options, recording, 2, lambda opens, said, ended: opens[0] and (not (said or ended) or not opens[1]))


TESTS = [test_init, test_backup, test_beside, test_mutations, test_failed_sync, test_prune, test_killed_prune,
         test_prune_mutations, test_failed_sync_of_prune, test_repair, test_passwd, test_key_add, test_key_remove]


def main():
    parser = argparse.ArgumentParser()
    for name in ("record", "judge", "tool", "kvss", "set_json"):
        parser.add_argument(name, type=os.path.abspath)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--seed", default=os.environ.get("KVSS_TEST_SEED"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    options.seed = options.seed or ("%08x" % random.getrandbits(32) if options.sweep else "1")
    tests = [t for t in TESTS if not options.names or any(n in t.__name__ for n in options.names)]
    print("1..%d\n# --seed %s" % (len(tests), options.seed), flush=True)
    bad = 0
    for number, test in enumerate(tests, 1):
        begin = time.monotonic()
        try:
            test(options)
            word = "ok"
        except Failed as error:
            word = "not ok"
            bad += 1
            print("# " + str(error).replace("\n", "\n# "))
        print("%s %d - crash: %s" % (word, number, test.__doc__), flush=True)
        print("# %.1f s" % (time.monotonic() - begin), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
