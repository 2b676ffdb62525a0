"""Becomes another program, after tying its life to ours.

Run as a script (`python -I -S guard.py …`), never imported: it does between fork and exec what is not safe
to do there from a process with threads. What it promises:

- the program gets a signal as soon as the process that started it is gone, even by kill -9;
- it starts with default signal handlers, whatever shell or test runner we were started from;
- on request it runs under another identity, because PostgreSQL refuses to run as root: `namespace:<uid>`
  maps our own uid to that one in a new user namespace, so files stay ours and a checkout under /root stays
  readable; `user:<uid>:<gid>` really changes the uid where namespaces are not allowed, and keeps one
  capability (reading past directory permissions) so that it can still reach its own binaries.

Arguments: parent-pid signal-number identity program [argument…]. Exit code 121: the identity cannot be had.
Exit code 122: the parent was gone already.
"""

import ctypes
import os
import signal
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

IDENTITY_REFUSED = 121
PARENT_GONE = 122

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter_namespace(inside_uid):
    """Be `inside_uid` in a user namespace of our own; outside, and on disk, we stay who we are."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - one write(2) each, as the kernel demands
            file.write(content)


def become_user(uid, gid):
    """Give root up for good, except for the right to pass directories that only root may enter."""
    call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    bit = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable; then the same three for the upper 32 capabilities
    wanted = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    call("capset", header, wanted)
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main(parent, death_signal, identity, *program):
    kind, *numbers = identity.split(":")
    try:
        if kind == "namespace":
            enter_namespace(*map(int, numbers))
        elif kind == "user":
            become_user(*map(int, numbers))
    except OSError as error:
        print(f"cannot take on the identity {identity}: {error}", file=sys.stderr)
        return IDENTITY_REFUSED
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # Only now: the kernel forgets the death signal whenever credentials change.
    if sys.platform == "linux":  # elsewhere nothing tells a child that its parent was killed
        call("prctl", PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        return PARENT_GONE
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming that program is what we are for
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
