"""The registry's facts, as far as they can be held against each other and against files."""

import re
import runpy

import pytest

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.text.encoders import CLIP_ID, MINILM_ID, MINILM_PACKAGE
from refsam3d_nnunet.weights import store
from refsam3d_nnunet.weights.registry import (
    REGISTRY,
    Address,
    Hub,
    Package,
    near_names,
    revision_of,
)

ENTRIES = REGISTRY.values()


@pytest.mark.parametrize("entry", ENTRIES, ids=list(REGISTRY))
def test_an_entry_is_complete(entry):
    assert store.checked_name(f"{entry.name}_copy")  # letters that a file name can have
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.size > 1_000_000
    assert entry.licence
    assert entry.citation
    assert set(re.findall(r"vit_\w", entry.serves)) <= set(PRESETS)
    assert ("text encoder" in entry.serves) == bool(entry.text_encoder)


@pytest.mark.parametrize("field", ["name", "sha256", "size"])
def test_no_two_entries_share(field):
    values = [getattr(entry, field) for entry in ENTRIES]
    assert len(set(values)) == len(values)


def test_downloads_are_encrypted_and_have_names_of_their_own():
    addresses = [entry for entry in ENTRIES if isinstance(entry.source, Address)]
    assert all(entry.source.url.startswith("https://") for entry in addresses)
    assert all(entry.source.url.endswith(f"/{entry.file}") for entry in addresses)
    assert len({entry.file for entry in addresses}) == len(addresses)


def test_every_size_of_sam_is_there():
    assert {"sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam_vit_b"} <= set(REGISTRY)


def test_hub_entries_name_a_commit():
    sources = [entry.source for entry in ENTRIES if isinstance(entry.source, Hub)]
    assert all(re.fullmatch(r"[0-9a-f]{40}", source.revision) for source in sources)
    assert revision_of(CLIP_ID) in {source.revision for source in sources}
    assert revision_of("somebody/else") is None


def test_text_encoders_are_those_that_the_package_knows():
    assert {MINILM_ID, CLIP_ID} <= {entry.text_encoder for entry in ENTRIES}
    assert REGISTRY["minilm"].source.module == MINILM_PACKAGE


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if isinstance(entry.source, Package)], ids=lambda e: e.name
)
def test_files_in_installed_packages_are_the_registered_ones(entry, store_folder):
    version = store.package_version(entry.source)
    if version is None:
        pytest.skip(f"{entry.source.distribution} is not installed")
    assert version == entry.source.version
    assert store.registered(entry).state(hashed=True) == store.WHOLE


def test_packages_can_be_asked_for_as_setup_offers_them(repo):
    setup = runpy.run_path(str(repo / "setup.py"))
    text = (repo / "setup.py").read_text(encoding="utf-8")
    for entry in ENTRIES:
        if isinstance(entry.source, Package):
            extra = re.search(r"\[(.+)\]$", entry.source.requirement)
            known = extra is None and entry.source.requirement in setup["INSTALL_REQUIRES"]
            assert known or f'"{extra[1]}"' in text


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("sam_vitb", "sam_vit_b"),
        ("vit_l", "sam_vit_l"),
        ("sam_vit_h_4b8939.pth", "sam_vit_h"),
        ("mine2", "mine"),
    ],
)
def test_near_names(asked, offered):
    question, _, names = near_names(asked, ["mine"]).partition("? ")
    assert offered in question
    assert all(name in names for name in [*REGISTRY, "mine"])


def test_nothing_near():
    assert near_names("zzzzzzzz").startswith("There are sam_vit_b, ")


def test_the_documentation_lists_every_entry(repo):
    text = (repo / "documentation" / "weights.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert list(rows) == list(REGISTRY)
    for name, row in rows.items():
        entry = REGISTRY[name]
        assert entry.licence in row
        assert f"{entry.size:,}" in row
        assert f"`{entry.sha256[:12]}" in row
        assert entry.serves in row
