"""Clients that no benchmark tool plays: `client.py ROLE PORT [ARGUMENT]`."""
import http.client
import select
import socket
import ssl
import struct
import sys
import time

ROLE, PORT = sys.argv[1], int(sys.argv[2])
ARGUMENT = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
HOST = "127.0.0.1"


def connect():
    return socket.create_connection((HOST, PORT), timeout=120)


def request(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def pool():
    """A pool of keep-alive connections that looks at them only when it needs one, as urllib3 does: once in ARGUMENT s."""
    connections = [http.client.HTTPConnection(HOST, PORT, timeout=60) for _ in range(4)]
    while True:
        for connection in connections:
            if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has closed; the request connects anew
            connection.request("GET", "/")
            connection.getresponse().read()
        time.sleep(ARGUMENT)


def cancel():
    """Reads the beginning of a long body, and closes."""
    connection = connect()
    connection.sendall(request("/big"))
    connection.recv(1000)
    connection.close()


def reset():
    """A health check that connects, and closes with a RST."""
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def touch():
    """A connection that is opened in advance, and not used."""
    connection = connect()
    time.sleep(ARGUMENT)
    connection.close()


def stream():
    """Reads what the server sends from time to time: server-sent events, a long poll."""
    connection = connect()
    connection.sendall(request(f"/stream/{ARGUMENT}", "Connection: close\r\n"))
    while connection.recv(65536):
        pass


def socket_idle():
    """What a websocket is to TCP: a message each way now and then, and silence."""
    connection = connect()
    connection.sendall(request("/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n"))
    connection.recv(65536)
    until = time.monotonic() + ARGUMENT
    while time.monotonic() < until:
        connection.sendall(b"ping")
        connection.recv(4)
        time.sleep(5)
    connection.close()


def half_close():
    """Says that it has no more to say, and reads a long body slowly: 64 kB each ARGUMENT s."""
    connection = connect()
    connection.sendall(request("/big", "Connection: close\r\n"))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        time.sleep(ARGUMENT)


def tls():
    """TLS with close_notify from both ends, and without."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for unwraps in (True, False):
        connection = context.wrap_socket(connect())
        connection.sendall(request("/", "Connection: close\r\n" if unwraps else ""))
        connection.recv(65536)
        if unwraps:
            try:
                connection.unwrap()
            except (ssl.SSLError, OSError):
                pass
        connection.close()


def wait():
    """ARGUMENT requests at once on connections of their own, whose answers it waits for."""
    connections = [socket.socket() for _ in range(int(ARGUMENT))]
    for connection in connections:
        connection.setblocking(False)
        connection.connect_ex((HOST, PORT))
    print("ready", flush=True)
    time.sleep(0.5)
    for connection in connections:
        try:
            connection.sendall(request("/"))
        except OSError:
            pass
    time.sleep(1000)


def silent():
    """ARGUMENT connections at once that send nothing."""
    connections = [socket.socket() for _ in range(int(ARGUMENT))]
    for connection in connections:
        connection.setblocking(False)
        connection.connect_ex((HOST, PORT))
    print("ready", flush=True)
    time.sleep(1000)


def hold():
    """ARGUMENT keep-alive connections with one request each, idle from then on."""
    connections = [connect() for _ in range(int(ARGUMENT))]
    for connection in connections:
        connection.sendall(request("/"))
        connection.recv(65536)
    print("ready", flush=True)
    time.sleep(1000)


def stall():
    """Asks for a long body, and stops reading it."""
    connection = connect()
    connection.sendall(request("/big"))
    connection.recv(1000)
    print("ready", flush=True)
    time.sleep(1000)


def attempt():
    """Non-blocking connects, one each ARGUMENT s."""
    while True:
        connection = socket.socket()
        connection.settimeout(5)
        try:
            connection.connect((HOST, PORT))
        except OSError:
            pass
        connection.close()
        time.sleep(ARGUMENT)


def trickle():
    """A connection that sends a line each ARGUMENT s, as an application that writes a log to a server."""
    connection = connect()
    print("ready", flush=True)
    while True:
        connection.sendall(b"PING\r\n")
        connection.recv(100)
        time.sleep(ARGUMENT)


def again():
    """Two requests with a body on one connection, ARGUMENT s apart: the second is not repeated by a proxy."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=60)
    for pause in (ARGUMENT, 0):
        connection.request("POST", "/", body=b"x")
        response = connection.getresponse()
        response.read()
        print("ready" if pause else response.status, flush=True)
        time.sleep(pause)


try:
    globals()[ROLE]()
except (ConnectionError, TimeoutError) as error:
    print(f"{ROLE} {PORT}: {error}", file=sys.stderr)
