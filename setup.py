"""The package's metadata: its name, what it needs, and the command that it installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def stated(name: str) -> str:
    """What the package states of itself, read as text: importing it would need what is not installed yet."""
    text = (HERE / "s3_uploader" / "_version.py").read_text(encoding="utf-8")
    found = re.search(rf'^{name} = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"s3_uploader/_version.py states no {name}")
    return found[1]


# Python has it itself from 3.14 on.
ZSTD = ["backports.zstd>=1.0; python_version < '3.14'"]

YAML = ["PyYAML>=6.0"]
SFTP = ["asyncssh[bcrypt]>=2.22"]  # from there on a server's text that is no UTF-8 does no harm
# The extra `server` of moto has every service of AWS in mind, and takes longer to install than all the rest.
DEMO = ["moto[s3]>=5.0.20", "flask>=2.2.2", "flask-cors>=3.0.10"]
TEST = [
    "awscrt>=0.23.1",  # the scripted server's CRC-32C and CRC-64/NVME, which take seconds in Python
    *YAML,
    *ZSTD,
    *SFTP,
    *DEMO,
    "cryptography>=42",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "prometheus_client>=0.20",
    "pyftpdlib>=2.0",
    "pyte>=0.8.2",
    "selenium>=4.20",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.7",
]
DOCS = ["furo>=2024.8.6", "myst-parser>=4.0", "sphinx>=8.1", "sphinx-copybutton>=0.5.2"]
DEVELOPMENT = [
    *TEST,
    "boto3-stubs[s3]",
    "coverage>=7.10",
    "import-linter>=2.3",
    "mypy>=1.15",
    "pytest-cov>=6.3",
    "ruff>=0.15",
    "types-PyYAML",
]

setup(
    name=stated("DISTRIBUTION"),
    version=stated("__version__"),
    description="Empties a spool directory into object storage without ever losing a byte",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The s3_uploader authors",
    license="Apache-2.0",
    license_files=["LICENSE", "s3_uploader/inspection/report/assets/uPlot.LICENSE"],
    keywords=["s3", "upload", "spool", "backup", "cron", "systemd", "ftp", "sftp", "object storage"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Communications :: File Sharing",
        "Topic :: System :: Archiving :: Backup",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["s3_uploader", "s3_uploader.*"]),
    data_files=[("share/man/man1", ["docs/man/s3-uploader-cli.1"])],
    package_data={"s3_uploader": ["py.typed"], "s3_uploader.inspection.report": ["assets/*"]},
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "boto3>=1.36",
        "click>=8.1",
        "msgspec>=0.19",
        "rich>=13.0",
    ],
    extras_require={
        "yaml": YAML,
        "zstd": ZSTD,
        "inventory": ["pyarrow>=14"],
        "sftp": SFTP,
        "demo": DEMO,
        "test": TEST,
        "docs": DOCS,
        "dev": DEVELOPMENT,
    },
    entry_points={"console_scripts": ["s3-uploader-cli = s3_uploader.cli:command"]},
)
