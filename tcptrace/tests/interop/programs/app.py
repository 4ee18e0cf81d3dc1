"""The application that gunicorn serves."""
import time


def app(environment, start_response):
    path = environment["PATH_INFO"]
    if path.startswith("/slow/"):
        time.sleep(float(path.removeprefix("/slow/")))
    body = b"x" * (16 << 20) if path == "/big" else b"hello\n"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
