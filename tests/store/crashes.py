"""What a crash may leave of a folder: replays a recording of tests/store/record-io.c.

The model. What POSIX promises is little: fsync() of a file makes its content (and length) durable, fsync() of a
folder the names in it, and nothing else is ever promised, in no order. What file systems do:

    ext4     metadata is journaled in order: names survive as they were at some moment (any fsync commits those
             before it). data=ordered writes a file's data before its new length, but delayed allocation gives data
             no length for up to 30 s: a renamed file that was not synced may be empty. data=writeback: zeroes or
             old blocks.
    xfs      metadata in order, asynchronously; data of what was not synced may be missing, be short, or read as
             zeroes (the length was logged, the data not).
    btrfs    a transaction is whole, but fsync's log tree makes one file durable without what came before it in
             other folders: names of different folders survive independently.
    network  anything between.

So a crash after any call of the recording leaves, here:

    all        everything, as when only the process died (kill -9)
    synced     what fsync made durable, and nothing else
    empty      all names (in order up to here: ext4, xfs), and files' data as far as it was synced: new ones are empty
    zero       the same, and what was not synced has its length and reads as zeroes
    torn       the same, and it is cut at a multiple of 512 bytes or 4 KiB, or a page here and there is zero
    mixed      each name in each folder that was not synced survives or not, by itself; data as in torn. A rename
               from folder to folder is two changes of names: either, both or none
    late       names of one folder are there, those of all others as they were synced (btrfs, network)

A disk that lies about flushing is not in the model.
"""
import hashlib
import os
import shutil

SECTOR, PAGE = 512, 4096


class Event:
    def __init__(self, what, fields, data=b""):
        self.what = what
        self.path = fields[0] if fields else ""
        self.fields = fields
        self.data = data

    def __str__(self):
        return " ".join([self.what] + [str(f) for f in self.fields])


def read_recording(path, root):
    """The events of a log, paths relative to root."""
    events = []
    with open(path, "rb") as log:
        while line := log.readline():
            what, *fields = line.decode().rstrip("\n").split("\t")
            if what in ("write", "say"):
                data = log.read(int(fields[-1]))
            else:
                data = b""
            if what in ("rename", "link"):
                fields = [os.path.relpath(os.path.normpath(f), root) for f in fields]
            elif what != "say":
                fields[0] = os.path.relpath(os.path.normpath(fields[0]), root)
            events.append(Event(what, fields, data))
    return events


class File:
    """A file's content: what is durable and what is there now."""

    def __init__(self, content=b""):
        self.durable = self.now = content
        self.is_lost = False    # a sync failed: no later one makes up for it

    def write(self, offset, data):
        now = self.now.ljust(offset, b"\0")
        self.now = now[:offset] + data + now[offset + len(data):]

    def truncate(self, length):
        self.now = self.now[:length].ljust(length, b"\0")

    def sync(self):
        if not self.is_lost:
            self.durable = self.now

    def is_synced(self):
        return self.durable is self.now or self.durable == self.now


class Folder:
    def __init__(self):
        self.durable = {}       # name -> File or Folder
        self.changes = []       # [(name, File, Folder or None)] since the last sync, oldest first
        self.is_lost = False

    def now(self):
        return self.after(self.changes)

    def after(self, changes):
        names = dict(self.durable)
        for name, node in changes:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return names

    def set(self, name, node):
        self.changes.append((name, node))

    def sync(self):
        if not self.is_lost:
            self.durable = self.now()
            self.changes = []


