"""Two "machines" on one: network namespaces with a cable between them, for tests of launches on several nodes."""

import subprocess
from contextlib import contextmanager, suppress

ADDRESSES = ("10.173.41.1", "10.173.41.2")


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_machines(tag):
    """Yield the commands that run another command on either machine; OSError or CalledProcessError where forbidden."""
    names = [f"ccc{tag}{end}" for end in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")
        yield [["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={name}"] for name in names]
    finally:
        for name in names:
            with suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "delete", name)
