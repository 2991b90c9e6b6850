"""Stored disks over NBD: what clients see, who may be in the way, and what is left when somebody dies."""
import contextlib
import errno
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import time

from kvsslab import KVSS, Disk, Kvss, LabCase, LabError, process_children, run, start_libvirtd, stop_libvirtd, wait_until
from nbd import Nbd, NbdError


class Serving:
    """kvss serve, from its ready line on."""

    def __init__(self, kvss, *words, path):
        self.path = path
        self.process = subprocess.Popen([KVSS, "--json", "serve", *words, "--socket", path], env=kvss.environment(),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = [self.process.stdout.readline()]
        if '"ready"' not in self.lines[0]:
            self.end()
            raise LabError("not ready: %s %s" % (self.lines, self.stderr))
        self.ready = json.loads(self.lines[0])
        self.names = [export["name"] for export in self.ready["exports"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()

    def server(self):
        """The process of nbdkit."""
        return next(pid for pid in process_children(self.process.pid)
                    if os.path.basename(os.readlink("/proc/%d/exe" % pid)) == "nbdkit")

    def uri(self, name):
        return next(export["uri"] for export in self.ready["exports"] if export["name"] == name)

    def end(self, number=signal.SIGTERM):
        if number:
            self.process.send_signal(number)
        out, self.stderr = self.process.communicate(timeout=60)
        self.lines += out.splitlines()
        return self.process.returncode

    @property
    def summary(self):
        return json.loads(self.lines[-1])


class Serve(LabCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda", kind="random", content_kib=20000), Disk("vdb", form="raw")]).define()
        cls.other = cls.lab.guest("a b+c%41", disks=[Disk("vda", size_mib=16, kind="random", content_kib=999)]).define()
        cls.first = cls.kvss("backup", "web", "a b+c%41")
        cls.raw = cls.lab.path("original.raw")
        run("qemu-img", "convert", "-O", "raw", cls.web.disk("vda").path, cls.raw)

    def setUp(self):
        self.assertExit(self.first, 0)
        self.folder = self.lab.path(self._testMethodName)
        os.mkdir(self.folder)
        self.socket = self.folder + "/s"

    def serve(self, *words):
        serving = Serving(self.kvss, *words, path=self.socket)
        self.addCleanup(serving.__exit__)
        return serving

    def locks(self):
        return os.listdir(self.kvss.repository + "/locks")

    def content(self, offset, length):
        with open(self.raw, "rb") as file:
            file.seek(offset)
            return file.read(length)

    # ---- what clients see

    def test_one_disk(self):
        serving = self.serve("latest", "web", "vda")
        self.assertEqual(serving.names, ["web/vda"])
        self.assertEqual(serving.ready["socket"], self.socket)
        self.assertEqual(serving.ready["backup_id"], self.first.summary["backup_id"])
        self.assertEqual(serving.ready["exports"][0]["size"], 64 << 20)
        st = os.stat(self.socket)
        self.assertTrue(stat.S_ISSOCK(st.st_mode))
        self.assertEqual(st.st_mode & 0o777, 0o600)
        listed = json.loads(run("nbdinfo", "--json", "--list", "nbd+unix:///?socket=" + self.socket))
        self.assertEqual([(e["export-name"], e["export-size"], e["is_read_only"], e["can_multi_conn"])
                          for e in listed["exports"]], [("web/vda", 64 << 20, True, True)])
        for name in ("", "web/vda", self.web.uuid + "/vda"):
            with Nbd(self.socket, name) as nbd:
                self.assertEqual(nbd.size, 64 << 20)
                self.assertEqual(nbd.read(5000, 3000), self.content(5000, 3000))
        with self.assertRaises(NbdError):
            Nbd(self.socket, "web/vdb")
        copy = self.folder + "/copy.raw"
        run("nbdcopy", serving.uri("web/vda"), copy)
        run("cmp", copy, self.raw)
        self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", self.raw, serving.uri("web/vda")))
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", serving.uri("web/vda"), self.folder + "/copy.qcow2")
        self.assertLess(os.path.getsize(self.folder + "/copy.qcow2"), 24 << 20)
        self.assertEqual(len(self.locks()), 1)
        self.assertEqual(serving.end(signal.SIGINT), 0, serving.stderr)
        self.assertEqual(self.locks(), [])
        self.assertEqual(sorted(os.listdir(self.folder)), ["copy.qcow2", "copy.raw"])
        self.assertEqual((serving.summary["type"], serving.summary["damaged"]), ("summary", 0))
        self.assertGreater(serving.summary["bytes_read"], 40 << 20)
        self.assertNothingLeft()

    def test_map_is_that_of_the_stored_file(self):
        """Holes are where the original has 256 KiB of zeroes, data where it has any."""
        serving = self.serve("latest", "web", "vda")
        mapped = json.loads(run("nbdinfo", "--json", "--map", serving.uri("web/vda")))
        end, chunk = 0, 256 << 10
        for extent in mapped:
            self.assertEqual(extent["offset"], end)
            end += extent["length"]
            for offset in range(extent["offset"], end, chunk):
                self.assertEqual(extent["type"] == 3, not any(self.content(offset, chunk)), "at %d" % offset)
        self.assertEqual(end, 64 << 20)
        self.assertEqual({extent["type"] for extent in mapped}, {0, 3})

    def test_whole_set_and_names(self):
        serving = self.serve(self.first.summary["backup_id"][:10])
        self.assertEqual(sorted(serving.names), ["a b+c%41/vda", "web/vda", "web/vdb"])
        listed = json.loads(run("nbdinfo", "--json", "--list", "nbd+unix:///?socket=" + self.socket))
        self.assertEqual(sorted(e["export-name"] for e in listed["exports"]), sorted(serving.names))
        with self.assertRaises(NbdError):
            Nbd(self.socket)            # there is no default among several
        for guest, target in ((self.other, "vda"), (self.web, "vda"), (self.web, "vdb")):
            disk = guest.disk(target)
            uri = serving.uri("%s/%s" % (guest.name, target))
            self.assertIn("identical", run("qemu-img", "compare", "-f", disk.form, "-F", "raw", disk.path, uri))
        serving.end()
        serving = self.serve("latest", "web")
        self.assertEqual(sorted(serving.names), ["web/vda", "web/vdb"])

    def test_people_see_uris(self):
        process = subprocess.Popen([KVSS, "serve", "latest", "web", "--socket", self.socket], env=self.kvss.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        process.terminate()
        rest, said = process.communicate(timeout=30)
        self.assertEqual((process.returncode, rest), (0, ""), said)
        self.assertIn(self.socket, line)
        for target in ("vda", "vdb"):
            self.assertIn("nbd+unix:///web/%s?socket=%s" % (target, self.socket), line)

    def test_many_at_once(self):
        """Readers of small pieces all over, one that goes through, one that gives up in the middle of an answer."""
        serving = self.serve("latest", "web", "vda")
        copies = [subprocess.Popen(["nbdcopy", serving.uri("web/vda"), "%s/%d" % (self.folder, i)]) for i in range(3)]
        dice = random.Random(4711)
        readers = [Nbd(self.socket) for _ in range(6)]
        for _ in range(300):
            reader = dice.choice(readers)
            length = dice.choice((1, 512, 4096, 70000, 700000))
            offset = dice.randrange((24 << 20) - length)
            self.assertEqual(reader.read(offset, length), self.content(offset, length), "%d, %d" % (offset, length))
        for reader in readers[:3]:
            reader.send(0, 8 << 20)
        for reader in readers:
            reader.socket.close()
        for i, copy in enumerate(copies):
            self.assertEqual(copy.wait(60), 0)
            run("cmp", "%s/%d" % (self.folder, i), self.raw)
        with Nbd(self.socket) as nbd:
            self.assertEqual(nbd.read(4096, 4096), self.content(4096, 4096))
        self.assertEqual(serving.end(), 0, serving.stderr)

    def test_client_killed(self):
        serving = self.serve("latest", "web", "vda")
        for _ in range(5):
            client = subprocess.Popen(["nbdcopy", serving.uri("web/vda"), "null:"])
            time.sleep(0.02)
            client.kill()
            client.wait()
        self.assertIsNone(serving.process.poll())
        run("nbdcopy", serving.uri("web/vda"), self.folder + "/copy")
        run("cmp", self.folder + "/copy", self.raw)

    def test_one_file_back(self):
        """The story of the README: a file out of a guest's file system, with nothing restored."""
        if not os.path.exists("/dev/fuse"):
            self.skipTest("there is no FUSE here")
        serving = self.serve("latest", "web", "vdb")
        disk = self.web.disk("vdb")
        view = self.folder + "/view"
        os.mkdir(view)
        fuse = subprocess.Popen(["nbdfuse", view + "/", serving.uri("web/vdb")], stdout=subprocess.DEVNULL)
        try:
            wait_until("the disk as a file", lambda: os.path.exists(view + "/nbd") or fuse.poll() is not None)
            self.assertIsNone(fuse.poll(), "nbdfuse ended")
            run("debugfs", "-R", "dump /content %s/content" % self.folder, view + "/nbd")
        finally:
            run("umount", view, check=False)
            fuse.wait(20)
        with open(self.folder + "/content", "rb") as file:
            self.assertEqual(file.read(), disk.content())

    # ---- damage

    def test_damage(self):
        """A damaged chunk is an error for its reader, told once; the server and everything else go on."""
        serving = self.serve("latest", "web", "vda")
        with Nbd(self.socket) as nbd:
            nbd.read(60 << 20, 4096)
        saved = self.damage()
        self.addCleanup(lambda: [self.write(pack, data) for pack, data in saved.items()])
        bad = set()
        with Nbd(self.socket) as nbd:
            for offset in range(0, 20 << 20, 256 << 10):
                for _ in range(2):
                    try:
                        self.assertEqual(nbd.read(offset + 100, 4096), self.content(offset + 100, 4096))
                    except NbdError as error:
                        self.assertEqual(error.errno, errno.EIO)
                        bad.add(offset)
            self.assertTrue(bad)
            self.assertLess(len(bad), 40, "most of it is whole")
            self.assertEqual(nbd.read(60 << 20, 4096), bytes(4096))
        # What docs/emergency.md says: all but the damaged chunks can be had.
        rescued = self.folder + "/rescued.raw"
        run("qemu-img", "convert", "--salvage", "-f", "raw", "-O", "raw", serving.uri("web/vda"), rescued)
        with open(rescued, "rb") as file:
            for offset in range(0, 64 << 20, 256 << 10):
                wanted = bytes(256 << 10) if offset in bad else self.content(offset, 256 << 10)
                self.assertTrue(file.read(256 << 10) == wanted, "at %d" % offset)
        self.assertIsNone(serving.process.poll())
        for pack, data in saved.items():
            self.write(pack, data)
        with Nbd(self.socket) as nbd:
            for offset in bad:
                self.assertEqual(nbd.read(offset, 4096), self.content(offset, 4096), "it is read anew")
        self.assertEqual(serving.end(), 0)
        told = [json.loads(line) for line in serving.lines if '"damage"' in line]
        self.assertEqual(sorted(entry["offset"] for entry in told), sorted(bad))
        for entry in told:
            self.assertEqual((entry["vm"], entry["target"]), ("web", "vda"))
            self.assertRegex(serving.stderr, r"web: disk vda: offset %d: .*damaged" % entry["offset"])
        self.assertEqual(serving.summary["damaged"], len(bad))

    def damage(self):
        saved = {}
        for pack in run("find", self.kvss.repository + "/data", "-type", "f", "-size", "+1000k").split():
            with open(pack, "rb") as file:
                saved[pack] = data = file.read()
            os.chmod(pack, 0o600)
            self.write(pack, data[:400000] + bytes(byte ^ 0xff for byte in data[400000:400100]) + data[400100:])
        return saved

    @staticmethod
    def write(pack, data):
        with open(pack, "r+b") as file:
            file.write(data)

    # ---- names and places

    def refused(self, code, *words, names=()):
        result = self.kvss("serve", *words, "--socket", self.socket, timeout=30)
        self.assertFailed(result, code, *names)

    def test_wrong_names(self):
        self.refused(1, "latest", "wed", names=("'wed'", "web"))
        self.refused(1, self.first.summary["backup_id"], "wed", names=("'wed'", "web"))
        self.refused(1, "latest", "web", "sda", names=("'sda'", "vda, vdb"))
        self.refused(1, "abcd", names=("abcd",))
        self.assertFailed(self.kvss("serve", "latest", "web"), 2, "--socket")
        self.assertFailed(self.kvss("serve", "--socket", self.socket), 2)
        self.assertFailed(self.kvss("serve", "latest", "web", "vda", "x", "--socket", self.socket), 2)
        self.assertFailed(self.kvss("serve", "latest", "--socket", self.socket, env={"KVSS_PASSWORD": "wrong"}), 5)
        self.assertFailed(self.kvss("serve", "latest", "--socket", self.socket, "-r", self.folder), 4)
        self.assertEqual(os.listdir(self.folder), [])
        self.assertEqual(self.locks(), [])

    def test_what_is_in_the_way(self):
        for name, make in (("file", lambda path: open(path, "w").close()), ("folder", os.mkdir),
                           ("link", lambda path: os.symlink("/nowhere", path)), ("fifo", os.mkfifo)):
            with self.subTest(name):
                path = self.folder + "/" + name
                make(path)
                before = os.lstat(path)
                self.assertFailed(self.kvss("serve", "latest", "--socket", path, timeout=30), 1, path)
                self.assertEqual(os.lstat(path), before)
        self.assertFailed(self.kvss("serve", "latest", "--socket", self.folder + "/no/where", timeout=30), 1, self.folder + "/no")
        long = self.folder + "/" + "x" * 108
        self.assertFailed(self.kvss("serve", "latest", "--socket", long, timeout=30), 1, "107")
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagram.bind(self.socket)
        self.refused(1, "latest", names=(self.socket,))
        datagram.close()
        self.assertEqual(sorted(os.listdir(self.folder)), ["fifo", "file", "folder", "link", "s"])

    def test_living_server_is_left_alone(self):
        first = self.serve("latest", "web", "vda")
        self.refused(1, "latest", names=(self.socket, "already"))
        with Nbd(self.socket) as nbd:
            self.assertEqual(nbd.read(0, 4096), self.content(0, 4096))
        self.assertEqual(first.end(), 0)
        self.assertEqual(os.listdir(self.folder), [])

    # ---- deaths

    def assertGone(self, server):
        wait_until("nbdkit to end", lambda: not os.path.exists("/proc/%d" % server))

    def test_command_killed(self):
        """kvss -9: nbdkit ends, the socket is stale, the next one takes its place; no lock stays."""
        serving = self.serve("latest", "web", "vda")
        server = serving.server()
        serving.end(signal.SIGKILL)
        self.assertGone(server)
        self.assertEqual(os.listdir(self.folder), ["s"])
        self.assertEqual(self.locks(), [])
        again = self.serve("latest", "web", "vda")
        with Nbd(self.socket) as nbd:
            self.assertEqual(nbd.read(0, 4096), self.content(0, 4096))
        self.assertEqual(again.end(), 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_server_killed(self):
        """nbdkit -9: the command says so and ends; its lock goes with the next command."""
        serving = self.serve("latest", "web", "vda")
        os.kill(serving.server(), signal.SIGKILL)
        self.assertEqual(serving.end(0), 1)
        self.assertIn("nbdkit", serving.stderr)
        self.assertEqual(serving.summary["type"], "error")
        self.assertEqual(os.listdir(self.folder), [])
        self.assertExit(self.kvss("doctor"), 0)
        self.assertEqual(self.locks(), [])

    def test_both_killed(self):
        serving = self.serve("latest", "web", "vda")
        server = serving.server()
        os.kill(serving.process.pid, signal.SIGSTOP)
        os.kill(server, signal.SIGKILL)
        serving.end(signal.SIGKILL)
        self.assertGone(server)
        self.assertEqual(len(self.locks()), 1)
        self.assertEqual(os.listdir(self.folder), ["s"])
        again = self.serve("latest", "web", "vda")
        self.assertEqual(len(self.locks()), 1, "the old one is gone")
        again.end()
        self.assertEqual(self.locks(), [])
        self.assertNothingLeft()

    # ---- the password, the lock, libvirt

    def test_password_is_nowhere(self):
        serving = self.serve("latest")
        server = serving.server()
        for name in ("cmdline", "environ"):
            with open("/proc/%d/%s" % (server, name), "rb") as file:
                self.assertNotIn(self.kvss.password.encode(), file.read(), name)

    def test_nothing_is_pruned_meanwhile(self):
        serving = self.serve("latest", "web", "vda")
        rc, said = self.kvss.restic("prune", check=False)
        self.assertNotEqual(rc, 0, said)
        self.assertIn("lock", said)
        serving.end()
        self.kvss.restic("prune")

    def test_without_libvirt(self):
        stop_libvirtd()
        try:
            serving = self.serve("latest", "web", "vda")
            with Nbd(self.socket) as nbd:
                self.assertEqual(nbd.read(0, 4096), self.content(0, 4096))
            self.assertEqual(serving.end(), 0)
        finally:
            start_libvirtd()

    def test_without_nbdkit(self):
        path = self.folder + "/bin"
        os.mkdir(path)
        result = self.kvss("serve", "latest", "--socket", self.socket, env={"PATH": path}, timeout=30)
        self.assertFailed(result, 1, "nbdkit")
        self.assertEqual(os.listdir(self.folder), ["bin"])

    def test_without_our_plugin(self):
        result = self.kvss("serve", "latest", "--socket", self.socket, env={"KVSS_NBDKIT_PLUGIN": self.folder + "/none"})
        self.assertFailed(result, 1, self.folder + "/none")
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_restic_stored_again(self):
        """Chunks that were cut by content, at other places than ours."""
        stored = self.folder + "/stored"
        self.kvss.restic("restore", "latest", "--target", stored)
        other = Kvss(self.lab, self.folder + "/repository")
        other.init(by="restic")
        other.restic("backup", "--tag", "kvss", ".", cwd=stored)
        serving = Serving(other, "latest", "web", "vda", path=self.socket)
        self.addCleanup(serving.__exit__)
        dice = random.Random(4712)
        with Nbd(self.socket) as nbd:
            for _ in range(100):
                length = dice.choice((1, 4096, 100000, 3000000))
                offset = dice.randrange(nbd.size - length)
                self.assertEqual(nbd.read(offset, length), self.content(offset, length), "%d, %d" % (offset, length))
        run("nbdcopy", serving.uri("web/vda"), self.folder + "/copy")
        run("cmp", self.folder + "/copy", self.raw)
        self.assertExit(other("export", "latest", "web", "vda", self.folder + "/copy.qcow2"), 0)
        self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.raw, self.folder + "/copy.qcow2"))
        self.assertEqual(serving.end(), 0)

    def test_first_byte_and_memory(self):
        """Bounds that even a busy machine keeps: a second for the first byte, 200 MiB for many readers."""
        serving = self.serve("latest", "web", "vda")
        begin = time.monotonic()
        with Nbd(self.socket) as nbd:
            nbd.read(1 << 20, 1)
        self.assertLess(time.monotonic() - begin, 1)
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(Nbd(self.socket)) for _ in range(16)]
            for turn in range(4):
                for i, reader in enumerate(readers):
                    reader.send(((turn * 16 + i) * 300000) % (16 << 20), 1 << 20)
                for reader in readers:
                    reader.take(16 + (1 << 20))
        with open("/proc/%d/status" % serving.server()) as file:
            peak = int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))
        self.assertLess(peak, 200 << 10)