class Disk:
    """A tree of files under a root, told of each call."""

    def __init__(self, source=None):
        self.root = Folder()
        if source:
            self.load(self.root, source)

    def load(self, folder, path):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    node = Folder()
                    self.load(node, entry.path)
                else:
                    with open(entry.path, "rb") as file:
                        node = File(file.read())
                folder.durable[entry.name] = node

    def find(self, path):
        node = self.root
        for name in path.split("/"):
            if name != ".":
                node = node.now()[name]
        return node

    def place(self, path):
        folder, name = os.path.split(path)
        return self.find(folder or "."), name

    def apply(self, event):
        getattr(self, "on_" + event.what.replace("-", "_"))(event)

    def on_create(self, event):
        folder, name = self.place(event.path)
        folder.set(name, File())

    def on_mkdir(self, event):
        folder, name = self.place(event.path)
        folder.set(name, Folder())

    def on_unlink(self, event):
        folder, name = self.place(event.path)
        folder.set(name, None)

    on_rmdir = on_unlink

    def on_write(self, event):
        self.find(event.path).write(int(event.fields[1]), event.data)

    def on_truncate(self, event):
        self.find(event.path).truncate(int(event.fields[1]))

    def on_link(self, event):
        folder, name = self.place(event.fields[1])
        folder.set(name, self.find(event.path))

    def on_rename(self, event):
        node = self.find(event.path)
        old, old_name = self.place(event.path)
        folder, name = self.place(event.fields[1])
        folder.set(name, node)
        old.set(old_name, None)

    def on_sync(self, event):
        self.find(event.path).sync()

    def on_failed_sync(self, event):
        """The kernel gave the pages up: what was not durable never will be."""
        self.find(event.path).is_lost = True

    def on_say(self, event):
        pass

    def folders(self, folder=None, path="."):
        """All folders that were not synced: [(path, Folder)]."""
        folder = folder or self.root
        found = [(path, folder)] if folder.changes else []
        for name, node in folder.now().items():
            if isinstance(node, Folder):
                found += self.folders(node, os.path.join(path, name))
        return found

    # --- what a crash leaves: {path: bytes, or None for a folder} ---

    def state(self, names, data):
        """names(folder) gives the names that survive, data(file) the content."""
        out = {}

        def walk(folder, path):
            for name, node in names(folder).items():
                place = path + name
                if isinstance(node, Folder):
                    out[place] = None
                    walk(node, place + "/")
                else:
                    out[place] = node.now if node.is_synced() else data(node)
        walk(self.root, "")
        return out

    def states(self, rng, n_mixed):
        """[(kind, state)]: see the head of this file."""
        def every(folder):
            return folder.now()

        def synced(folder):
            return folder.durable

        def some(folder):
            return folder.after([c for c in folder.changes if rng.random() < share])

        yield "all", self.state(every, lambda file: file.now)
        yield "synced", self.state(synced, lambda file: file.durable)
        yield "empty", self.state(every, lambda file: file.durable)
        yield "zero", self.state(every, zeroed)
        yield "torn", self.state(every, lambda file: torn(file, rng))
        changed = self.folders()
        if len(changed) > 1:
            chosen = rng.choice(changed)[1]
            yield "late", self.state(lambda f: f.now() if f is chosen else f.durable, lambda file: torn(file, rng))
        for _ in range(n_mixed if changed else 0):
            share = rng.choice((0.2, 0.5, 0.8))
            yield "mixed", self.state(some, lambda file: torn(file, rng))


def zeroed(file):
    return file.durable.ljust(len(file.now), b"\0")[:len(file.now)]


def torn(file, rng):
    """Content between durable and now."""
    how = rng.randrange(5)
    if how == 0:
        return file.durable
    if how == 1:
        return file.now
    if how == 2:        # pages by themselves
        old, now = zeroed(file), file.now
        return b"".join((now if rng.random() < 0.7 else old)[at:at + PAGE] for at in range(0, len(now), PAGE))
    unit = rng.choice((SECTOR, PAGE))
    cut = rng.randrange(len(file.now) // unit + 1) * unit
    if how == 3:
        return file.now[:cut]
    return file.now[:cut] + zeroed(file)[cut:]


hashes = {}     # content -> its hash: most contents are in most states


def digest(state):
    """Names a state."""
    sha = hashlib.sha256()
    for path in sorted(state):
        content = state[path]
        if content is not None and content not in hashes:
            hashes[content] = hashlib.sha256(content).digest()
        sha.update(path.encode() + b"\0")
        sha.update(b"folder" if content is None else hashes[content])
    return sha.digest()


def write_state(state, target):
    """Makes it a folder."""
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    for path, content in state.items():     # folders come before what is in them
        place = os.path.join(target, path)
        if content is None:
            os.mkdir(place)
        else:
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, content)
            os.close(fd)


def read_state(folder):
    """The same of a folder that is there."""
    out = {}
    for path, folders, files in os.walk(folder):
        for name in folders:
            out[os.path.relpath(os.path.join(path, name), folder)] = None
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                out[os.path.relpath(os.path.join(path, name), folder)] = file.read()
    return out


