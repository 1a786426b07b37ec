"""Machine code of the kernels: loops and their instructions, counted without a device."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import build


def disassembler() -> str | None:
    """``nvdisasm``: of the PATH, of a toolkit, or of the wheel nvidia-cuda-nvdisasm; None if there is none."""
    found = shutil.which("nvdisasm") or shutil.which("nvdisasm", path="/usr/local/cuda/bin")
    if found:
        return found
    for folder in sys.path:
        for path in Path(folder).glob("nvidia/*/bin/nvdisasm"):
            return str(path)
    return None


#: Opcodes of a multiprocessor's 64 integer lanes, and of wide products, which take two of its 64 multiplying lanes.
ALU = (
    "IADD3", "VIADD", "LOP3", "SHF", "ISETP", "SEL", "PRMT", "VIMNMX", "IMNMX", "I2IP", "LEA", "VABSDIFF", "FSETP",
    "FSEL", "I2FP", "PLOP3",
)  # fmt: skip
WIDE = ("IMAD.WIDE", "IMAD.HI")


@dataclass(frozen=True)
class Loop:
    """Instructions from the target of a backward branch to that branch."""

    instructions: tuple[str, ...]

    def count(self, *prefixes: str) -> int:
        """Count instructions whose opcode, behind a predicate, starts with one of the prefixes; all by default."""
        opcodes = [re.sub(r"^@!?U?P\w+ ", "", text) for text in self.instructions]
        return sum(text.startswith(prefixes) for text in opcodes) if prefixes else len(opcodes)

    def elements(self, width: int) -> int:
        """Elements read a turn by 16-byte loads, of `width` bytes each."""
        loads = [text for text in self.instructions if re.search(r"\bLDG\.\S*\.128\b", text)]
        return len(loads) * 16 // width


def _kernels(cubin: Path) -> Iterator[tuple[str, str]]:
    """Yield each kernel's name and listing."""
    tool = disassembler()
    assert tool is not None
    for part in re.split(r"\n\.text\.", build.run([tool, "-c", str(cubin)]))[1:]:
        name, _, body = part.partition(":")
        yield name, re.split(r"\n\s*\.section", body)[0]


def stretches(cubin: Path) -> dict[str, Loop]:
    """Return of each kernel the longest stretch of code without a branch: the body of a loop that holds others."""
    result: dict[str, Loop] = {}
    for name, body in _kernels(cubin):
        stretch: list[str] = []
        longest: list[str] = []
        for code in re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", body, re.MULTILINE):
            stretch.append(code)
            if re.search(r"\b(BRA|EXIT|RET|CALL)\b", code):
                longest, stretch = max(longest, stretch, key=len), []
        result[name] = Loop(tuple(longest))
    return result


def loops(cubin: Path) -> dict[str, list[Loop]]:
    """Return the innermost loops of each kernel, in order of their code."""
    result: dict[str, list[Loop]] = {}
    for name, body in _kernels(cubin):
        instructions: list[str] = []
        labels: dict[str, int] = {}
        found: list[tuple[int, int]] = []
        for line in body.splitlines():
            label = re.match(r"(\.L_x_\d+):", line)
            code = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)
            if label:
                labels[label[1]] = len(instructions)
            elif code:
                target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", code[1])
                instructions.append(code[1])
                if target and target[1] in labels and labels[target[1]] < len(instructions) - 1:
                    found.append((labels[target[1]], len(instructions)))
        inner = [a for a in found if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in found)]
        result[name] = [Loop(tuple(instructions[start:stop])) for start, stop in sorted(inner)]
    return result


def rate(loop: Loop, elements: int) -> float:
    """Elements a clock that the busiest of three pipes of an H100 multiprocessor allows: `ALU`, products, issue."""
    wide = loop.count(*WIDE)
    return elements / max(loop.count() / 128, loop.count(*ALU) / 64, (loop.count("IMAD", "IDP") + wide) / 64)


def tell(arch: str, kernel: str, loop: Loop, elements: int) -> float:
    """Print and return the instructions an element: ``pytest -rP -k budgets tests/kernels/cuda`` lists them."""
    each = loop.count() / elements
    model = f", model {rate(loop, elements):.2f} a clock" if arch == "sm_90" else ""
    print(f"{arch} {kernel}: {each:.2f} instructions, {loop.count(*WIDE) / elements:.2f} wide products{model}")
    return each
