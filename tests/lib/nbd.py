"""A small NBD client over a Unix socket: one request at a time, errors as they are on the wire."""
import errno
import socket
import struct

MAGIC, OPTION, REPLY = 0x4e42444d41474943, 0x49484156454F5054, 0x3e889045565a9
GO, INFO_EXPORT, ACK = 7, 0, 1
REQUEST, SIMPLE = 0x25609513, 0x67446698


class NbdError(OSError):
    pass


class Nbd:
    """Connected to one export; `size` is its size."""

    def __init__(self, path, export="", timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
            self.size = self.greet(export.encode())
        except BaseException:
            self.socket.close()
            raise
        self.cookie = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def take(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise NbdError(errno.ECONNRESET, "the server hung up")
            data += more
        return data

    def greet(self, name):
        magic, option, _ = struct.unpack(">QQH", self.take(18))
        if (magic, option) != (MAGIC, OPTION):
            raise NbdError(errno.EPROTO, "no NBD server")
        self.socket.sendall(struct.pack(">I", 3))           # fixed newstyle, no zeroes
        self.socket.sendall(struct.pack(">QIII", OPTION, GO, 4 + len(name) + 2, len(name)) + name + struct.pack(">H", 0))
        size = None
        while True:
            _, _, kind, length = struct.unpack(">QIII", self.take(20))
            data = self.take(length)
            if kind == ACK:
                return size
            if kind & 1 << 31:
                raise NbdError(errno.ENOENT, data.decode(errors="replace"))
            if struct.unpack(">H", data[:2])[0] == INFO_EXPORT:
                size = struct.unpack(">Q", data[2:10])[0]

    def send(self, offset, length):
        self.cookie += 1
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, 0, self.cookie, offset, length))

    def read(self, offset, length):
        self.send(offset, length)
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        if (magic, cookie) != (SIMPLE, self.cookie):
            raise NbdError(errno.EPROTO, "an answer to something else")
        if error:
            raise NbdError(error, "read at %d" % offset)
        return self.take(length)
