"""Diagnoses of 12-lead ECGs and their codes of SNOMED CT.

Source: PhysioNet/CinC Challenge 2021, Reyna et al. 2021, doi:10.23919/CinC53138.2021.9662687
(``dx_mapping_scored.csv`` and ``dx_mapping_unscored.csv`` of its evaluation); CPSC 2018, Liu et al.
2018, doi:10.1166/jmihi.2018.2442
"""

from collections.abc import Iterable
from types import MappingProxyType

from analogmed.foundation.errors import DataError

SCORED = (
    "AF", "AFL", "BBB", "Brady", "IAVB", "IRBBB", "LAD", "LAnFB", "LBBB", "LPR", "LQRSV", "LQT",
    "NSIVCB", "NSR", "PAC", "PR", "PRWP", "PVC", "QAb", "RAD", "RBBB", "SA", "SB", "STach", "TAb",
    "TInv",
)  # fmt: skip
"""Classes that the challenge of 2021 scores; equivalent codes are one class."""
CPSC = ("NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "VEB", "STD", "STE")
"""Classes of CPSC 2018."""
CODES = MappingProxyType(
    {
        "AF": ("164889003",),
        "AFL": ("164890007",),
        "BBB": ("6374002",),
        "Brady": ("426627000",),
        "IAVB": ("270492004",),
        "IRBBB": ("713426002",),
        "LAD": ("39732003",),
        "LAnFB": ("445118002",),
        "LBBB": ("164909002", "733534002"),
        "LPR": ("164947007",),
        "LQRSV": ("251146004",),
        "LQT": ("111975006",),
        "NSIVCB": ("698252002",),
        "NSR": ("426783006",),
        "PAC": ("284470004", "63593006"),
        "PR": ("10370003",),
        "PRWP": ("365413008",),
        "PVC": ("427172004", "17338001"),
        "QAb": ("164917005",),
        "RAD": ("47665007",),
        "RBBB": ("59118001", "713427006"),
        "SA": ("427393009",),
        "SB": ("426177001",),
        "STD": ("429622005",),
        "STE": ("164931005",),
        "STach": ("427084000",),
        "TAb": ("164934002",),
        "TInv": ("59931005",),
        "VEB": ("164884008",),
    }
)
"""Codes of each class."""
TEXTS = MappingProxyType(
    {
        "AF": "AF",
        "I-AVB": "IAVB",
        "LBBB": "LBBB",
        "Normal": "NSR",
        "PAC": "PAC",
        "PVC": "VEB",
        "RBBB": "RBBB",
        "STD": "STD",
        "STE": "STE",
    }
)
"""Classes by the texts of CPSC 2018, whose PVC has the code of ventricular ectopics (VEB)."""
_OTHERS = frozenset(
    {
        "233892002", "164951009", "251187003", "61277005", "426664006", "251139008", "57054005",
        "413444003", "426434006", "54329005", "251173003", "195080001", "195126007", "251268003",
        "106068003", "713422000", "233917008", "50799005", "29320008", "251166008", "233897008",
        "251170000", "418818005", "74615001", "426749004", "251199005", "61721007", "698247007",
        "27885002", "204384007", "53741008", "413844008", "251198002", "82226007", "428417006",
        "13640000", "164942001", "84114007", "368009", "251259000", "251200008", "195042002",
        "426183003", "425419005", "251120003", "704997005", "49260003", "426995002", "251164006",
        "426648003", "253352002", "67741000119109", "446813000", "425623009", "445211001",
        "164873001", "55827005", "370365005", "164865005", "164861001", "54016002", "428750005",
        "164867002", "282825002", "251205003", "67198005", "425856008", "164912004", "253339007",
        "164921003", "446358003", "67751000119106", "314208002", "89792004", "17366009",
        "65778007", "5609005", "60423000", "49578007", "77867006", "55930002", "164930006",
        "251168009", "426761007", "266257000", "251223006", "164937009", "11157007", "75532003",
        "81898007", "164896001", "111288001", "266249003", "195060002", "251266004", "251182009",
        "164895002", "251180001", "195101003", "74390002",
    }
)  # fmt: skip
"""Codes in the lists of the challenge that belong to no class."""
_CLASS_OF = MappingProxyType(
    {code: name for name, codes in CODES.items() for code in codes} | dict(TEXTS)
)
_FIELD = "Dx:"


def diagnoses(comments: Iterable[str], where: str) -> frozenset[str]:
    """Return the classes that the comments of a header name; other known diagnoses are ignored.

    Args:
        comments: lines of comments; one of them is ``Dx:`` with codes or texts.
        where: file, for errors.

    Raises:
        DataError: there is no such line, or a code or text is unknown.
    """
    lines = [line.strip() for line in comments if line.strip().startswith(_FIELD)]
    if len(lines) != 1:
        raise DataError(
            f"{where}: expected one comment {_FIELD} with diagnoses, got {len(lines)}; download it "
            "again"
        )
    names = [name.strip() for name in lines[0].removeprefix(_FIELD).split(",")]
    unknown = [name for name in names if name not in _CLASS_OF and name not in _OTHERS]
    if unknown:
        raise DataError(
            f"{where}: unknown diagnosis {', '.join(map(repr, unknown))}; expected codes of SNOMED "
            "CT in the lists of the challenge of 2021, or the texts of CPSC 2018; correct the file"
        )
    return frozenset(_CLASS_OF[name] for name in names if name in _CLASS_OF)
