"""A proxy before an HTTP server that does harm on request, and counts.

    with FaultProxy(port_of_server) as proxy:      # tls=an ssl.SSLContext: it is asked by https
        proxy.harm = lambda request: 'cut' if request.number == 3 else None
        use('http://127.0.0.1:%d/' % proxy.port)
        proxy.requests         everything that was asked, in order

The harm that can be done to a request:

    cut            the connection is closed before the server hears of it
    lost           the server does its work, and the connection is closed without its answer
    503, 500, ...  answered so, without the server (any number)
    after 503      the same, but the server has done its work
    slow           the answer comes in small pieces
    stall          nothing comes any more, the connection stays
    short          the body ends early, and the connection with it
    less           the body ends early, and the headers agree
    flip           a bit in the middle of the body is another
    more           the body is longer than was asked for, and the headers agree
    whole          a range is answered with the whole file
    elsewhere      a range is answered with another range
    garbage        bytes that are no HTTP
    endless        a body that does not end
    redirect       to another place
    v1             a listing of names and sizes becomes one of names, as old servers send it
"""
import collections
import json
import re
import socket
import socketserver
import threading
import time

GATHER_SECONDS = 120    # then they do not come

Request = collections.namedtuple('Request', 'number method path headers length')


def read_head(stream):
    """First line and headers (lower case); None at the end."""
    first = stream.readline()
    headers = {}
    while first:
        line = stream.readline()
        if line in (b'\r\n', b'\n', b''):
            break
        name, _, value = line.partition(b':')
        headers[name.decode('latin-1').strip().lower()] = value.decode('latin-1').strip()
    return (first.decode('latin-1').strip(), headers) if first else None


def read_body(stream, headers):
    if headers.get('transfer-encoding', '').lower() == 'chunked':
        body = b''
        while True:
            length = int(stream.readline().split(b';')[0], 16)
            body += stream.read(length)
            stream.readline()
            if length == 0:
                return body
    return stream.read(int(headers.get('content-length', 0)))


def build(first, headers, body, length=None):
    lines = [first] + ['%s: %s' % item for item in headers.items()
                       if item[0] not in ('content-length', 'transfer-encoding', 'connection')]
    lines += ['content-length: %d' % (len(body) if length is None else length)]
    return '\r\n'.join(lines).encode('latin-1') + b'\r\n\r\n'


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        try:
            while self.one():
                pass
        except (OSError, ValueError):
            pass

    def one(self):
        head = read_head(self.rfile)
        if not head:
            return False
        method, path, _ = head[0].split(' ', 2)
        body = read_body(self.rfile, head[1])
        proxy = self.server.proxy
        with proxy.lock:
            request = Request(len(proxy.requests), method, path, head[1], len(body))
            proxy.requests.append(request)
            proxy.busy += 1
        try:
            self.hold(proxy, request)
            harm = proxy.harm(request) if proxy.harm else None
            return self.answer(proxy, request, body, harm)
        finally:
            with proxy.lock:
                proxy.busy -= 1

    def hold(self, proxy, request):
        """Its client waits for an answer as long as this takes: those that are in here at once were sent at once."""
        is_file = request.method in ('POST', 'PUT')
        with proxy.lock:
            proxy.sending += is_file
            proxy.most_sending = max(proxy.most_sending, proxy.sending)
            if proxy.most_sending >= proxy.gathering:
                proxy.gathered.set()
        if '/data/' in request.path and is_file:
            proxy.gathered.wait(GATHER_SECONDS)
        if proxy.delay:
            time.sleep(proxy.delay)
        with proxy.lock:
            proxy.sending -= is_file

    def ask(self, proxy, request, content, headers):
        with socket.create_connection(('127.0.0.1', proxy.upstream), timeout=60) as server:
            first = '%s %s HTTP/1.1' % (request.method, request.path)
            server.sendall(build(first, dict(headers, connection='close'), content) + content)
            stream = server.makefile('rb')
            head = read_head(stream)
            if request.method == 'HEAD':
                return head[0], head[1], b'', int(head[1].get('content-length', 0))
            body = read_body(stream, head[1])
            return head[0], head[1], body, len(body)

    def answer(self, proxy, request, content, harm):
        if harm is None:
            return self.forward(proxy, request, content, None)
        if callable(harm):
            return harm(self, proxy, request, content)
        if harm == 'cut':
            return False
        if harm == 'stall':
            proxy.ended.wait(60)
            return False
        if harm == 'garbage':
            self.wfile.write(b'\x16\x03\x01 this is no HTTP\r\n\r\n' * 4)
            return False
        if harm == 'redirect':
            self.wfile.write(build('HTTP/1.1 307 Elsewhere', {'location': proxy.elsewhere}, b''))
            return True
        match = re.fullmatch(r'(after )?(\d+)', harm)
        if match:
            if match.group(1):
                self.ask(proxy, request, content, request.headers)
            text = b'' if request.method == 'HEAD' else b'<h1>Go \x1b[31maway</h1>\n'
            self.wfile.write(build('HTTP/1.1 %s Harm' % match.group(2), {}, text) + text)
            return True
        return self.forward(proxy, request, content, harm)

    def forward(self, proxy, request, content, harm):
        headers = dict(request.headers)
        if harm == 'whole':
            headers.pop('range', None)
        elif harm == 'elsewhere' and 'range' in headers:
            first, last = map(int, headers['range'][len('bytes='):].split('-'))
            headers['range'] = 'bytes=%d-%d' % (first + 1, last + 1)
        first, answer, body, length = self.ask(proxy, request, content, headers)
        if harm == 'lost':
            return False
        if harm == 'less':
            body = body[:len(body) // 2]
            length = len(body)
        elif harm == 'flip' and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 4]) + body[middle + 1:]
        elif harm == 'more':
            body += b'more'
            length = len(body)
        elif harm == 'v1':
            body = json.dumps([item['name'] for item in json.loads(body)]).encode()
            length = len(body)
            answer['content-type'] = 'application/vnd.x.restic.rest.v1'
        elif harm == 'endless':
            return self.endless(first, answer)
        self.wfile.write(build(first, answer, body, length))
        if harm == 'short':
            self.wfile.write(body[:len(body) // 2])
            return False
        if harm == 'slow':
            step = max(1, len(body) // 20)
            for at in range(0, len(body), step):
                self.wfile.write(body[at:at + step])
                time.sleep(0.02)
            return True
        self.wfile.write(body)
        return True

    def endless(self, first, answer):
        headers = {k: v for k, v in answer.items() if k != 'content-range'}
        self.wfile.write(build(first, headers, b'', 1 << 50))
        while True:
            self.wfile.write(b'[' * 65536)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class FaultProxy:
    def __init__(self, upstream, tls=None):
        self.upstream = upstream
        self.harm = None
        self.delay = 0
        self.elsewhere = 'http://127.0.0.1:1/'
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.forget()
        self.server = Server(('127.0.0.1', 0), Handler)
        if tls:  # the handshake is made by the connection's own thread
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.proxy = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def forget(self):
        """Counts from nothing again."""
        self.requests = []
        self.busy = self.sending = self.most_sending = self.gathering = 0
        self.gathered = threading.Event()

    def gather(self, count):
        """Packs get no answer until so many are on their way at once; then they go on as they come."""
        self.forget()
        self.gathering = count

    def asked(self, method, part=''):
        return [r for r in self.requests if r.method == method and part in r.path]

    def sent(self, part=''):
        """Bytes of content that clients sent to paths with @part in them."""
        return sum(r.length for r in self.requests
                   if r.method in ('POST', 'PUT') and part in r.path)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
