"""One program run and what it cost, and the machine it ran on."""
import contextlib
import os
import platform
import re
import subprocess
import time

MIB = 1 << 20


class BenchError(Exception):
    pass


def build():
    """A release build of its own, unless KVSS names a binary; the path of kvss."""
    if os.environ.get("KVSS"):
        return os.path.abspath(os.environ["KVSS"])
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = top + "/build-bench"
    commands = [["ninja", "-C", folder, "kvss", "kvss-guardian", "kvss-nbdkit-plugin.so", "bench/make-repository",
                 "tests/interop/repository-tool"]]
    if not os.path.exists(folder + "/build.ninja"):
        commands.insert(0, ["meson", "setup", folder, top, "--buildtype=release"])
    for command in commands:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        if done.returncode != 0:
            raise BenchError("the build failed: " + done.stdout.decode(errors="replace")[-2000:])
    return folder + "/kvss"


class Cost:
    """Seconds of clock and of CPU, the largest process's memory, how much of the machine others used meanwhile."""

    def __init__(self, seconds, cpu, memory, others):
        self.seconds = seconds
        self.cpu = cpu
        self.memory = memory        # bytes
        self.others = others        # 0 to 1


def busy_seconds():
    """CPU time of the whole machine, steal included."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    """CPU seconds of a process so far."""
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid):
    """The most memory that a process has had, bytes."""
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) * 1024


def files_below(folder):
    if os.path.isfile(folder):
        return [folder]
    return [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]


def sync_all(folder):
    """What lies below is on the disk afterwards: a tool that does not wait for that itself waits here."""
    for path in files_below(folder):
        with contextlib.suppress(OSError):      # sockets
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)


def stored_bytes(folder):
    return sum(os.lstat(path).st_blocks * 512 for path in files_below(folder) if os.path.lexists(path))


def warm(path):
    """Into the page cache, holes left out."""
    buffer = bytearray(MIB)
    size = os.path.getsize(path)
    with open(path, "rb", buffering=0) as file:
        at = 0
        with contextlib.suppress(OSError):      # ENXIO: nothing but a hole is left
            while at < size:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                file.seek(at)
                while at < end:
                    at += file.readinto(buffer) or end


def drop(path):
    """Out of the page cache; other people's pages stay."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def run(command, log, env=None, cwd=None, written=(), also_pid=None):
    """
    Runs the command to its end and until everything below @written is on the disk.
    CPU and memory are those of the command and of all its children that it waited for; @also_pid is
    another process that worked for it. Memory: the kernel counts what we occupied at the fork, too,
    which is why nothing large is ever done in this process.
    """
    also = cpu_of(also_pid) if also_pid else 0
    busy = busy_seconds()
    begin = time.monotonic()
    with open(log, "ab") as out:
        out.write(("\n$ %s\n" % " ".join(command)).encode())
        out.flush()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                 env=dict(os.environ, LC_ALL="C", **(env or {})))
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        with open(log, errors="replace") as file:
            words = file.read()[-1500:]
        raise BenchError("%s: exit %d: %s" % (" ".join(command), child.returncode, words))
    for folder in written:
        sync_all(folder)
    seconds = time.monotonic() - begin
    cpu = usage.ru_utime + usage.ru_stime + (cpu_of(also_pid) - also if also_pid else 0)
    others = max(0, busy_seconds() - busy - cpu) / seconds / os.cpu_count()
    return Cost(seconds, cpu, usage.ru_maxrss * 1024, others)


def first_line(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=20, check=False)
    except OSError:
        return "absent"
    return (done.stdout.decode(errors="replace").split("\n") or [""])[0].strip()


def file_system(folder):
    return first_line("findmnt", "-n", "-o", "FSTYPE", "-T", folder)


def machine(folder, kvss):
    """Lines that say where the numbers come from."""
    with open("/proc/cpuinfo") as file:
        text = file.read()
    model = re.search(r"^model name\s*: (.*)", text, re.M)
    flags = set(re.search(r"^flags\s*: (.*)|\Z", text, re.M)[0].split())
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"MemTotal:\s*(\d+)", file.read())[1]) / MIB
    features = ["%s %s" % (name, "yes" if flag in flags else "no")
                for name, flag in (("SHA-NI", "sha_ni"), ("AES-NI", "aes"), ("VAES", "vaes"), ("AVX-512", "avx512f"))]
    qemu = re.search(r"[\d.]+", first_line("qemu-nbd", "--version"))
    return [
        "%d cores, %s, %.0f GiB, Linux %s, %s" % (os.cpu_count(), model[1] if model else platform.machine(), memory,
                                                  platform.release(), file_system(folder)),
        ", ".join(features),
        "%s; %s; %s; %s; qemu-nbd %s" % (first_line(kvss, "--version"),
                                         " ".join(first_line("restic", "version").split()[:2]),
                                         first_line("borg", "--version"), first_line("nbdcopy", "--version"),
                                         qemu[0] if qemu else "?"),
    ]
