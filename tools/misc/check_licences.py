#!/usr/bin/env python
"""Check the licences of all that requirements name, and what that needs in turn.

``tools/misc/check_licences.py requirements/runtime.txt ...`` prints a table and ends with status 1
if a package has a licence that is not allowed here, or none.
"""

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

#: Free to use and redistribute with a notice; MPL-2.0 where its files stay unchanged.
ALLOWED = re.compile(
    r'\b(MIT(-CMU)?|(Free)?BSD|0BSD|Apache|Python Software Foundation|PSF|MPL|Mozilla|ISC|Zlib'
    r'|CC0)\b',
    re.I,
)
REFUSED = re.compile(r'\b(A?GPL|LGPL|GNU|SSPL|CC-BY-NC|non-?commercial)\b', re.I)
#: CUDA libraries that torch brings along: NVIDIA's licence, which lets them be redistributed.
EXCEPTIONS = re.compile(r'(nvidia-.+|cuda-toolkit)$')


def licence_of(package: metadata.PackageMetadata) -> str:
    """What a package says of its licence: SPDX expression, classifiers or free text."""
    classifiers = [c for c in package.get_all('Classifier') or [] if c.startswith('License ::')]
    named = [c.rpartition('::')[2].strip() for c in classifiers if 'DFSG' not in c]
    text = [line.strip() for line in (package.get('License') or '').splitlines() if line.strip()]
    return package.get('License-Expression') or ', '.join(named) or (text[0] if text else 'none')


def is_allowed(name: str, licence: str) -> bool:
    if EXCEPTIONS.match(name):
        return True
    # A choice: one of them is enough.
    return any(
        ALLOWED.search(choice) and not REFUSED.search(choice)
        for choice in re.split(r'\bOR\b', licence)
    )


def needed_by(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """Installed packages that requirements lead to, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r'[-_.]+', '-', requirement.name).lower()
        extras = requirement.extras or {''}
        marker = requirement.marker
        if name in found or (marker and not any(marker.evaluate(dict(extra=e)) for e in extras)):
            continue
        found[name] = metadata.distribution(requirement.name)
        for line in found[name].requires or []:
            needed = Requirement(line)
            wanted = needed.marker is None or any(
                needed.marker.evaluate(dict(extra=extra)) for extra in extras
            )
            if wanted:
                needed.marker = None
                waiting.append(needed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description='Check the licences of requirements')
    parser.add_argument('files', nargs='+', type=Path, help='requirements files')
    args = parser.parse_args()
    lines = [line.strip() for file in args.files for line in file.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith(('#', '-'))]
    try:
        packages = needed_by(wanted)
    except metadata.PackageNotFoundError as error:
        sys.exit(f'error: {error.name} is not installed')
    refused = []
    for name, package in sorted(packages.items()):
        licence = licence_of(package.metadata)
        print(f'{name:28} {package.version:14} {licence}')
        if not is_allowed(name, licence):
            refused.append(f'{name} ({licence})')
    if refused:
        sys.exit(f'error: licences to look at: {", ".join(refused)}')


if __name__ == '__main__':
    main()
