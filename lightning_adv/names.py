"""Names that users and files give to things, made fit for the name of a file."""

import re
import zlib

__all__ = ["file_name", "key_path"]

LONGEST = 100
"""Bytes; file systems take 255, and callers put something before and behind a name."""

ORDINARY = re.compile(r"[\w(][\w .,=+@%&()'-]*(?<![ .])")
"""Beginning and end, too, as every file system takes them."""


def file_name(name: str) -> str:
    """A name as that of a file or a folder: it leads into no other folder, and every system can hold it.

    Ordinary names stay as they are. In others, what does not belong there becomes ``_``, and a checksum behind it keeps
    two names apart that differ in nothing else.

    Example:
        >>> file_name("pgd20"), file_name("PGD 8-255 (L2)"), file_name("../../x"), file_name("..")
        ('pgd20', 'PGD 8-255 (L2)', '_x-422533a8', '_-9608161c')
    """
    if len(name.encode(errors="replace")) <= LONGEST and ORDINARY.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9,=+@()-]+", "_", name or ".")[: LONGEST - 9]
    return f"{plain}-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


def key_path(key: str) -> str:
    """The key of a picture or table as a relative path: its parts are folders, and none leads out of them.

    Example:
        >>> key_path("val/attacks/pgd20"), key_path("val/../../x")
        ('val/attacks/pgd20', 'val/_-9608161c/_-9608161c/x')
    """
    return "/".join(file_name(part) for part in key.split("/"))
