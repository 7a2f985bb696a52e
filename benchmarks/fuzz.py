"""What damage and malice do to the decoders: mutated PNGs and mutated DICOMs, seeded.

    python benchmarks/fuzz.py [--pngs 10000] [--dicoms 10000] [--seed 0] [--seconds 1800] [--json FILE]

A PNG carries checksums: damaged in any way it gives its original pixels or a reason, never other pixels. One that
was forged (damaged, and its checksums made right again) may give any pixels. DICOM has no checksums: a damaged file
gives pixels or a reason. Neither crashes this process, hangs it, or takes more than it is allowed. The exit status
is 1 if one of these is broken.

DICOMs and forged PNGs are decoded in the sandbox, damaged PNGs in this process, as an ingest does it.
"""

import argparse
import io
import json
import platform
import re
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from data_prep.decoding.raster import decode
from data_prep.decoding.sandbox import safe_decode
from data_prep.errors import DataError

SIZE = 32  # pixels, of what comes out
SLOW = 5.0  # seconds; a file of a few kilobytes that takes longer is a hang
FORGED = 0.1  # share of the PNGs
GDCM_SYNTAXES = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
}

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]


def smooth(side: int) -> np.ndarray:
    """Return a picture that every decoder has work with: (side, side) uint8."""
    coarse = np.random.default_rng(1).integers(0, 256, (6, 6), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def pngs() -> dict[str, bytes]:
    """One PNG of every kind, some with several IDAT chunks."""
    grey = Image.fromarray(smooth(96))
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (300, 300), dtype=np.uint8))
    deep = cv2.imencode(".png", smooth(96).astype(np.uint16) * 257)[1].tobytes()
    made = {"grey": grey, "RGB": colour, "RGBA": colour.convert("RGBA"), "grey and alpha": grey.convert("LA")}
    made |= {"palette": colour.quantize(32), "one bit": grey.convert("1"), "several chunks": noise}
    encoded = {"16 bits": deep}
    for name, picture in made.items():
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        encoded[name] = stream.getvalue()
    return encoded


def dicoms() -> dict[str, bytes]:
    """One chest radiograph of 64 x 64 pixels in every transfer syntax that an ingest reads, with and without LUTs."""
    native = {syntax.name: dicom(syntax) for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian)}
    native |= {"LUTs": dicom(ExplicitVRLittleEndian, luts=True), "RLE": dicom(RLELossless)}
    native["deflated"] = dicom(DeflatedExplicitVRLittleEndian)
    plain = native["explicit"] = dicom(ExplicitVRLittleEndian)
    return native | {name: compressed(plain, syntax) for name, syntax in GDCM_SYNTAXES.items()}


def dicom(syntax: pydicom.uid.UID, luts: bool = False) -> bytes:
    """Return a chest radiograph of 12 bits."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid(entropy_srcs=["fuzz"])
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4000
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    if luts:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [4096, 0, 16])
        item.add_new("LUTData", "US", list(range(0, 65536, 16)))
        dataset.VOILUTSequence = [item]
    pixels = (smooth(64).astype("<u2") * 16).tobytes()
    dataset.add_new("PixelData", "OW", pixels)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset["PixelData"].value = np.frombuffer(pixels, "<u2").astype(">u2").tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def compressed(data: bytes, syntax: int) -> bytes:
    """Return the same file in another transfer syntax, by GDCM."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.dcm"), Path(folder, "after.dcm")
        before.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.PixmapToPixmap() if hasattr(change, "PixmapToPixmap") else change.GetOutput())
        assert writer.Write()
        return after.read_bytes()


def flip_bits(data: bytes, random: Random) -> bytes:
    """Flip up to eight bits."""
    damaged = bytearray(data)
    for position in random.integers(0, len(data), random.integers(1, 9)):
        damaged[position] ^= 1 << random.integers(0, 8)
    return bytes(damaged)


def set_bytes(data: bytes, random: Random) -> bytes:
    """Set up to eight bytes to extreme values."""
    damaged = bytearray(data)
    for position in random.integers(0, len(data), random.integers(1, 9)):
        damaged[position] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(damaged)


