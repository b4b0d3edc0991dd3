"""Runs a program as on a CPU that is not here: with AVX-512, its instructions for bfloat16, and AMX.

    emulate_cpu.py PROGRAM [ARGUMENT ...]

`just test-isa` runs the kernels' tests with it.

The program is a statically linked one for x86-64 Linux. A thread that it starts runs to its end before the
one that started it goes on. Instructions are carried out by Bochs (`bochscpu-python` of PyPI); CPUID and the matrix unit, which that build of it lacks, by this
script, after Intel's manuals; system calls by this script: what a test program needs, and no files. It is for
right results, not for speed. Wants numpy, a C compiler, and binutils' objdump.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy

# What the emulator's library takes from a C library of 2023 or later, for older ones.
NEWER_C = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }
int __isoc23_sscanf(const char *s, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int result = vsscanf(s, format, arguments);
    va_end(arguments);
    return result;
}
"""

try:
    import bochscpu
except ImportError as error:
    if "__isoc23" not in str(error) or "LD_PRELOAD" in os.environ:
        raise
    library = os.path.join(tempfile.mkdtemp(), "newer_c.so")
    compile_it = ["cc", "-shared", "-fPIC", "-xc", "-", "-o", library]
    subprocess.run(compile_it, input=NEWER_C, text=True, check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": library})

import bochscpu.cpu
import bochscpu.memory

PAGE = 4096
TABLES, STUB, STACK, HEAP, MAPS = 0x1000, 0x5000, 0x40_0000_0000, 0x20_0000_0000, 0x30_0000_0000
RANDOM = 100
PASSED = ["PROPTEST_CASES", "PROPTEST_RNG_SEED", "RUST_BACKTRACE"]
UNDEFINED = b"\x0f\x0b"


def choose_cpu():
    """Makes Bochs a Sapphire Rapids: where its library makes another CPU, a jump to what makes that."""
    library = ctypes.CDLL(bochscpu._bochscpu.__file__)
    address = lambda name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    usual = address("_Z23create_corei3_cnl_cpuidP8BX_CPU_C")
    wanted = address("_Z28create_sapphire_rapids_cpuidP8BX_CPU_C")
    first = usual // PAGE * PAGE
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(first), 2 * PAGE, 7) == 0
    jump = b"\x48\xb8" + struct.pack("<Q", wanted) + b"\xff\xe0"
    ctypes.memmove(usual, jump, len(jump))


class Memory:
    """Virtual addresses are physical ones: one flat memory, whose pages appear when they are touched."""

    def __init__(self):
        self.pages = {}

    def page(self, address):
        number = address // PAGE
        if number not in self.pages:
            host = bochscpu.memory.allocate_host_page()
            ctypes.memset(host, 0, PAGE)
            bochscpu.memory.page_insert(number * PAGE, host)
            self.pages[number] = host
        return self.pages[number]

    def pieces(self, address, size):
        while size > 0:
            offset = address % PAGE
            piece = min(PAGE - offset, size)
            yield self.page(address) + offset, piece
            address, size = address + piece, size - piece

    def read(self, address, size):
        return b"".join(ctypes.string_at(host, piece) for host, piece in self.pieces(address, size))

    def write(self, address, data):
        done = 0
        for host, piece in self.pieces(address, len(data)):
            ctypes.memmove(host, data[done:done + piece], piece)
            done += piece

    def text(self, address):
        end = address
        while self.read(end, 1) != b"\0":
            end += 1
        return self.read(address, end - address).decode()


class MatrixUnit:
    """AMX's registers and instructions. Intel, Architecture Instruction Set Extensions Programming
    Reference, chapter 3."""

    def __init__(self, memory):
        self.memory, self.rows, self.row_bytes, self.tiles = memory, [0] * 8, [0] * 8, {}
        self.multiplied = 0

    def configure(self, address):
        data = self.memory.read(address, 64)
        assert data[0] == 1 and not any(data[2:16]), "a palette that is not AMX's"
        self.row_bytes = list(struct.unpack("<8H", data[16:32]))
        self.rows = list(data[48:56])
        for rows, size in zip(self.rows, self.row_bytes):
            assert rows <= 16 and size <= 64 and (rows == 0) == (size == 0), "a register's size"
        self.tiles = {i: numpy.zeros((16, 64), numpy.uint8) for i in range(8) if self.rows[i]}

    def load(self, tile, address, stride):
        self.tiles[tile][:] = 0
        for row in range(self.rows[tile]):
            data = self.memory.read(address + row * stride, self.row_bytes[tile])
            self.tiles[tile][row, :len(data)] = numpy.frombuffer(data, numpy.uint8)

    def store(self, tile, address, stride):
        for row in range(self.rows[tile]):
            data = self.tiles[tile][row, :self.row_bytes[tile]].tobytes()
            self.memory.write(address + row * stride, data)

    def multiply(self, to, left, right):
        assert self.rows[left] == self.rows[to] and self.row_bytes[right] == self.row_bytes[to]
        assert self.row_bytes[left] == 4 * self.rows[right], "the operands' common dimension"

        def singles(tile):
            halves = self.tiles[tile].view(numpy.uint16)
            return (halves.astype(numpy.uint32) << 16).view(numpy.float32)

        self.multiplied += 1
        a, b = singles(left), singles(right)
        sums = self.tiles[to].view(numpy.float32)
        for k in range(self.rows[right]):
            for half in range(2):
                sums += a[:, None, 2 * k + half] * b[k, None, half::2]

    def zero(self, tile):
        self.tiles[tile][:] = 0

    def release(self):
        self.tiles = {}


