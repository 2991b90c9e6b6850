"""A proxy before an S3 server: what networks do to requests, and what such servers answer, in their words.

    with FaultProxy(port) as proxy:
        proxy.add('PUT', 'data/', cut_request, times=2)
        ... requests to proxy.port ...
        proxy.done['cut_request']     how often it was done

A fault is a function of (proxy, exchange): it may answer by itself, spoil
the request or the answer, or end the connection.
"""
import collections
import http.client
import http.server
import random
import socket
import threading
import time


class Exchange:
    """One request of a client, and how it is answered."""

    def __init__(self, handler, body):
        self.handler, self.body = handler, body
        self.method, self.path, self.headers = handler.command, handler.path, handler.headers

    def forward(self, port):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
        connection.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(self.body or None)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def answer(self, status, headers, content, sent=None):
        """@sent: what is really sent of the content that is announced."""
        handler = self.handler
        handler.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ('connection', 'transfer-encoding', 'content-length'):
                handler.send_header(name, value)
        length = dict((n.lower(), v) for n, v in headers).get('content-length')
        handler.send_header('Content-Length', length if self.method == 'HEAD' and length else str(len(content)))
        handler.end_headers()
        if self.method != 'HEAD':
            handler.wfile.write(content if sent is None else sent)
        handler.wfile.flush()

    def end(self):
        """The connection breaks: what was sent arrives, and nothing after it."""
        self.handler.close_connection = True
        try:
            self.handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def handle_any(self):
        proxy = self.server.proxy
        length = int(self.headers.get('Content-Length') or 0)
        fault = proxy.take(self.command, self.path)
        if fault is cut_request and length > 1:
            self.rfile.read(length // 2)
            return Exchange(self, b'').end()
        exchange = Exchange(self, self.rfile.read(length))
        if fault:
            return fault(proxy, exchange)
        exchange.answer(*exchange.forward(proxy.target))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any


class FaultProxy:
    def __init__(self, target, seed=1):
        self.target = target
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.rules, self.requests, self.done = [], [], collections.Counter()

    def __enter__(self):
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass    # a client that went away

        self.server = Server(('127.0.0.1', 0), Handler)
        self.server.proxy = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def add(self, method, part, fault, times=None, share=1.0):
        """Requests of @method ('' for any) whose path has @part suffer @fault: the first @times, or always; that share of them."""
        with self.lock:
            self.rules.append([method, part, fault, times, share])

    def clear(self):
        with self.lock:
            self.rules, self.requests = [], []
            self.done.clear()

    def take(self, method, path):
        with self.lock:
            self.requests.append((method, path))
            for rule in self.rules:
                if rule[0] in ('', method) and rule[1] in path and rule[3] != 0 and self.random.random() < rule[4]:
                    if rule[3] is not None:
                        rule[3] -= 1
                    self.done[rule[2].__name__] += 1
                    return rule[2]
        return None

    def count(self, method, part=''):
        with self.lock:
            return sum(1 for m, p in self.requests if m == method and part in p)


# ---- faults ----

def says(status, code, headers=()):
    """The server refuses, in S3's words."""
    def fault(proxy, exchange):
        text = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as told</Message></Error>' % code
        exchange.answer(status, [('Content-Type', 'application/xml'), *headers], text.encode())
    fault.__name__ = code
    return fault


def cut_request(proxy, exchange):
    """The connection breaks in the middle of the body. (The handler cuts; this is for requests without one.)"""
    exchange.end()


def lost_answer(proxy, exchange):
    """The server does what was asked, and nobody hears of it."""
    exchange.forward(proxy.target)
    exchange.end()


def cut_answer(proxy, exchange):
    """The connection breaks in the middle of the answer's content."""
    status, headers, content = exchange.forward(proxy.target)
    exchange.answer(status, headers, content, content[:len(content) // 2])
    exchange.end()


def short_answer(proxy, exchange):
    """The server has less than was asked for, and says so."""
    status, headers, content = exchange.forward(proxy.target)
    less = content[:len(content) // 2]
    first = int(exchange.headers['Range'].split('=')[1].split('-')[0])
    headers = [(n, v) for n, v in headers if n.lower() != 'content-range']
    headers.append(('Content-Range', 'bytes %d-%d/%d' % (first, first + len(less) - 1, first + len(less))))
    exchange.answer(status, headers, less)


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:] if data else data


def flipped_request(proxy, exchange):
    """A bit of the body changes on its way to the server."""
    exchange.body = flip(exchange.body)
    exchange.answer(*exchange.forward(proxy.target))


def flipped_answer(proxy, exchange):
    """A bit of the content changes on its way from the server."""
    status, headers, content = exchange.forward(proxy.target)
    exchange.answer(status, headers, flip(content))


def slow(proxy, exchange):
    time.sleep(0.5)
    exchange.answer(*exchange.forward(proxy.target))