def set_number(data: bytes, random: Random) -> bytes:
    """Replace a number in the file by one at the edge of its range: lengths, sizes, offsets."""
    edge = int(random.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
    kind = random.choice([">I", "<I"]) if edge >= 2**16 else random.choice([">H", "<H"])
    number = struct.pack(kind, edge)
    position = int(random.integers(0, len(data) - len(number)))
    return data[:position] + number + data[position + len(number) :]


def truncate(data: bytes, random: Random) -> bytes:
    """Cut the file off anywhere."""
    return data[: random.integers(0, len(data))]


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = int(random.integers(0, len(data)))
    return start, min(len(data), start + int(random.integers(1, 200)))


def cut_out(data: bytes, random: Random) -> bytes:
    """Remove a piece."""
    start, end = _span(data, random)
    return data[:start] + data[end:]


def repeat(data: bytes, random: Random) -> bytes:
    """Repeat a piece."""
    start, end = _span(data, random)
    return data[:end] + data[start:end] * int(random.integers(1, 20)) + data[end:]


def blank(data: bytes, random: Random) -> bytes:
    """Fill a piece with zeros."""
    start, end = _span(data, random)
    return data[:start] + bytes(end - start) + data[end:]


def insert_noise(data: bytes, random: Random) -> bytes:
    """Insert random bytes."""
    start = int(random.integers(0, len(data)))
    return data[:start] + random.bytes(int(random.integers(1, 200))) + data[start:]


def exchange(data: bytes, random: Random) -> bytes:
    """Exchange two pieces."""
    a, b, c, d = sorted(random.integers(0, len(data), 4).tolist())
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


ANYWHERE: list[Mutation] = [
    flip_bits, set_bytes, set_number, truncate, cut_out, repeat, blank, insert_noise, exchange,
]  # fmt: skip


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PNG into its chunks: kind and content."""
    found, position = [], 8
    while position + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        found.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    """Make a PNG of chunks, with right checksums."""
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in parts:
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png


def drop_chunk(data: bytes, random: Random) -> bytes:
    """Remove a chunk."""
    parts = chunks(data)
    del parts[random.integers(0, len(parts))]
    return joined(parts)


def repeat_chunk(data: bytes, random: Random) -> bytes:
    """Repeat a chunk."""
    parts = chunks(data)
    index = int(random.integers(0, len(parts)))
    return joined(parts[: index + 1] + parts[index:])


def exchange_chunks(data: bytes, random: Random) -> bytes:
    """Exchange two chunks."""
    parts = chunks(data)
    a, b = random.integers(0, len(parts), 2)
    parts[a], parts[b] = parts[b], parts[a]
    return joined(parts)


def forge(data: bytes, random: Random) -> bytes:
    """Damage a chunk's content and give it the checksum that fits."""
    parts = chunks(data)
    index = int(random.integers(0, len(parts)))
    kind, content = parts[index]
    if content:
        parts[index] = kind, ANYWHERE[random.integers(0, len(ANYWHERE))](content.ljust(8, b"\0"), random)
    return joined(parts)


def fuzz_pngs(count: int, seed: int, seconds: float) -> dict[str, object]:
    """Damage and forge; count what came out."""
    seeds = list(pngs().items())
    originals = {name: decode(data, SIZE) for name, data in seeds}
    mutations = [*ANYWHERE, drop_chunk, repeat_chunk, exchange_chunks]
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slowest, started, done = 0.0, time.perf_counter(), 0
    for done in range(1, count + 1):
        random = np.random.default_rng([seed, 0, done])
        name, data = seeds[random.integers(0, len(seeds))]
        forged = random.random() < FORGED
        mutation = forge if forged else mutations[random.integers(0, len(mutations))]
        damaged = mutation(data, random)
        begun = time.perf_counter()
        try:
            pixels = safe_decode(damaged, SIZE, isolate=forged).pixels
        except DataError as error:
            outcome = "crashed, contained" if "crashed" in str(error) else "refused with a reason"
        else:
            same = np.array_equal(pixels, originals[name])
            outcome = "original pixels" if same else "other pixels (forged)" if forged else "OTHER PIXELS"
            if outcome == "OTHER PIXELS":
                wrong.append(f"{name}, {mutation.__name__}, number {done}")
        outcomes[outcome] += 1
        slowest = max(slowest, time.perf_counter() - begun)
        if time.perf_counter() - started > seconds:
            break
    return figures(done, outcomes, slowest, time.perf_counter() - started, wrong)


def fuzz_dicoms(count: int, seed: int, seconds: float) -> dict[str, object]:
    """Damage; count what came out."""
    seeds = list(dicoms().items())
    for name, data in seeds:
        assert safe_decode(data, SIZE).view == "PA", name
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    slowest, started, done = 0.0, time.perf_counter(), 0
    for done in range(1, count + 1):
        random = np.random.default_rng([seed, 1, done])
        data = seeds[random.integers(0, len(seeds))][1]
        head = 132 if random.random() < 0.9 else 0  # without its preamble, a file is not even tried
        damaged = data[:head] + ANYWHERE[random.integers(0, len(ANYWHERE))](data[head:], random)
        begun = time.perf_counter()
        try:
            pixels = safe_decode(damaged, SIZE).pixels
            assert pixels.shape == (SIZE, SIZE)
            assert pixels.dtype == np.uint8
            outcomes["pixels"] += 1
        except DataError as error:
            crashed = "crashed" in str(error) or "takes more" in str(error)
            outcomes["crashed or stopped, contained" if crashed else "refused with a reason"] += 1
            reasons[re.sub(r"\d+", "N", str(error))] += 1
        slowest = max(slowest, time.perf_counter() - begun)
        if time.perf_counter() - started > seconds:
            break
    return figures(done, outcomes, slowest, time.perf_counter() - started, []) | {
        "reasons": dict(reasons.most_common())
    }


def figures(done: int, outcomes: Counter[str], slowest: float, seconds: float, wrong: list[str]) -> dict[str, object]:
    """Summarise a run for the JSON."""
    return {
        "files": done,
        "outcomes": dict(outcomes.most_common()),
        "wrong": wrong,
        "slowest_seconds": round(slowest, 3),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Run the benchmark; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pngs", type=int, default=10_000)
    parser.add_argument("--dicoms", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1800, help="for each of the two kinds")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "fuzz.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's, about the files made here

    record = {
        "PNG": fuzz_pngs(options.pngs, options.seed, options.seconds),
        "DICOM": fuzz_dicoms(options.dicoms, options.seed, options.seconds),
    }
    broken = bool(record["PNG"]["wrong"])
    for kind, found in record.items():
        print(f"{kind}: {found['files']:,} files in {found['seconds']} s, the slowest {found['slowest_seconds']} s")
        for table in ("outcomes", "reasons"):
            for name, times in dict(found.get(table, {})).items():  # type: ignore[call-overload]
                print(f"  {times:7,d}  {name}")
        for line in found["wrong"]:  # type: ignore[attr-defined]
            print(f"  WRONG    {line}")
        broken |= float(str(found["slowest_seconds"])) > SLOW
    versions = {
        "opencv": cv2.__version__, "pydicom": pydicom.__version__, "gdcm": gdcm.Version.GetVersion(),
        "python": platform.python_version(),
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"seed": options.seed, "versions": versions, **record}, indent=1) + "\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