class Program:
    """A process."""

    def __init__(self, path, arguments):
        self.memory, self.exit = Memory(), None
        self.unit, self.replaced = MatrixUnit(self.memory), {}
        self.starters = []
        self.heap, self.maps = HEAP, MAPS
        entry, headers = self.load(path)
        choose_cpu()
        self.session = bochscpu.Session()
        self.session.missing_page_handler = self.memory.page
        self.hook = bochscpu.Hook()
        self.reason = None
        self.hook.hlt = lambda session, _cpu: self.stop(session, "system call")
        self.hook.exception = lambda session, _cpu, vector, error: self.stop(
            session, f"exception {vector}"
        )
        self.start(entry, self.stack([path, *arguments], headers, entry))

    def stop(self, session, reason):
        self.reason = reason
        session.stop()

    def load(self, path):
        """Brings the segments into memory. What this script carries out becomes an undefined instruction."""
        image = open(path, "rb").read()
        entry, table = struct.unpack_from("<QQ", image, 24)
        size, count = struct.unpack_from("<HH", image, 54)
        assert struct.unpack_from("<H", image, 16)[0] == 2, "not linked to a fixed place"
        headers = (0, size, count)
        for i in range(count):
            kind, _, offset, address, _, in_file, _, _ = struct.unpack_from("<IIQQQQQQ", image, table + i * size)
            if kind == 1:
                self.memory.write(address, image[offset:offset + in_file])
                if offset <= table < offset + in_file:
                    headers = (address + table - offset, size, count)
        listing = subprocess.run(["objdump", "-dw", path], capture_output=True, text=True, check=True)
        ours = (r"^\s*([0-9a-f]+):\s+((?:[0-9a-f]{2} )+)\s*"
                r"(?:cpuid|ldtilecfg|tile\w+|tdpbf16ps|vdpbf16ps\s+-?0x[0-9a-f]+\(%\w+\),)")
        for place, code in re.findall(ours, listing.stdout, re.MULTILINE):
            place = int(place, 16)
            self.replaced[place] = bytes.fromhex(code)
            self.memory.write(place, UNDEFINED)
        return entry, headers

    def stack(self, arguments, headers, entry):
        """What a program finds on its stack: arguments, environment, and what the system tells it."""
        top = STACK - 4096
        places = []
        environment = [f"{name}={os.environ[name]}" for name in PASSED if name in os.environ]
        for text in arguments + environment:
            top -= len(text) + 1
            self.memory.write(top, text.encode() + b"\0")
            places.append(top)
        top -= 16
        self.memory.write(top, bytes(range(16)))
        random, count = top, len(arguments)
        told = [3, headers[0], 4, headers[1], 5, headers[2], 6, PAGE, 9, entry, 11, 0, 12, 0, 13, 0, 14, 0,
                23, 0, 25, random, 16, 0, 0, 0]
        words = [count, *places[:count], 0, *places[count:], 0, *told]
        top = (top - 8 * len(words)) & ~15
        self.memory.write(top, struct.pack(f"<{len(words)}Q", *words))
        return top

    def start(self, entry, stack):
        # Two tables of addresses are enough: 512 pages of 1 GiB.
        self.memory.write(TABLES, struct.pack("<Q", TABLES + PAGE | 7))
        self.memory.write(TABLES + PAGE, b"".join(struct.pack("<Q", i << 30 | 0x87) for i in range(512)))
        self.memory.write(STUB, b"\xf4" * 16)
        state = bochscpu.State()
        bochscpu.cpu.set_long_mode(state)
        state.cr3 = TABLES
        state.cr4 |= 1 << 9 | 1 << 10 | 1 << 18
        state.xcr0 = 0xE7
        state.mxcsr = 0x1F80
        state.rflags = 2
        state.star, state.lstar, state.sfmask = 0x23 << 48 | 0x10 << 32, STUB, 0
        state.rip, state.rsp = entry, stack
        for name, attributes in [("cs", 0xA09B), ("ss", 0xC093), ("ds", 0xC093), ("es", 0xC093),
                                 ("fs", 0xC093), ("gs", 0xC093)]:
            segment = bochscpu.Segment()
            segment.present, segment.selector, segment.base = True, 0x10 if name == "cs" else 0x18, 0
            segment.limit, segment.attr = 0xFFFFFFFF, attributes
            setattr(state, name, segment)
        self.session.cpu.state = state

    def run(self):
        while self.exit is None:
            self.reason = None
            self.session.run([self.hook])
            if self.reason == "system call":
                self.system_call()
            elif self.reason == "exception 6":
                self.undefined()
            else:
                sys.exit(f"{self.reason} at {self.session.cpu.rip:#x}")
        return self.exit

    def system_call(self):
        cpu = self.session.cpu
        number, arguments = cpu.rax, (cpu.rdi, cpu.rsi, cpu.rdx, cpu.r10, cpu.r8, cpu.r9)
        cpu.rip, cpu.rflags = cpu.rcx, cpu.r11
        if number == 435:  # clone3
            return self.start_thread(*struct.unpack("<8Q", self.memory.read(arguments[0], 64)))
        if number == 60 and self.starters:  # exit
            return self.end_thread()
        cpu.rax = self.answer(number, *arguments) & 0xFFFF_FFFF_FFFF_FFFF

    def start_thread(self, _flags, _pidfd, to_clear, parent_tid, _signal, stack, size, storage):
        cpu = self.session.cpu
        cpu.rax = 2 + len(self.starters)
        self.starters.append((cpu.state, to_clear))
        self.memory.write(parent_tid, struct.pack("<I", cpu.rax))
        cpu.rax, cpu.rsp = 0, stack + size
        self.local_storage(storage)

    def end_thread(self):
        state, to_clear = self.starters.pop()
        self.memory.write(to_clear, bytes(4))
        self.session.cpu.state = state

    def local_storage(self, place):
        segment = self.session.cpu.fs
        segment.base = place
        self.session.cpu.fs = segment

    def answer(self, number, first, second, third, fourth, *_):
        if number in (1, 20):  # write, writev
            if first not in (1, 2):
                return -9
            pieces = [(second, third)]
            if number == 20:
                pieces = [struct.unpack("<QQ", self.memory.read(second + 16 * i, 16)) for i in range(third)]
            data = b"".join(self.memory.read(*piece) for piece in pieces)
            stream = sys.stdout if first == 1 else sys.stderr
            stream.buffer.write(data)
            stream.flush()
            return len(data)
        if number == 9:  # mmap
            place = self.maps
            self.maps += (second + PAGE - 1) // PAGE * PAGE + PAGE
            return place
        if number == 12:  # brk
            self.heap = max(self.heap, first)
            return self.heap
        if number == 25:  # mremap
            place = self.maps
            self.maps += (third + PAGE - 1) // PAGE * PAGE + PAGE
            self.memory.write(place, self.memory.read(first, min(second, third)))
            return place
        if number == 158:  # arch_prctl
            if first == 0x1002:
                self.local_storage(second)
            return 0 if first in (0x1002, 0x1023) else -22
        if number in (60, 231):  # exit, exit_group
            self.exit = first
            return 0
        if number == 228:  # clock_gettime
            self.memory.write(second, struct.pack("<QQ", 1_700_000_000, 0))
            return 0
        if number == 318:  # getrandom
            self.memory.write(first, bytes(i % 256 for i in range(second)))
            return second
        if number == 202:  # futex: nobody else runs
            return -11 if second & 0x7F in (0, 9) else 0
        if number in (39, 186, 218):  # getpid, gettid, set_tid_address
            return 1
        if number == 204:  # sched_getaffinity
            self.memory.write(third, struct.pack("<Q", 1))
            return 8
        if number == 79:  # getcwd
            self.memory.write(first, b"/\0")
            return 2
        if number == 257:  # openat
            return RANDOM if self.memory.text(second) in ("/dev/random", "/dev/urandom") else -2
        if number == 0 and first == RANDOM:  # read
            self.memory.write(second, bytes(i % 256 for i in range(third)))
            return third
        if number == 7:  # poll: of the random numbers
            return 1
        if number in (3, 10, 11, 13, 14, 28, 131, 157, 273):
            return 0  # protection, signals, names: as asked for
        if number not in (16, 89, 262, 302, 334):  # ioctl, readlink, newfstatat, prlimit64, rseq: may be refused
            print(f"system call {number} is not known here", file=sys.stderr)
        return -38

    def undefined(self):
        """Carries out what was replaced."""
        cpu = self.session.cpu
        place = cpu.rip - len(UNDEFINED)
        code = self.replaced.get(place)
        if code is None:
            sys.exit(f"undefined instruction at {place:#x}: {self.memory.read(place, 16).hex(' ')}")
        if code == b"\x0f\xa2":
            cpu.rax, cpu.rbx, cpu.rcx, cpu.rdx = identify(cpu.rax & 0xFFFF_FFFF, cpu.rcx & 0xFFFF_FFFF)
        elif code[0] == 0x62:
            self.dot_pairs(code)
        else:
            self.matrix_instruction(code)
        cpu.rip = place + len(code)

    def dot_pairs(self, code):
        """VDPBF16PS with an operand in memory beside a register; Bochs takes it from a wrong place."""
        assert code[1] & 0xF0 == 0xF0 and code[3] & 0xF8 == 0x48, "registers below 8, unmasked"
        at = 6 if code[5] & 7 != 4 else 7
        place = self.value(code[6] & 7 if at == 7 else code[5] & 7)
        place += 64 * struct.unpack_from("<b", code, at)[0] if code[5] >> 6 == 1 else struct.unpack_from("<i", code, at)[0]
        state = self.session.cpu.state
        zmm = state.zmm
        to, left = code[5] >> 3 & 7, ~(code[2] >> 3) & 15
        vector = lambda number, kind: numpy.array(zmm[number].q, numpy.uint64).view(kind)
        single = lambda halves: (halves.astype(numpy.uint32) << 16).view(numpy.float32)
        a = single(vector(left, numpy.uint16))
        b = single(numpy.frombuffer(self.memory.read(place, 64), numpy.uint16))
        sums = vector(to, numpy.float32)
        sums = sums + a[1::2] * b[1::2] + a[::2] * b[::2]
        zmm[to].q = [int(q) for q in sums.astype(numpy.float32).view(numpy.uint64)]
        state.zmm = zmm
        self.session.cpu.state = state

    def value(self, register):
        """Of a general register, by its number."""
        names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16))]
        return getattr(self.session.cpu, names[register])

    def matrix_instruction(self, code):
        prefix, opcode, modrm = code[2] & 3, code[3], code[4]
        register, kind = modrm >> 3 & 7, (prefix, opcode)
        if modrm >> 6 == 3:
            if kind == (2, 0x5C):
                self.unit.multiply(register, modrm & 7, ~(code[2] >> 3) & 7)
            elif kind == (3, 0x49):
                self.unit.zero(register)
            else:
                assert kind == (0, 0x49), code.hex(" ")
                self.unit.release()
            return
        address, stride = self.place(code)
        if kind == (0, 0x49):
            self.unit.configure(address)
        elif kind == (3, 0x4B):
            self.unit.load(register, address, stride)
        else:
            assert kind == (2, 0x4B), code.hex(" ")
            self.unit.store(register, address, stride)

    def place(self, code):
        """The address of a memory operand, without its index; that."""
        mode, low = code[4] >> 6, code[4] & 7
        high_base, high_index = (~code[1] >> 5 & 1) << 3, (~code[1] >> 6 & 1) << 3
        at, index, scale = 5, None, 1
        if low == 4:
            at, scale = 6, 1 << (code[5] >> 6)
            number = code[5] >> 3 & 7 | high_index
            index, low = None if number == 4 else self.value(number), code[5] & 7
        assert not (mode == 0 and low == 5), "an address without a base"
        shift = {0: b"\0", 1: code[at:at + 1], 2: code[at:at + 4]}[mode]
        shift = int.from_bytes(shift, "little", signed=True)
        return self.value(low | high_base) + shift, 0 if index is None else index * scale


