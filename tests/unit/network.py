"""Who may come in: keys handed over by the service manager, a list read anew, a network let in by the drop-in only."""

from __future__ import annotations

from tests.unit.container import ROOT, Container
from tests.unit.steps import ENDPOINT, TONALD, config, expect, hears, launch, running, until, windows

VESSEL = "10.20.0.5"
"""An address of this machine in the network that systemd/network.conf names."""
LOAD = "LoadCredential=server.key:/etc/tonald/keys/server.key\n"
LIST = "/etc/tonald/clients"
ARMED = ("--server-key", "/etc/tonald/keys/server.pub", "--client-key", "/root/client/bridge.key")
NETWORK = "/etc/systemd/system/tonald.service.d/network.conf"


def _settings(c: Container) -> str:
    """With keys, open to all addresses; the keys are made once."""
    if c.run("test", "-e", "/etc/tonald/keys/server.key").returncode:
        c.must(TONALD, "keygen", "server", "--into", "/etc/tonald/keys")
        c.must(TONALD, "keygen", "client", "bridge", "--into", "/root/client")
        c.must("mkdir", "-m", "755", "-p", LIST)
    return config(address="0.0.0.0") + f'server_key = "credential:server.key"\nallowed_keys = "{LIST}"\n'


def reload(c: Container) -> str:
    """``systemctl reload`` reads anew who may listen, in the same process; keys by LoadCredential."""
    launch(c, _settings(c), LOAD)
    before, since = running(c), c.cursor()
    c.must("cp", "/root/client/bridge.pub", LIST)
    c.must("systemctl", "reload", "tonald")
    until(lambda: "1 clients may listen" in c.log(since=since), "the list was not read again")
    hears(c, ENDPOINT, *ARMED)
    expect(c.main_pid() == before, "another process")
    mode = c.ask("stat", "-c", "%a %U", "/etc/tonald/keys/server.key")
    expect(mode == "600 root", f"the key is {mode}")
    return "a client put on the list is served by the same process; the secret key stays root's (0600)"


def network(c: Container) -> str:
    """The unit lets nobody in from elsewhere, whatever the settings say; network.conf lets its network in."""
    c.run("ip", "address", "add", f"{VESSEL}/32", "dev", "lo")  # fails where it is there already
    settings = _settings(c)
    c.must("cp", "/root/client/bridge.pub", LIST)
    launch(c, settings, LOAD)
    hears(c, ENDPOINT, *ARMED)
    shut = "analysed" not in windows(c, f"tcp://{VESSEL}:5565", *ARMED, seconds=10)
    c.write(NETWORK, (ROOT / "systemd" / "network.conf").read_text())
    launch(c, settings)
    hears(c, f"tcp://{VESSEL}:5565", *ARMED)
    expect("analysed" not in windows(c, f"tcp://{VESSEL}:5565", seconds=5), "served without keys")
    c.must("rm", NETWORK)
    if not shut:
        version = c.ask("stat", "-fc", "%T", "/sys/fs/cgroup")
        expect(version != "cgroup2fs", f"{VESSEL} was served without network.conf")
        return (
            "with network.conf and keys served, without keys not; NOT PROVED here: IPAddressDeny= "
            "(this kernel's control groups are version 1, where systemd cannot enforce it)"
        )
    return "shut without network.conf though the settings open it; with it served by keys, without keys not"


def instances(c: Container) -> str:
    """Two daemons of the template: users and folders of their own; one dies, the other does not notice."""
    c.run("systemctl", "stop", "tonald")
    users = {}
    for name, port in (("north", 5575), ("south", 5577)):
        text = config().replace("/tonald", f"/tonald-{name}").replace("5565", str(port)).replace("proof", name)
        c.write(f"/etc/tonald/{name}.toml", text)
        done = c.run("systemctl", "start", f"tonald@{name}")
        expect(done.returncode == 0, f"tonald@{name} did not start: {done.stderr}")
        hears(c, f"tcp://127.0.0.1:{port}")
        users[name] = c.ask("stat", "-c", "%u %a", f"/var/lib/private/tonald-{name}")
    expect(users["north"].split()[0] != users["south"].split()[0], f"one user for both: {users}")
    expect(all(u.endswith(" 700") for u in users.values()), f"state folders: {users}")
    north, south = running(c, "tonald@north"), running(c, "tonald@south")
    c.must("systemctl", "kill", "-s", "KILL", "tonald@north")
    until(lambda: running_again(c, north), "tonald@north was not started again")
    hears(c, "tcp://127.0.0.1:5575")
    expect(c.main_pid("tonald@south") == south, "tonald@south is another process")
    c.must("systemctl", "stop", "tonald@north", "tonald@south")
    names = " and ".join(u.split()[0] for u in users.values())
    return f"users {names}, state 0700; kill -9 of one: back, the other untouched"


def running_again(c: Container, before: int) -> bool:
    """tonald@north is another process, and ready."""
    return c.main_pid("tonald@north") not in (0, before) and c.show("ActiveState", "tonald@north") == "active"
