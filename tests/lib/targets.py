"""Storage that lies outside a guest's disks: an NFS export and an iSCSI target, both on this network namespace's loopback."""
import os
import socketserver
import struct
import subprocess
import threading

from kvsslab import run, wait_until


class NfsServer(socketserver.ThreadingTCPServer):
    """A read-only NFS version 3 server with one empty folder, enough for a guest to mount it and list it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), NfsConnection)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class NfsConnection(socketserver.BaseRequestHandler):
    FOLDER = struct.pack(">IIIIIQQQQQIIIIII", 2, 0o755, 2, 0, 0, 4096, 4096, 0, 1, 1, 0, 0, 0, 0, 0, 0)
    ATTRIBUTES = struct.pack(">I", 1) + FOLDER

    def read(self, length):
        data = b""
        while len(data) < length:
            part = self.request.recv(length - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def handle(self):
        try:
            while True:
                call = b""
                last = False
                while not last:
                    head, = struct.unpack(">I", self.read(4))
                    last = bool(head >> 31)
                    call += self.read(head & 0x7fffffff)
                xid, _, _, program, _, procedure = struct.unpack(">6I", call[:24])
                body = self.answer(program, procedure)
                reply = struct.pack(">6I", xid, 1, 0, 0, 0, 0 if body is not None else 3) + (body or b"")
                self.request.sendall(struct.pack(">I", 1 << 31 | len(reply)) + reply)
        except OSError:
            pass

    def answer(self, program, procedure):
        ok = struct.pack(">I", 0)
        if procedure == 0:
            return b""
        if program == 100005:
            if procedure == 1:          # MNT: a handle of four bytes, AUTH_SYS
                return struct.pack(">II4sII", 0, 4, b"root", 1, 1)
            return b"" if procedure == 3 else None
        if program != 100003:
            return None
        return {
            1: ok + self.FOLDER,                                                            # GETATTR
            3: struct.pack(">I", 2) + self.ATTRIBUTES,                                      # LOOKUP: no such file
            4: ok + self.ATTRIBUTES + struct.pack(">I", 0x3),                               # ACCESS
            16: ok + self.ATTRIBUTES + struct.pack(">QII", 0, 0, 1),                        # READDIR: nothing
            17: ok + self.ATTRIBUTES + struct.pack(">QII", 0, 0, 1),                        # READDIRPLUS: nothing
            18: ok + self.ATTRIBUTES + struct.pack(">6QI", 1 << 30, 1 << 29, 1 << 29, 1000, 500, 500, 0),     # FSSTAT
            19: ok + self.ATTRIBUTES + struct.pack(">7IQIII", 65536, 65536, 4096, 65536, 65536, 4096, 4096, 1 << 40, 0, 1, 0x1b),
            20: ok + self.ATTRIBUTES + struct.pack(">6I", 1, 255, 1, 1, 0, 1),              # PATHCONF
        }.get(procedure)


class IscsiTarget:
    """A SCSI disk behind iSCSI: xml() attaches it to a guest as a LUN, which QEMU passes through to the guest."""

    NAME = "iqn.2004-10.test.lab:disk"
    PORT = 3260

    def __init__(self, folder, size_mib=16):
        self.image = os.path.join(folder, "lun.img")
        with open(self.image, "wb") as file:
            file.truncate(size_mib << 20)
        os.makedirs("/run/tgtd", exist_ok=True)
        self.process = subprocess.Popen(["tgtd", "-f", "--iscsi", "portal=127.0.0.1:%d" % self.PORT],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        admin = ["tgtadm", "--lld", "iscsi"]
        wait_until("tgtd", lambda: run(*admin, "--op", "show", "--mode", "sys", check=False)[0] == 0)
        run(*admin, "--op", "new", "--mode", "target", "--tid", "1", "-T", self.NAME)
        run(*admin, "--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", self.image)
        run(*admin, "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def xml(self, target="sda"):
        return """<controller type='scsi' model='virtio-scsi'/>
    <disk type='network' device='lun'><driver name='qemu' type='raw'/>
      <source protocol='iscsi' name='%s/1'><host name='127.0.0.1' port='%d'/></source>
      <target dev='%s' bus='scsi'/></disk>""" % (self.NAME, self.PORT, target)

    def close(self):
        self.process.kill()
        self.process.wait()
