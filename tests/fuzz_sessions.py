"""What fuzz-receiver says: sessions as a sender has them, and mutated ones."""

import functools
import random
import struct

# See curling/wire.h.
HEADER = struct.Struct(">IHBBIIQIIII")
HEADER_FIELDS = ("magic", "version", "type", "flags", "generation",
                 "sequence", "number", "length", "payload_crc", "reserved",
                 "crc")
HEADER_BITS = (32, 16, 8, 8, 32, 32, 64, 32, 32, 32, 32)
HELLO_HEAD = struct.Struct(">16sIIQII")
BEAT = struct.Struct(">IIIIQQ")
BEGIN_PAYLOAD = struct.Struct(">IIQ")
END_PAYLOAD = struct.Struct(">QQII")
RECORD = struct.Struct(">BBHIQ")
(HELLO, WELCOME, REJECT, BEGIN, DATA, END, RECEIVED, APPLIED, FAILED,
 HEARTBEAT, STOP, STOP_ACK, SUPERSEDED, POWEROFF, FENCE,
 FENCED) = range(1, 17)
NAMES = ("0 HELLO WELCOME REJECT ROUND_BEGIN DATA ROUND_END RECEIVED APPLIED "
         "FAILED HEARTBEAT STOP STOP_ACK SUPERSEDED POWEROFF FENCE "
         "FENCED").split()
SYNC, DELTA, FULL = range(3)
PAGES, ZERO, DEVICE = range(1, 4)
MAGIC, VERSION, OPTIONAL = 0x4355524c, 1, 1
PAYLOAD_MAX, DESCRIPTION_MAX = 262144, 65536
NONE = (1 << 64) - 1


def make_table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        yield value


TABLE = tuple(make_table())


