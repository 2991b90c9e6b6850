"""Guests, libvirt, restic and kvss for the tests and the demo. Everything has a time limit; needs to run inside tests/lab/enter.

    lab = Lab("name")                        a work folder; close() takes all domains and files away
    guest = lab.guest("web", disks=[...])    an object, nothing yet
    guest.define(); guest.start()            start() waits until the guest says GUEST READY
    guest.sh("cat /proc/uptime")             runs in the guest, without its agent
    guest.seq()                              the sequence writer's number in RAM now
    disk.seq(), disk.is_clean()              what an image file holds while nobody uses it
    kvss = Kvss(lab); kvss.init(); kvss("backup", "web").summary["vms"]
"""
import base64
import contextlib
import glob
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import uuid as uuids
import xml.etree.ElementTree as xml

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KVSS = os.path.abspath(os.environ.get("KVSS") or TOP + "/build/kvss")
TOOL = TOP + "/build/tests/interop/repository-tool"
PASSWORD = "lab password"
SLOW = 2 if os.environ.get("KVSS_LAB_SLOW") else 1      # stretches every time limit, for valgrind and the like


class LabError(Exception):
    pass


def run(*command, timeout=180, check=True, env=None, cwd=None, data=None):
    """Runs a command to its end; its output as text. LabError on failure, unless check is False: then (rc, text)."""
    try:
        done = subprocess.run(command, input=data, stdin=None if data is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout * SLOW,
                              env=dict(os.environ, LC_ALL="C", **(env or {})), cwd=cwd)
    except subprocess.TimeoutExpired as error:
        raise LabError("%s: still running after %g s: %s" % (" ".join(command), timeout, error.output)) from None
    text = done.stdout.decode(errors="replace")
    if not check:
        return done.returncode, text
    if done.returncode != 0:
        raise LabError("%s: exit %d: %s" % (" ".join(command), done.returncode, text.strip()))
    return text


uri = "qemu:///system"      # a test class may name another for its own time


def virsh(*arguments, timeout=120, check=True):
    return run("virsh", "-q", "-c", uri, *arguments, timeout=timeout, check=check)


def wait_until(what, question, timeout=60, every=0.05):
    """Asks until the answer is true, and returns it. The limit ends a hang: nothing may depend on it."""
    end = time.monotonic() + timeout * SLOW
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise LabError("waited %g s in vain: %s" % (timeout * SLOW, what))
        time.sleep(every)


