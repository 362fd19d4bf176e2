"""Emblems and a column for GNOME Files (Nautilus): what of a server's project is on this machine.

    apt install python3-nautilus        (or nautilus-python)
    install -Dm 644 desktop/larder_nautilus.py ~/.local/share/nautilus-python/extensions/larder_nautilus.py
    nautilus -q

It asks for extended attributes (user.larder.state and its neighbours), which a mount answers without the network, and
listens to `larder events --json` to show what changes. It never opens a file.
"""

import json
import os
import subprocess
import threading
import time

from gi.repository import GLib, GObject, Nautilus

MOUNTS = "/proc/self/mounts"
KIND = "fuse.larder"
# How long the table of mounts is believed, in seconds.
MOUNTS_LAST = 2.0
# How long after a listener ended the next one may start, in seconds.
LISTEN_AGAIN = 5.0
# Files that are told when they change; the oldest is forgotten first.
KNOWN_MAX = 10_000

# What user.larder.state says: an emblem of the icon theme, and words.
STATES = {
    "online-only": ("emblem-web", "Online-only"),
    "partial": ("emblem-downloads", "Partly on this device"),
    "available": ("emblem-default", "Available on this device"),
    "pending": ("emblem-synchronizing", "Not sent yet"),
    "being written": ("emblem-synchronizing", "Being written"),
}
PINNED = ("emblem-favorite", "Always keep on this device")


def mounts():
    """The folders at which drives are mounted."""
    with open(MOUNTS, "rb") as table:
        lines = [line.split(b" ") for line in table]
    places = [fields[1] for fields in lines if len(fields) > 2 and fields[2] == KIND.encode()]
    # Space, tab, newline and backslash are octal there.
    return [os.fsdecode(place.decode("unicode_escape").encode("latin-1")) for place in places]


def attribute(path, name):
    """What the mount says of a file; None where it says nothing."""
    try:
        return os.getxattr(path, "user.larder." + name).decode("utf-8", "replace")
    except OSError:
        return None


class LarderExtension(GObject.GObject, Nautilus.InfoProvider, Nautilus.ColumnProvider):
    """Marks files of mounts of Larder."""

    def __init__(self):
        super().__init__()
        self.places, self.looked = [], None
        self.known = {}
        self.listening = {}

    def get_columns(self):
        return (
            Nautilus.Column(
                name="Larder::state",
                attribute="larder_state",
                label="Larder",
                description="What of the file is on this device",
            ),
        )

    def update_file_info(self, file):
        path = file.get_location().get_path()
        place = self.place_of(path) if path else None
        if place is None or file.is_directory():
            return
        state = attribute(path, "state")
        if state not in STATES:
            return
        emblem, words = STATES[state]
        if state == "available" and attribute(path, "pinned") == "yes":
            emblem, words = PINNED
        if state == "partial":
            words = "{} ({} %)".format(words, attribute(path, "percent") or "?")
        file.add_emblem(emblem)
        file.add_string_attribute("larder_state", words)
        self.remember(path, file)
        self.listen(place)

    def place_of(self, path):
        now = time.monotonic()
        if self.looked is None or now - self.looked > MOUNTS_LAST:
            self.places, self.looked = mounts(), now
        inside = [place for place in self.places if path.startswith(place.rstrip("/") + "/")]
        return max(inside, key=len, default=None)

    def remember(self, path, file):
        self.known.pop(path, None)
        self.known[path] = file
        while len(self.known) > KNOWN_MAX:
            self.known.pop(next(iter(self.known)))

    def listen(self, place):
        """Has changes below a mount told, from a thread, as long as the mount lasts."""
        last = self.listening.get(place)
        if last is True or (last is not None and time.monotonic() - last < LISTEN_AGAIN):
            return
        self.listening[place] = True
        threading.Thread(target=self.hear, args=(place,), daemon=True).start()

    def hear(self, place):
        command = ["larder", "events", "--json", place]
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as events:
                for line in events.stdout:
                    path = json.loads(line).get("path")
                    if path is not None:
                        GLib.idle_add(self.changed, place.rstrip("/") + path)
        except (OSError, ValueError):
            pass
        self.listening[place] = time.monotonic()

    def changed(self, path):
        file = self.known.get(path)
        if file is not None and not file.is_gone():
            file.invalidate_extension_info()
        return False
