"""A small writer of OLE compound files (MS-CFB), for volumes as Zeiss scanners write them."""

import struct

SECTOR = 512
FREE, END, FAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound_file(streams: dict[str, bytes]) -> bytes:
    """Return a version 3 file of streams named `folder/name`; each is padded past the mini-stream's limit of 4096."""
    folders = sorted({name.split("/")[0] for name in streams})
    names = [name for folder in folders for name in sorted(streams) if name.startswith(folder + "/")]
    sectors: list[bytes] = []
    chains: list[int] = []
    starts: dict[str, tuple[int, int]] = {}
    for name in names:
        content = streams[name].ljust(4096, b"\0")
        parts = [content[i : i + SECTOR].ljust(SECTOR, b"\0") for i in range(0, len(content), SECTOR)]
        starts[name] = (len(sectors), len(content))
        chains += [*range(len(sectors) + 1, len(sectors) + len(parts)), END]
        sectors += parts
    entries = directory(folders, names, starts)
    start = len(sectors)
    parts = [entries[i : i + SECTOR] for i in range(0, len(entries), SECTOR)]
    chains += [*range(start + 1, start + len(parts)), END]
    sectors += parts
    n_fat = 1
    while n_fat * SECTOR // 4 < len(sectors) + n_fat:
        n_fat += 1
    fat = chains + [FAT_SECTOR] * n_fat
    fat += [FREE] * (n_fat * SECTOR // 4 - len(fat))
    first_fat = len(sectors)
    sectors.append(struct.pack(f"<{len(fat)}I", *fat))
    difat = [*range(first_fat, first_fat + n_fat)] + [FREE] * (109 - n_fat)
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16)
    header += struct.pack(
        "<HHHHH6xIIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, n_fat, start, 0, 4096, END, 0, END, 0, difat[0]
    )
    header += struct.pack("<108I", *difat[1:])
    return header + b"".join(sectors)


def directory(folders: list[str], names: list[str], starts: dict[str, tuple[int, int]]) -> bytes:
    """Return the directory: siblings as chains to the right, which readers accept as unbalanced trees."""
    order = {"Root Entry": 0} | {name: i + 1 for i, name in enumerate([*folders, *names])}

    def key(name: str) -> tuple[int, str]:
        return len(name), name.upper()

    def entry(name: str, kind: int, *, right: int = FREE, child: int = FREE, start: int = 0, size: int = 0) -> bytes:
        text = (name + "\0").encode("utf-16-le")
        return (
            text.ljust(64, b"\0")
            + struct.pack("<HBBIII", len(text), kind, 1, FREE, right, child)
            + bytes(36)
            + struct.pack("<IQ", start, size)
        )

    def next_of(name: str, siblings: list[str]) -> int:
        place = siblings.index(name) + 1
        return order[siblings[place]] if place < len(siblings) else FREE

    roots = sorted(folders, key=key)
    found = [entry("Root Entry", 5, child=order[roots[0]], start=END)]
    for folder in folders:
        inside = sorted((n for n in names if n.startswith(folder + "/")), key=lambda n: key(n.split("/")[1]))
        found.append(entry(folder, 1, right=next_of(folder, roots), child=order[inside[0]]))
    for name in names:
        folder = name.split("/")[0]
        inside = sorted((n for n in names if n.startswith(folder + "/")), key=lambda n: key(n.split("/")[1]))
        start, size = starts[name]
        found.append(entry(name.split("/")[1], 2, right=next_of(name, inside), start=start, size=size))
    return b"".join(found).ljust(-(-len(found) * 128 // SECTOR) * SECTOR, b"\0")