def identify(leaf, subleaf):
    """CPUID of the CPU that there might be."""
    if leaf == 0:
        return 0x1F, 0x756E6547, 0x6C65746E, 0x49656E69
    if leaf == 1:
        ecx = sum(1 << bit for bit in (0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 27, 28, 29, 30))
        return 0x806F8, 0x800, ecx, 0x1F8BFBFF | 1 << 8
    if (leaf, subleaf) == (7, 0):
        ebx = sum(1 << bit for bit in (0, 3, 5, 8, 16, 17, 28, 30, 31))
        return 1, ebx, 0, 1 << 22 | 1 << 24
    if (leaf, subleaf) == (7, 1):
        return 1 << 4 | 1 << 5, 0, 0, 0
    if (leaf, subleaf) == (0xD, 0):
        return 0xE7, 0xA80, 0xA80, 0
    if leaf == 0x8000_0000:
        return 0x8000_0008, 0, 0, 0
    if leaf == 0x8000_0001:
        return 0, 0, 1 | 1 << 5, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29
    return 0, 0, 0, 0


if __name__ == "__main__":
    # Infinities and what is no number are multiplied like any other.
    numpy.seterr(invalid="ignore", over="ignore")
    program = Program(sys.argv[1], sys.argv[2:])
    code = program.run()
    print(f"{program.unit.multiplied:,} products by the matrix unit", file=sys.stderr, flush=True)
    # Not by way of the emulator's own end, which faults.
    os._exit(code)