@functools.lru_cache(maxsize=1024)
def crc32c(data):
    crc = 0xffffffff
    for octet in data:
        crc = TABLE[(crc ^ octet) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


def records(payload):
    """Type, block, first, and content of the whole records in a payload."""
    at = 0
    while at + RECORD.size <= len(payload):
        kind, _, block, count, first = RECORD.unpack_from(payload, at)
        size = {PAGES: count * Recording.page, DEVICE: count}.get(kind, 0)
        at += RECORD.size
        yield kind, block, count, first, payload[at:at + size]
        at += size


@functools.lru_cache(maxsize=1024)
def device_state(payload):
    return b"".join(content for kind, _, _, _, content in records(payload)
                    if kind == DEVICE)


class Frame:
    """One frame, in order unless .wrong says which fields are not.  Without
    a sequence number or, for ROUND_END, a payload it gets what fits."""

    def __init__(self, kind, payload=b"", number=NONE, generation=0):
        self.type, self.payload, self.number = kind, payload, number
        self.generation = generation
        self.sequence = None if kind == DATA else 0
        self.flags = OPTIONAL if kind == HEARTBEAT else 0
        self.wrong = {}

    def copy(self):
        other = Frame(self.type, self.payload, self.number, self.generation)
        other.sequence, other.flags = self.sequence, self.flags
        other.wrong = dict(self.wrong)
        return other

    def encode(self, sequence=0, payload=b""):
        if self.payload is not None:
            payload = self.payload
        if self.sequence is not None:
            sequence = self.sequence
        fields = dict(zip(HEADER_FIELDS, (
            MAGIC, VERSION, self.type, self.flags, self.generation, sequence,
            self.number, len(payload), crc32c(payload), 0, 0)))
        fields.update(self.wrong)
        if fields["type"] == FENCED:
            fields["type"] = FENCE      # who hears FENCED starts the guest
        header = HEADER.pack(*fields.values())
        if "crc" not in self.wrong:
            header = header[:-4] + struct.pack(">I", crc32c(header[:-4]))
        return header + payload

    def __str__(self):
        kind = self.wrong.get("type", self.type)
        name = NAMES[kind] if kind < len(NAMES) else str(kind)
        size = "mended" if self.payload is None else len(self.payload)
        return "%s round %s seq %s bytes %s %s" % (
            name, "-" if self.number == NONE else self.number, self.sequence,
            size, self.wrong or "")


class Recording:
    """A session of a real sender: what its machine is, its device states,
    some of its pages, and all of its rounds."""

    page = 4096

    def __init__(self, path):
        data = open(path, "rb").read()
        self.states, self.pages, self.rounds = [], [], []
        at = 0
        while at + HEADER.size <= len(data):
            fields = HEADER.unpack_from(data, at)
            kind, number, end = fields[2], fields[6], at + 40 + fields[7]
            payload = data[at + HEADER.size:end]
            if kind == HELLO:
                self.describe(payload[HELLO_HEAD.size:])
            elif kind == BEGIN:
                self.rounds.append(b"")
                device = b""
            if kind in (BEGIN, DATA, END):
                self.rounds[-1] += data[at:end]
            if kind == DATA:
                device += device_state(payload)
                self.pages += [(block, first, content[:self.page])
                               for kind, block, _, first, content
                               in records(payload) if kind == PAGES]
            elif kind == END:
                self.states.append(device)
                assert number == len(self.rounds) - 1
            at = end
        self.pages = self.pages[::max(1, len(self.pages) // 64)]

    def describe(self, text):
        self.description = text
        lines = [line.partition("=") for line in text.decode().split("\n")]
        Recording.page = int(next(value for name, _, value in lines
                                  if name == "page-size"))
        self.blocks = [int(value) // self.page for name, _, value in lines
                       if name.startswith("ram/")]
        self.largest = self.blocks.index(max(self.blocks))


# --- Sessions in order


def hello(ident, description, timeout_ms=1000, generation=0):
    return Frame(HELLO, HELLO_HEAD.pack(ident, timeout_ms // 4, timeout_ms,
                                        NONE, 0, 0) + description,
                 generation=generation)


def ram_payload(rng, recording):
    """Pages as they were where they were; zeroes only above 1 MiB, where no
    device looks at them when it is loaded"""
    payload = b""
    for _ in range(rng.randrange(1, 4)):
        block, first, content = rng.choice(recording.pages)
        if rng.random() < 0.4:
            block = recording.largest
            first = rng.randrange((1 << 20) // recording.page,
                                  recording.blocks[block])
            count = rng.randrange(1, recording.blocks[block] - first + 1)
            payload += RECORD.pack(ZERO, 0, block, min(count, 64), first)
        else:
            payload += RECORD.pack(PAGES, 0, block, 1, first) + content
    return payload


def round_frames(rng, recording, number, held, kind):
    """A round: some pages, and a device state in one piece or more"""
    state = rng.choice(recording.states)
    size = rng.choice((len(state), 65536, 16384))
    payloads = [ram_payload(rng, recording) for _ in range(rng.randrange(3))]
    payloads += [RECORD.pack(DEVICE, 0, 0, len(state[at:at + size]), at) +
                 state[at:at + size] for at in range(0, len(state), size)]
    base = held if kind == DELTA else NONE
    return ([Frame(BEGIN, BEGIN_PAYLOAD.pack(kind, 0, base), number)] +
            [Frame(DATA, payload, number) for payload in payloads] +
            [Frame(END, None, number)])


def beat(rng):
    return Frame(HEARTBEAT, rng.randbytes(BEAT.size))


class Session:
    """What is said on one connection.  .data: all of it; .pauses: at which
    octets to wait for an answer, or so many seconds; .end: close, fin, or
    leave it open"""

    def __init__(self, rng, recording, ident, held=NONE):
        self.rng, self.recording, self.ident = rng, recording, ident
        self.frames = [hello(ident, recording.description), beat(rng)]
        self.did = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            number = (held + 1) & NONE
            kind = rng.choice((DELTA, DELTA, FULL, SYNC))
            if held == NONE:
                kind = rng.choice((SYNC,) * 19 + (FULL,))
            self.frames += round_frames(rng, recording, number, held, kind)
            if rng.random() < 0.3:
                self.frames.append(beat(rng))
            held = number
        if rng.random() < 0.2:
            self.frames.append(Frame(STOP))

    def encode(self):
        """ROUND_ENDs fit what comes before them, but never end a round whose
        device state is not one of QEMU's: that is not what is tested."""
        self.pauses = []
        data = b""
        headers, size, device = [], 0, b""
        for frame in self.frames:
            if frame.type == BEGIN:
                headers, size, device = [], 0, b""
            digest = crc32c(b"".join(headers))
            if device and device not in self.recording.states:
                digest ^= 1
            wire = frame.encode(len(headers), END_PAYLOAD.pack(
                len(headers), size, digest, 0) if frame.type == END else b"")
            if frame.type == DATA:
                headers.append(wire[:HEADER.size])
                size += len(frame.payload)
                device += device_state(frame.payload)
            data += wire
            if frame.type in (HELLO, END):
                self.pauses.append((len(data), WELCOME if frame.type == HELLO
                                    else RECEIVED))
        self.data = data

    def freeze(self):
        """From here on nothing is mended."""
        headers = []
        for frame in self.frames:
            if frame.type == BEGIN:
                headers = []
            elif frame.type == DATA:
                frame.sequence = len(headers)
                headers.append(frame.encode()[:HEADER.size])
            elif frame.type == END and frame.payload is None:
                frame.payload = END_PAYLOAD.pack(len(headers), 0, crc32c(
                    b"".join(headers)), 0)

    def may_end(self):
        """Does it end the session on purpose?"""
        return any(frame.wrong.get("type", frame.type) in (STOP, POWEROFF)
                   for frame in self.frames)

    def numbers(self):
        """Rounds that may be whole"""
        return {frame.wrong.get("number", frame.number)
                for frame in self.frames if frame.type == END}


# --- Mutations

MUTATIONS, WEIGHTS = [], []


def mutation(weight):
    def add(function):
        MUTATIONS.append(function)
        WEIGHTS.append(weight)
        return function
    return add


def odd(rng, bits, near=0):
    """A number that somebody may not have thought of"""
    edge = 1 << rng.randrange(bits + 1)
    return rng.choice((0, 1, near + 1, near - 1, near ^ 1 << rng.randrange(
        bits), edge, edge - 1, -1, -2, rng.getrandbits(bits))) % (1 << bits)


def pick(rng, session, kind=None):
    frames = [frame for frame in session.frames
              if kind in (None, frame.type) and frame.payload is not None]
    return rng.choice(frames) if frames else Frame(HEARTBEAT, bytes(BEAT.size))


def put(rng, session, *frames):
    at = rng.randrange(len(session.frames) + 1)
    session.frames[at:at] = frames


def replace(payload, at, new):
    return payload[:at] + new + payload[at + len(new):]


def odd_field(rng, frame, fields):
    """fields: (offset, octets) of the payload"""
    at, size = rng.choice(fields)
    near = int.from_bytes(frame.payload[at:at + size], "big")
    value = odd(rng, 8 * size, near)
    frame.payload = replace(frame.payload, at, value.to_bytes(size, "big"))


@mutation(6)
def drop(rng, session):
    del session.frames[rng.randrange(len(session.frames))]


@mutation(5)
def repeat(rng, session):
    put(rng, session, pick(rng, session).copy())


@mutation(3)
def repeat_at_once(rng, session):
    at = rng.randrange(len(session.frames))
    session.frames[at:at] = [session.frames[at].copy()]


@mutation(5)
def swap(rng, session):
    one, two = (rng.randrange(len(session.frames)) for _ in range(2))
    frames = session.frames
    frames[one], frames[two] = frames[two], frames[one]


@mutation(4)
def of_another_session(rng, session):
    other = Session(rng, session.recording, rng.randbytes(16),
                    rng.choice((NONE, 0, 1, odd(rng, 64))))
    at = rng.randrange(len(other.frames))
    put(rng, session, *other.frames[at:at + rng.choice((1, 1, 2, 30))])


@mutation(6)
def control(rng, session):
    sizes = {HELLO: HELLO_HEAD.size, WELCOME: 40, REJECT: 20, BEGIN: 16,
             END: 24, APPLIED: 8, HEARTBEAT: BEAT.size, FAILED: 30, FENCE: 8}
    kind = rng.choice(list(range(1, 17)) + [17, 18, 200, 255, 0])
    size = sizes.get(kind, 0)
    if rng.random() < 0.3:
        size = rng.choice((0, 1, size + 1, max(0, size - 1), 1024, 1029))
    frame = Frame(kind, rng.randbytes(size),
                  rng.choice((NONE, 0, 1, odd(rng, 64))))
    if rng.random() < 0.3:
        frame.flags ^= OPTIONAL
    put(rng, session, frame)


@mutation(3)
def stop(rng, session):
    put(rng, session, Frame(rng.choice((STOP, POWEROFF))))


@mutation(3)
def beats(rng, session):
    for _ in range(rng.choice((1, 10, 100))):
        put(rng, session, beat(rng))


@mutation(2)
def beat_damaged(rng, session):
    frame = beat(rng)
    frame.wrong["payload_crc"] = odd(rng, 32)
    put(rng, session, frame)


@mutation(2)
def unknown_optional(rng, session):
    size = rng.choice((0, 1, 100, PAYLOAD_MAX - 1, PAYLOAD_MAX,
                       PAYLOAD_MAX + 1))
    frame = Frame(rng.choice((0, 17, 100, 255)), bytes(size))
    frame.flags = OPTIONAL
    put(rng, session, frame)


@mutation(10)
def header_field(rng, session):
    frame = pick(rng, session)
    at = rng.randrange(len(HEADER_FIELDS))
    near = HEADER.unpack_from(frame.encode())[at]
    frame.wrong[HEADER_FIELDS[at]] = odd(rng, HEADER_BITS[at], near)


@mutation(3)
def generation(rng, session):
    value = odd(rng, 32)
    for frame in session.frames:
        frame.generation = value


@mutation(3)
def round_numbers(rng, session):
    """Of all rounds: from an odd number on"""
    distance = odd(rng, 64)
    for frame in session.frames:
        if frame.number != NONE:
            frame.number = (frame.number + distance) & NONE
        if frame.type == BEGIN and len(frame.payload) == 16:
            kind, reserved, base = BEGIN_PAYLOAD.unpack(frame.payload)
            if base != NONE:
                base = (base + distance) & NONE
            frame.payload = BEGIN_PAYLOAD.pack(kind, reserved, base)


@mutation(5)
def begin_field(rng, session):
    odd_field(rng, pick(rng, session, BEGIN), ((0, 4), (4, 4), (8, 8)))


@mutation(4)
def begin_kind(rng, session):
    frame = pick(rng, session, BEGIN)
    frame.payload = replace(frame.payload, 0,
                            struct.pack(">I", rng.randrange(4)))


@mutation(5)
def end_field(rng, session):
    session.freeze()
    frame = pick(rng, session, END)
    if frame.type == END:
        odd_field(rng, frame, ((0, 8), (8, 8), (16, 4), (20, 4)))


@mutation(4)
def unmended(rng, session):
    """What comes after this is seen by a checksum."""
    session.freeze()


@mutation(5)
def hello_field(rng, session):
    odd_field(rng, pick(rng, session, HELLO), ((16, 4), (20, 4), (24, 8), (32, 4), (36, 4)))


@mutation(2)
def hello_session(rng, session):
    frame = pick(rng, session, HELLO)
    frame.payload = replace(frame.payload, 0, bytes(16))


@mutation(5)
def hello_description(rng, session):
    frame = pick(rng, session, HELLO)
    text = frame.payload[HELLO_HEAD.size:]
    lines = text.split(b"\n")
    line = rng.randrange(len(lines))
    text = rng.choice((
        b"", b"\n" * 1000, b"=" * DESCRIPTION_MAX, bytes(100), text * 2,
        text[:-1], text + bytes(1), text[:rng.randrange(len(text) + 1)],
        rng.randbytes(rng.choice((1, 100, DESCRIPTION_MAX))), b"%s%n%s" * 50,
        b"\n".join(lines[:line] + lines[line + 1:]),
        b"\n".join(lines[:line] + [lines[line][:-1] + b"7"] +
                   lines[line + 1:]),
        b"\n".join(lines[:line] + [b"x" * 5000] + lines[line:]),
        b"\n".join(rng.sample(lines, len(lines)))))
    frame.payload = frame.payload[:HELLO_HEAD.size] + text


@mutation(12)
def record_field(rng, session):
    frame = pick(rng, session, DATA)
    places, at = [], 0
    for _, _, _, _, content in records(frame.payload):
        places.append(at)
        at += RECORD.size + len(content)
    if places:
        at = rng.choice(places)
        odd_field(rng, frame, [(at + place, size) for place, size in
                               ((0, 1), (1, 1), (2, 2), (4, 4), (8, 8))])


@mutation(8)
def record_near_the_edge(rng, session):
    """Of a block that is there, at its end or a little behind"""
    block = rng.randrange(len(session.recording.blocks))
    size = session.recording.blocks[block]
    count = rng.choice((1, 2, size, size + 1, (1 << 32) - 1,
                        (1 << 32) // Recording.page, (1 << 20) + 1))
    first = (size - count + rng.randrange(-1, 2)) & NONE
    kind = rng.choice((PAGES, ZERO))
    content = b""
    if kind == PAGES:
        content = bytes(min(count * Recording.page, 32768))
    put_record(rng, session, RECORD.pack(kind, 0, block, count, first) +
               content)


def put_record(rng, session, record):
    numbers = [frame.number for frame in session.frames
               if frame.type == BEGIN] or [NONE]
    number = rng.choice(numbers)
    places = [at for at, frame in enumerate(session.frames)
              if frame.number == number and frame.type in (DATA, END)] or [0]
    session.frames.insert(rng.choice(places), Frame(DATA, record, number))


@mutation(5)
def odd_record(rng, session):
    kind = rng.choice((0, PAGES, ZERO, ZERO, DEVICE, 4, 255))
    put_record(rng, session, RECORD.pack(
        kind, 0, odd(rng, 16, rng.randrange(8)), odd(rng, 32, 1),
        odd(rng, 64)) + rng.randbytes(rng.choice((0, 1, 4096, 8192))))


@mutation(1)
def storm_of_zeroes(rng, session):
    """All of a block, a thousand times in one frame"""
    block = session.recording.largest
    size = session.recording.blocks[block]
    put_record(rng, session, RECORD.pack(ZERO, 0, block, size, 0) *
               rng.choice((2, 1000, PAYLOAD_MAX // RECORD.size)))


@mutation(6)
def payload_length(rng, session):
    frame = pick(rng, session, rng.choice((DATA, None)))
    size = len(frame.payload)
    if rng.random() < 0.6:
        frame.payload = frame.payload[:rng.randrange(size + 1)]
    else:
        frame.payload += rng.randbytes(rng.choice((1, 4, 15, 16, 4096)))


@mutation(1)
def too_much(rng, session):
    """More than max-round-bytes (fuzz-receiver: 8 MiB) in one round"""
    number = pick(rng, session, BEGIN).number
    block = session.recording.largest
    pages = PAYLOAD_MAX // Recording.page - 1
    payload = RECORD.pack(PAGES, 0, block, pages, 0) + bytes(
        pages * Recording.page)
    places = [at for at, frame in enumerate(session.frames)
              if frame.number == number and frame.type == BEGIN] or [0]
    session.frames[places[0] + 1:places[0] + 1] = [
        Frame(DATA, payload, number) for _ in range(rng.choice((20, 40)))]


def flip(rng, data):
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        if data:
            at = rng.choice((rng.randrange(len(data)),
                             rng.randrange(min(len(data), 200))))
            data[at] ^= 1 << rng.randrange(8)


def cut(rng, data):
    at = rng.choice((len(data), 200))
    del data[rng.randrange(min(at, len(data)) + 1):]


def insert_noise(rng, data):
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 40, 1000)))


def remove(rng, data):
    at = rng.randrange(len(data) + 1)
    del data[at:at + rng.choice((1, 2, 40, 1000))]


def noise(rng, data):
    data[:] = rng.choice((
        rng.randbytes(rng.choice((1, 39, 40, 41, 10000))), b"",
        b"GET / HTTP/1.1\r\nHost: curling\r\n\r\n", b"QEVM" + bytes(100),
        b"\x16\x03\x01\x02\x00\x01" + rng.randbytes(500), b"CURL" * 1000))


def mutate(session):
    """Once or more; now and then not at all.  Then how it is said."""
    rng = session.rng
    how = rng.random()
    if how < 0.85:
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            change = rng.choices(MUTATIONS, WEIGHTS)[0]
            if session.frames:
                change(rng, session)
                session.did.append(change.__name__)
    session.encode()
    if how > 0.78:
        data = bytearray(session.data)
        for _ in range(rng.choice((1, 1, 2))):
            change = rng.choice((flip, flip, cut, insert_noise, remove,
                                 noise))
            change(rng, data)
            session.did.append(change.__name__)
        session.data = bytes(data)
    if rng.random() < 0.4:
        session.pauses = []
    while rng.random() < 0.15:
        session.pauses.append((rng.randrange(len(session.data) + 1),
                               rng.choice((0,) * 12 + (0.01,) * 3 + (0.1,))))
    session.pauses.sort()
    # Each that is left open makes a receiver wait for peer-timeout-ms.
    session.end = rng.choices(("fin", "close", "leave"), (70, 27, 3))[0]
    return session


def planned(seed, number, recording, ident=None, held=NONE):
    """The session of this number; with an ident of its own if None"""
    rng = random.Random("%s/%d" % (seed, number))
    own = rng.randbytes(16)
    return mutate(Session(rng, recording, ident or own, held))
