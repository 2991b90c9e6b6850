"""What goes wrong between us and an S3 server: rules for a FaultProxy, and refusals in such servers' words.

    with S3Proxy(port) as proxy:
        proxy.add('PUT', 'data/', 'cut', times=2)
        proxy.add('', '', says(503, 'SlowDown'), share=0.3)
        ... requests to proxy.port ...
        proxy.done['cut']     how often it was done
"""
import collections
import random
import threading
import time

import faultproxy


class S3Proxy(faultproxy.FaultProxy):
    def __init__(self, upstream, seed=1, **options):
        super().__init__(upstream, **options)
        self.random = random.Random(seed)
        self.rules, self.done = [], collections.Counter()
        self.harm = self.find_harm

    def add(self, method, part, harm, times=None, share=1.0):
        """Requests of @method ('' for any) whose path has @part: the first @times, or always; that share of them."""
        with self.lock:
            self.rules.append([method, part, harm, times, share])

    def clear(self):
        with self.lock:
            self.rules = []
            self.done.clear()
            self.forget()

    def find_harm(self, request):
        with self.lock:
            for rule in self.rules:
                method, part, harm, times, share = rule
                if method in ('', request.method) and part in request.path and times != 0 \
                        and self.random.random() < share:
                    if times is not None:
                        rule[3] -= 1
                    self.done[harm if isinstance(harm, str) else harm.__name__] += 1
                    return harm
        return None

    def count(self, method, part=''):
        return len(self.asked(method, part))


def reply(handler, status, body=b'', content_type='application/xml'):
    """An answer of our own."""
    head = faultproxy.build('HTTP/1.1 %d Told' % status, {'content-type': content_type}, body)
    handler.wfile.write(head + body)
    return True


def says(status, code):
    """The server refuses, in S3's words."""
    def fault(handler, proxy, request, content):
        text = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as told</Message></Error>' % code
        return reply(handler, status, b'' if request.method == 'HEAD' else text.encode())
    fault.__name__ = code
    return fault


def forward(handler, proxy, request, content):
    return handler.forward(proxy, request, content, None)


def flipped_request(handler, proxy, request, content):
    """A bit of the body changes on its way to the server."""
    middle = len(content) // 2
    return forward(handler, proxy, request, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:])


def short_object(handler, proxy, request, content):
    """The server has less of the object than was asked for, and says so."""
    first, headers, body, _ = handler.ask(proxy, request, content, request.headers)
    less = body[:len(body) // 2]
    begin = int(request.headers['range'].split('=')[1].split('-')[0])
    headers['content-range'] = 'bytes %d-%d/%d' % (begin, begin + len(less) - 1, begin + len(less))
    handler.wfile.write(faultproxy.build(first, headers, less) + less)
    return True


def together(count, seconds=120):
    """So many get their answers at one moment, whatever the machine is doing."""
    barrier = threading.Barrier(count, timeout=seconds)

    def fault(handler, proxy, request, content):
        first, headers, body, _ = handler.ask(proxy, request, content, request.headers)
        barrier.wait()
        handler.wfile.write(faultproxy.build(first, headers, body) + body)
        return True
    return fault


def slow(handler, proxy, request, content):
    time.sleep(0.5)
    return forward(handler, proxy, request, content)