def process_children(pid):
    """Processes that descend from pid, pid excluded."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue
        child = int(text.split(" ", 1)[0])
        parents[child] = int(text.rsplit(")", 1)[1].split()[1])
    found = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        for child, its in parents.items():
            if its == parent:
                found.append(child)
                todo.append(child)
    return found


# --- libvirtd -----------------------------------------------------------------------------------------------------------

def libvirtd_pid():
    with open("/run/libvirtd.pid") as file:
        return int(file.read())


def stop_libvirtd(hard=False):
    """Ends libvirtd; its guests run on."""
    pid = libvirtd_pid()
    os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
    wait_until("end of libvirtd", lambda: not os.path.exists("/proc/%d" % pid))


def start_libvirtd():
    with open("/run/libvirtd.out", "a") as out:
        subprocess.run(["libvirtd", "-d"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=30)
    wait_until("libvirtd", lambda: virsh("version", check=False)[0] == 0)


class Events:
    """Records the lifecycle events of all domains while it is open: `with Events() as events: ...; events.of("web")`."""

    def __enter__(self):
        self.path = tempfile.mktemp(prefix="events-")
        self.file = open(self.path, "w")
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "virsh", "-q", "-c", "qemu:///system", "event", "--loop", "--event", "lifecycle"],
            stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT)
        time.sleep(0.4)     # registered by then
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.file.close()
        os.unlink(self.path)

    def of(self, name):
        """[(event, detail), ...]: [("Suspended", "Paused"), ("Resumed", "Unpaused")]"""
        time.sleep(0.3)
        with open(self.path) as file:
            return [m.groups() for m in
                    re.finditer(r"event 'lifecycle' for domain '?%s'?: (\S+) (.*)" % re.escape(name), file.read())]


# --- images -------------------------------------------------------------------------------------------------------------

def raw_copy(path, form, folder=None):
    """A raw copy of an image that nobody uses, in a temporary file."""
    handle, copy = tempfile.mkstemp(prefix="raw-", dir=folder)
    os.close(handle)
    run("qemu-img", "convert", "-f", form, "-O", "raw", path, copy)
    return copy


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Image:
    """An image file that nobody uses: questions about its content. Never mounted."""

    def __init__(self, path, form="qcow2"):
        self.path = path
        self.form = form

    @contextlib.contextmanager
    def raw(self):
        if self.form == "raw":
            yield self.path
            return
        copy = raw_copy(self.path, self.form)
        try:
            yield copy
        finally:
            os.unlink(copy)

    def hash(self):
        with self.raw() as raw:
            return file_hash(raw)

    def info(self):
        return json.loads(run("qemu-img", "info", "--output=json", "-f", self.form, self.path))

    def cat(self, path):
        """A file in the image's ext4, as bytes. A journal that waits is replayed first, on a copy."""
        with self.raw() as raw:
            copy = None
            if "needs_recovery" in run("dumpe2fs", "-h", raw):
                copy = raw_copy(raw, "raw")
                run("e2fsck", "-y", "-E", "journal_only", copy, check=False)
            try:
                done = subprocess.run(["debugfs", "-R", "cat %s" % path, copy or raw], stdin=subprocess.DEVNULL,
                                      timeout=60 * SLOW, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            finally:
                if copy:
                    os.unlink(copy)
        if not done.stdout:
            raise LabError("%s: %s cannot be read: %s" % (self.path, path, done.stderr.decode(errors="replace").strip()))
        return done.stdout

    def seq(self):
        """The sequence writer's number on this disk."""
        blocks = self.cat("/seq")
        return max(int(blocks[at:at + 4096].split(b"\n")[0]) for at in (0, 4096))

    def fs_state(self):
        """"clean"; or what is wrong with the ext4: a journal that waits to be replayed, or errors."""
        with self.raw() as raw:
            if "needs_recovery" in run("dumpe2fs", "-h", raw):
                return "needs recovery"
            rc, text = run("e2fsck", "-fn", raw, check=False)
            return "clean" if rc == 0 else "e2fsck says %d: %s" % (rc, text)


class Disk(Image):
    """A disk of a guest, described; create() makes its image.

    kind: ext4 (with seq and a file of known random bytes), vfat, random, empty, part (of something the test makes)."""

    def __init__(self, target, form="qcow2", size_mib=64, kind="ext4", content_kib=2048, seed=None, options="",
                 bus="virtio", path=None):
        super().__init__(path, form)
        self.target = target
        self.size = size_mib << 20
        self.kind = kind
        self.content_kib = content_kib
        self.seed = seed
        self.options = options
        self.bus = bus

    def content(self):
        return random.Random("%s" % self.seed).randbytes(self.content_kib << 10)

    def create(self, path):
        self.path = path
        if self.seed is None:
            self.seed = path
        with tempfile.TemporaryDirectory() as work:
            raw = path if self.form == "raw" else work + "/raw"
            with open(raw, "wb") as file:
                file.truncate(self.size)
                if self.kind == "random":
                    file.write(self.content())
            if self.kind == "ext4":
                os.mkdir(work + "/src")
                with open(work + "/src/seq", "wb") as file:
                    file.write(b"0\n".ljust(4096, b"\0") * 2)
                with open(work + "/src/content", "wb") as file:
                    file.write(self.content())
                run("mkfs.ext4", "-q", "-F", "-d", work + "/src", raw)
            elif self.kind == "vfat":
                run("mkfs.vfat", raw)
            if raw != path:
                options = ["-o", self.options] if self.options else []
                run("qemu-img", "convert", "-f", "raw", "-O", self.form, *options, raw, path)

    def xml(self):
        return ("<disk type='file' device='disk'><driver name='qemu' type='%s' cache='none'/><source file='%s'/>"
                "<target dev='%s' bus='%s'/></disk>" % (self.form, self.path, self.target, self.bus))


# --- guests -------------------------------------------------------------------------------------------------------------

class Guest:
    """A domain that boots the lab guest. agent: yes, no, absent, stopped, respawn; "no" leaves the agent's channel away, too."""

    ids = itertools.count(int.from_bytes(os.urandom(2), "big"))

    def __init__(self, lab, name, disks=None, agent="yes", memory_mib=192, cmdline="", devices="", uuid=None):
        self.lab = lab
        self.name = name
        self.disks = disks if disks is not None else [Disk("vda")]
        self.agent_mode = agent
        self.memory_mib = memory_mib
        self.cmdline = cmdline
        self.devices = devices
        self.uuid = uuid or str(uuids.uuid4())
        self.folder = os.path.join(lab.folder, "vms", name)
        self.serial_path = os.path.join(lab.folder, name + ".serial")
        self.shell_path = "/run/lab/%s.sh" % name
        self.shell = None
        self.boots = 0

    def disk(self, target):
        return next(d for d in self.disks if d.target == target)

    def xml(self):
        guest = os.environ["KVSS_LAB_GUEST"]
        channel = ("" if self.agent_mode == "no" else
                   "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
        return """<domain type='%s'>
  <name>%s</name><uuid>%s</uuid>
  <memory unit='MiB'>%d</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s/vmlinuz</kernel><initrd>%s/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 kvss.agent=%s %s</cmdline></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    %s
    <controller type='usb' model='none'/>
    <serial type='file'><source path='%s' append='on'/></serial>
    %s
    <channel type='unix'><source mode='bind' path='%s'/><target type='virtio' name='org.kvss.lab'/></channel>
    %s
    <memballoon model='none'/>
  </devices>
</domain>
""" % ("kvm" if os.environ.get("KVSS_LAB_ACCEL") == "kvm" else "qemu", self.name, self.uuid, self.memory_mib, guest, guest,
            "no" if self.agent_mode == "absent" else self.agent_mode, self.cmdline, "\n    ".join(d.xml() for d in self.disks), self.serial_path, channel,
            self.shell_path, self.devices)

    def define(self):
        os.makedirs(self.folder, exist_ok=True)
        for disk in self.disks:
            if disk.path is None or not os.path.exists(disk.path):
                disk.create("%s/%s.%s" % (self.folder, disk.target, disk.form))
        path = os.path.join(self.lab.folder, self.name + ".xml")
        with open(path, "w") as file:
            file.write(self.xml())
        virsh("define", "--validate", path)
        return self

    def start(self, wait=True):
        self.disconnect()
        before = self.serial().count("GUEST READY")
        virsh("start", self.name)
        if wait:
            self.wait_ready(before)
        return self

    def wait_ready(self, before=0, timeout=180):
        try:
            wait_until("GUEST READY of " + self.name, lambda: self.serial().count("GUEST READY") > before, timeout)
        except LabError as error:
            raise LabError("%s; its console: %s" % (error, self.serial()[-2000:])) from None
        if self.agent_mode in ("yes", "respawn"):
            wait_until("agent of " + self.name, self.has_agent)

    def serial(self):
        try:
            with open(self.serial_path, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # In the guest, over a second port: works whatever its agent does.

    def disconnect(self):
        if self.shell is not None:
            self.shell.close()
            self.shell = None

    def sh_rc(self, command, timeout=60):
        """(exit code, output); 124 when the command did not end in time."""
        line_id = next(Guest.ids)
        line = "%d %d %s\n" % (line_id, timeout, base64.b64encode(command.encode()).decode())
        end = time.monotonic() + (timeout + 3) * SLOW
        while True:
            try:
                if self.shell is None:
                    self.shell = socket.socket(socket.AF_UNIX)
                    self.shell.settimeout(max(0.1, end - time.monotonic()))
                    self.shell.connect(self.shell_path)
                self.shell.sendall(line.encode())
                buffer = b""
                while True:
                    self.shell.settimeout(max(0.1, end - time.monotonic()))
                    data = self.shell.recv(65536)
                    if not data:
                        raise ConnectionError("closed")
                    buffer += data
                    *lines, buffer = buffer.split(b"\n")
                    for reply in lines:
                        parts = reply.split(b" ")
                        if parts[0] == b"%d" % line_id:
                            return int(parts[1]), base64.b64decode(parts[2] if len(parts) > 2 else b"").decode(errors="replace")
            except OSError as error:
                self.disconnect()
                if time.monotonic() > end or isinstance(error, socket.timeout):
                    raise LabError("%s: no answer to: %s (%s)" % (self.name, command, error)) from None
                time.sleep(0.1)

    def sh(self, command, timeout=60):
        rc, text = self.sh_rc(command, timeout)
        if rc != 0:
            raise LabError("%s: %s: exit %d: %s" % (self.name, command, rc, text))
        return text

    def seq(self):
        return int(self.sh("cat /run/seq").strip("\0 \n"))

    def writes(self, seconds=30.0):
        """True when the sequence writer gets on: the guest runs and is not frozen. How long it was is in gaps()."""
        first = self.seq()
        try:
            wait_until("progress", lambda: self.seq() > first, seconds, 0.02)
            return True
        except LabError:
            return False

    def hook(self, event, script):
        """What qemu-ga's hook runs at freeze or thaw; None for nothing."""
        if script is None:
            self.sh("rm -f /run/hook-%s" % event)
        else:
            self.sh("echo %s | base64 -d > /run/hook-%s" % (base64.b64encode(script.encode()).decode(), event))

    def signal_agent(self, name):
        self.sh("kill -%s $(cat /run/ga.pid)" % name)

    def gaps(self, start=0):
        """[(milliseconds, number), ...]: pauses in the sequence as the guest saw them, from byte `start` of the console on."""
        return [(int(a), int(b)) for a, b in re.findall(r"GAP (\d+) (\d+)\r?\n", self.serial()[start:])]

    def mismatches(self):
        return re.findall(r"(MISMATCH .*)\r?\n", self.serial())

    # Through libvirt.

    def agent(self, command, timeout=10, **arguments):
        """What the guest agent returns."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        return json.loads(virsh("qemu-agent-command", self.name, "--timeout", str(timeout), json.dumps(request),
                                timeout=timeout + 5))["return"]

    def has_agent(self):
        """libvirt sees the agent's port open."""
        return re.search(r"name='org.qemu.guest_agent.0' state='connected'", virsh("dumpxml", self.name)) is not None

    def is_frozen(self):
        return self.agent("guest-fsfreeze-status") == "frozen"

    def exists(self):
        return virsh("domuuid", self.name, check=False)[0] == 0

    def state(self):
        """libvirt's word, or "saved"."""
        state = virsh("domstate", self.name).strip()
        return "saved" if state == "shut off" and self.has_save() else state

    def has_save(self):
        return "Managed save: yes" in re.sub(r" +", " ", virsh("dominfo", self.name))

    def save_path(self):
        return "/var/lib/libvirt/qemu/save/%s.save" % self.name

    def job(self):
        """Type of the job that the domain has; None for none."""
        rc, answer = virsh("domjobinfo", self.name, check=False)
        if rc != 0 and "backup job data missing" not in answer:     # libvirt's word while one begins or ends
            raise LabError("domjobinfo %s: %s" % (self.name, answer))
        text = re.search(r"Job type:\s+(\S+)", answer)
        return None if text is None or text.group(1) == "None" else text.group(1)

    def pause(self):
        virsh("suspend", self.name)

    def resume(self):
        virsh("resume", self.name)

    def save(self, how="--running"):
        self.disconnect()
        virsh("managedsave", self.name, how)

    def destroy(self):
        self.disconnect()
        virsh("destroy", self.name, check=False)

    def shutdown(self):
        """Clean: file systems are unmounted."""
        with contextlib.suppress(LabError):
            self.sh("shutdown >/dev/null 2>&1 &", timeout=5)
        self.disconnect()
        # While a backup job runs, the agent's farewell makes libvirt wait 30 s before it looks at anything else.
        wait_until("end of " + self.name, lambda: virsh("domstate", self.name).strip() == "shut off", 90)

    def undefine(self):
        virsh("undefine", self.name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram",
              check=False)

    def delete(self):
        """The domain and its files go away."""
        self.destroy()
        self.undefine()
        shutil.rmtree(self.folder, ignore_errors=True)

    def paths(self):
        """{target: image path} of the domain as it is defined now."""
        tree = xml.fromstring(virsh("dumpxml", "--inactive", self.name))
        return {d.find("target").get("dev"): d.find("source").get("file") for d in tree.iter("disk")
                if d.find("source") is not None}

    def images(self):
        """{target: Image} of the domain as it is defined now."""
        tree = xml.fromstring(virsh("dumpxml", "--inactive", self.name))
        return {d.find("target").get("dev"): Image(d.find("source").get("file"), d.find("driver").get("type"))
                for d in tree.iter("disk") if d.find("source") is not None and d.find("source").get("file")}


class Lab:
    """A work folder with guests in it."""

    def __init__(self, name="lab"):
        if "LAB_WORK" not in os.environ:
            raise LabError("this needs a libvirt of its own: run it by tests/lab/enter")
        self.folder = tempfile.mkdtemp(prefix=name + "-", dir=os.environ["LAB_WORK"])
        os.makedirs("/run/lab", exist_ok=True)
        self.guests = []

    def guest(self, name, *arguments, **options):
        guest = Guest(self, name, *arguments, **options)
        self.guests.append(guest)
        return guest

    def path(self, name):
        return os.path.join(self.folder, name)

    def close(self):
        """Takes away every domain of this libvirt and every file of this lab."""
        for name in filter(None, virsh("list", "--all", "--name").split("\n")):
            virsh("destroy", name, check=False)
            virsh("undefine", name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram",
                  check=False)
        for guest in self.guests:
            guest.disconnect()
        shutil.rmtree(self.folder, ignore_errors=True)


# --- kvss and restic ----------------------------------------------------------------------------------------------------

class Result:
    """What a kvss command left: rc, stdout, stderr, and its JSON."""

    def __init__(self, command, rc, stdout, stderr, seconds):
        self.command, self.rc, self.stdout, self.stderr, self.seconds = command, rc, stdout, stderr, seconds
        self.objects = []
        try:
            self.objects = [json.loads(stdout)]
        except ValueError:
            for line in stdout.splitlines():
                with contextlib.suppress(ValueError):
                    self.objects.append(json.loads(line))

    @property
    def document(self):
        """The one JSON document of a command that prints one."""
        return self.objects[0] if self.objects else None

    def last(self, kind):
        if self.objects and isinstance(self.objects[-1], dict) and self.objects[-1].get("type") == kind:
            return self.objects[-1]
        return None

    @property
    def summary(self):
        return self.last("summary")

    @property
    def error(self):
        return self.last("error")

    def vm(self, name):
        return next(v for v in self.summary["vms"] if v["name"] == name)

    def __str__(self):
        return "%s: exit %s after %.1f s\nstdout: %s\nstderr: %s" % (
            " ".join(self.command), self.rc, self.seconds, self.stdout[-4000:], self.stderr[-4000:])


class Running:
    """A kvss command on its way."""

    def __init__(self, command, env, cwd=None, go=None):
        self.command = command
        self.go = go
        self.begin = time.monotonic()
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, env=env,
                                        cwd=cwd)

    def interrupt(self, number=signal.SIGINT):
        """Ctrl-C, for a run that stands still; returns when it has noticed, as it would soon be done otherwise."""
        os.kill(self.process.pid, number)
        wait_until("interrupted", lambda: "interrupted: " in self.result().stderr, 180)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self, timeout=300):
        try:
            self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise LabError("still running after %g s: %s" % (timeout * SLOW, self.result())) from None
        return self.result()

    def result(self):
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return Result(self.command, self.process.returncode, *texts, time.monotonic() - self.begin)

    def is_running(self):
        return self.process.poll() is None

    def has_reached(self, point):
        """It stands still there. LabError when it ended without."""
        result = self.result()
        if "standing still at '%s'" % point in result.stderr + result.stdout:
            return True
        if not self.is_running():
            raise LabError("did not stand still at %s: %s" % (point, self.result()))
        return False

    def let_go(self):
        """It stands still no longer, now or later."""
        open(self.go, "w").close()


class Kvss:
    """The command line, on one repository: kvss("backup", "web") runs it with --json and returns a Result."""

    numbers = itertools.count()

    def __init__(self, lab, repository=None, password=PASSWORD):
        self.lab = lab
        self.repository = repository or lab.path("repository")
        self.password = password
        self.env = {}

    def environment(self, env=None):
        merged = dict(os.environ, LC_ALL="C", KVSS_REPOSITORY=self.repository, KVSS_PASSWORD=self.password,
                      LIBVIRT_DEFAULT_URI=uri)
        merged.update(self.env)
        merged.update(env or {})
        return merged

    def start(self, *arguments, env=None, cwd=None, stall=None):
        """stall: a test point at which it stands still until let_go(), however long the test takes."""
        go = self.lab.path("go-%d" % next(Kvss.numbers)) if stall else None
        if stall:
            env = dict(env or {}, KVSS_TEST_STALL="%s:600:%s" % (stall, go))
        return Running([KVSS, "--json", *arguments], self.environment(env), cwd, go)

    def __call__(self, *arguments, timeout=300, env=None, cwd=None):
        return self.start(*arguments, env=env, cwd=cwd).wait(timeout)

    def init(self, by=None):
        """A new repository, whose key costs nothing to derive: with one of `kvss init` or `restic init`, every command
        that follows would begin with a third of a second of scrypt. by: "kvss" has that, "restic" a cheap key as well."""
        secrets = dict(self.env, KVSS_PASSWORD=self.password)
        if by == "restic":
            self.restic("init", "--repository-version", "2")
            run(TOOL, "cheap", self.repository, env=secrets)
        elif by == "kvss" or not os.path.exists(TOOL):
            result = self("init")
            if result.rc != 0:
                raise LabError(str(result))
        else:
            run(TOOL, "make", self.repository, env=secrets)
        return self

    def restic(self, *arguments, timeout=300, check=True, cwd=None):
        return run("restic", "-r", self.repository, "--no-cache", *arguments, timeout=timeout, check=check, cwd=cwd,
                   env={"RESTIC_PASSWORD": self.password})

    def backups(self):
        return self("list", "backups").document


def files_below(*folders):
    found = set()
    for folder in folders:
        for path in glob.glob(folder + "/**", recursive=True, include_hidden=True):
            if os.path.lexists(path) and not os.path.isdir(path):
                found.add(path)
    return found


class LabCase(unittest.TestCase):
    """A class of tests that share a lab: `cls.lab`, `cls.kvss` with a fresh repository. Guests are made in make()."""

    longMessage = True
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        if not os.path.exists(KVSS):
            raise unittest.SkipTest("there is no " + KVSS)
        cls.lab = Lab(cls.__name__.lower())
        cls.addClassCleanup(cls.lab.close)
        cls.kvss = Kvss(cls.lab)
        cls.make()

    @classmethod
    def make(cls):
        cls.kvss.init()

    # Where kvss and QEMU may leave something.
    WATCHED = ["/var/lib/kvss", "/var/lib/libvirt/qemu/kvss", "/run/kvss"]
    KEPT = {"guardian.log", ".guard"}       # a log; a file that is only ever locked

    def left(self):
        """Everything that must be gone after any command: jobs, files of a run, overlays."""
        found = sorted(path for path in files_below(*self.WATCHED, os.environ["TMPDIR"])
                       if os.path.basename(path) not in self.KEPT
                       and os.path.basename(os.path.dirname(path)) != "uploads")  # for the next backup
        for name in virsh("list", "--name").split():
            job = re.search(r"Job type:\s+(\S+)", virsh("domjobinfo", name, check=False)[1])
            if job and job.group(1) != "None":
                found.append("job of %s: %s" % (name, job.group(1)))
            for guest in self.lab.guests:
                if guest.name == name and not set(guest.paths().values()) <= {d.path for d in guest.disks} | {None}:
                    found.append("disks of %s: %s" % (name, guest.paths()))
        for guest in self.lab.guests:
            for path in files_below(guest.folder):
                if os.path.basename(path).split(".")[0] not in {d.target for d in guest.disks}:
                    found.append(path)
        return found

    def assertNothingLeft(self):
        try:
            wait_until("", lambda: not self.left())
        except LabError:
            self.assertEqual(self.left(), [], "left behind")

    def assertExit(self, result, rc):
        self.assertEqual(result.rc, rc, str(result))
        if rc in (0, 3) and result.command[2] in ("backup", "restore", "verify", "prune"):
            self.assertIsNotNone(result.summary, "no summary: %s" % result)
        if rc not in (0, 3):
            self.assertTrue(result.stderr.strip(), "nothing said on stderr: %s" % result)

    def assertFailed(self, result, rc, *words):
        """It failed with this code, and its error line and its sentence name all the words."""
        self.assertExit(result, rc)
        self.assertIsNotNone(result.error, "no error line: %s" % result)
        for word in words:
            self.assertIn(word.lower(), result.stderr.lower(), str(result))
            self.assertIn(word.lower(), json.dumps(result.error).lower(), str(result))

    def backup(self, *arguments, rc=0, **options):
        result = self.kvss("backup", *arguments, **options)
        self.assertExit(result, rc)
        return result

    def backup_frozen(self, name, limit_ms=None):
        """A backup of a guest whose agent is there: its VM in the result. An agent that takes three seconds for an answer
        counts as none, and a busy machine is slow at times: then, or when the freeze took longer than limit_ms, once more."""
        for _ in range(8):
            result = self.backup(name)
            vm = result.vm(name)
            slow = "does not answer" in str(vm["reasons"]) or limit_ms and (vm["freeze_ms"] or 0) >= limit_ms
            if not slow:
                break
        self.assertEqual(vm["method"], "child-snapshot", str(result))
        self.assertFalse(slow, str(result))
        return vm

    def start_and_reach(self, point, *arguments, **options):
        """A command that stands still at a test point until let_go(), or until it is killed; returns when it is there."""
        running = self.kvss.start(*arguments, stall=point, **options)
        self.addCleanup(running.process.kill)
        wait_until("standing still at " + point, lambda: running.has_reached(point), 180)
        return running

    def restore(self, *arguments, rc=0, **options):
        result = self.kvss("restore", *arguments, "--yes", **options)
        self.assertExit(result, rc)
        return result

    # What a backup must have kept, looked at after the VMs and their files were deleted and restored.

    def assertOneInstant(self, guest, clean=True):
        """The disks of a guest that is off or saved are of one instant; returns the highest number."""
        images = guest.images()
        numbers = []
        for disk in guest.disks:
            if disk.kind != "ext4":
                continue
            image = images[disk.target]
            numbers.append(image.seq())
            if clean:
                self.assertEqual(image.fs_state(), "clean", "%s %s" % (guest.name, disk.target))
            self.assertEqual(image.cat("/content"), disk.content(), "%s %s: a file differs" % (guest.name, disk.target))
        self.assertGreater(max(numbers), 0, "%s: nothing was written before the backup" % guest.name)
        self.assertIn(numbers[0] - numbers[-1], (0, 1), "%s: disks of different instants: %s" % (guest.name, numbers))
        self.assertEqual(numbers, sorted(numbers, reverse=True), "%s: disks out of order" % guest.name)
        return max(numbers)

    def assertContinues(self, guest, number, secret, resume=False):
        """A guest that is saved starts with its RAM, and RAM and disks agree on the number."""
        self.assertEqual(guest.state(), "saved", guest.name)
        booted = len(guest.serial())
        guest.start(wait=False)
        if resume:
            self.assertEqual(guest.state(), "paused", guest.name)
            guest.resume()
        self.assertEqual(guest.state(), "running", guest.name)
        self.assertEqual(guest.sh("cat /run/secret"), secret, "%s: its RAM is not the saved one" % guest.name)
        self.assertTrue(guest.writes(), "%s does not write" % guest.name)
        self.assertGreater(guest.seq(), number - 2, guest.name)
        self.assertEqual(guest.mismatches(), [], "%s: RAM and disks are of different instants" % guest.name)
        self.assertNotIn("GUEST READY", guest.serial()[booted:], "%s booted afresh" % guest.name)

    @staticmethod
    def secret(guest):
        """Something that only the guest's RAM knows."""
        return guest.sh("head -c 16 /dev/urandom | sha256sum > /run/secret; cat /run/secret")
