"""The test server, driven by the real `huggingface_hub` client over HTTP on loopback."""

import gc
import hashlib
import importlib
import itertools
import json
import struct
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import (
    Account,
    Corrupt,
    Delay,
    Drop,
    Headers,
    HubServer,
    Status,
    Truncate,
    WrongEtag,
    WrongSize,
)
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    close_session,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

httpx = importlib.import_module("httpx2" if version("huggingface_hub") >= "2" else "httpx")

pytestmark = [
    pytest.mark.filterwarnings("error"),
    # The client's own LFS upload passes a file as `data=`, which its HTTP library deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

CARD = b"""---
library_name: ftt-hub
pipeline_tag: text-generation
tags: [ftt-hub, transfer-adapter]
language: [tr, no]
license: apache-2.0
datasets: org/corpus
base_model: org/base
base_model_relation: adapter
---
# A card
"""
LFS_THRESHOLD, MULTIPART_THRESHOLD, PART = 1_000, 10_000, 4_000
BASIC = bytes(range(256)) * 8
MULTIPART = bytes(range(255)) * 50

_numbers = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(
        tmp_path_factory.mktemp("hub"),
        lfs_threshold=LFS_THRESHOLD,
        multipart_threshold=MULTIPART_THRESHOLD,
        part_size=PART,
    ) as server:
        yield server
        close_session()


@pytest.fixture
def server(running: HubServer) -> Iterator[HubServer]:
    running.requests.clear()
    yield running
    running.faults.clear()
    running.settings.ignore_filters = running.settings.bare_listing = False


@pytest.fixture
def api(server: HubServer) -> HfApi:
    return HfApi(endpoint=server.url, token=server.write_token)


@pytest.fixture
def anonymous(server: HubServer) -> HfApi:
    return HfApi(endpoint=server.url, token=False)


@pytest.fixture
def repo(request: pytest.FixtureRequest, server: HubServer) -> str:
    """An empty repo of the test's own."""
    name = request.node.originalname.removeprefix("test_")[:60].strip("_")
    repo_id = f"org/{name}-{next(_numbers)}"
    server.create_repo(repo_id)
    return repo_id


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between the client's retries, which are skipped."""
    waits: list[float] = []
    stub = SimpleNamespace(sleep=waits.append, time=time.time)
    monkeypatch.setattr("huggingface_hub.utils._http.time", stub)
    monkeypatch.setattr("huggingface_hub.file_download.time", stub)
    return waits


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def commit(api: HfApi, repo: str, files: dict[str, bytes], **options: str | bool) -> CommitInfo:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="a commit", **options)  # type: ignore[call-overload,no-any-return]


def raw_commit(server: HubServer, repo: str, key: str, value: Mapping[str, object]) -> int:
    """Send a commit that the client would not send, and return the status."""
    lines = [{"key": "header", "value": {"summary": "raw"}}, {"key": key, "value": value}]
    response = get_session().post(
        f"{server.url}/api/models/{repo}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"authorization": f"Bearer {server.write_token}"},
    )
    return response.status_code


def upload_address(server: HubServer, repo: str, oid: str, size: int) -> str:
    """Announce an LFS object and return the address that the server wants it at."""
    batch = get_session().post(
        f"{server.url}/{repo}.git/info/lfs/objects/batch",
        json={"objects": [{"oid": oid, "size": size}], "ref": {"name": "main"}},
        headers={"authorization": f"Bearer {server.write_token}"},
    )
    return str(batch.json()["objects"][0]["actions"]["upload"]["href"])


def download(api: HfApi, repo: str, path: str, cache: Path, revision: str | None = None) -> bytes:
    return Path(api.hf_hub_download(repo, path, revision=revision, cache_dir=cache)).read_bytes()


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


# The whole round


def test_one_commit_carries_regular_basic_and_multipart_files(
    server: HubServer, api: HfApi, tmp_path: Path
) -> None:
    files = {
        "README.md": CARD,
        "config.json": b"{}",
        "sub/basic.safetensors": BASIC,
        "multi.safetensors": MULTIPART,
        "empty.safetensors": b"",
    }
    url = api.create_repo("org/round")
    made = commit(api, "org/round", files)
    api.create_tag("org/round", tag="v1.0.0", tag_message="first")
    commit(api, "org/round", {"config.json": b'{"later": 1}'})

    assert (url.repo_id, made.repo_url.repo_id) == ("org/round", "org/round")
    assert len(server.requests.where("PUT", r"/lfs-uploads/\w+$")) == 1
    assert len(server.requests.where("PUT", r"/lfs-uploads/\w+/\d$")) == 4
    assert len(server.requests.where("POST", "/verify$")) == 2
    assert {*api.list_repo_files("org/round", revision="v1.0.0")} == {".gitattributes", *files}
    for path, data in files.items():
        assert download(api, "org/round", path, tmp_path / "cache", "v1.0.0") == data
    info = api.model_info("org/round", revision="v1.0.0", files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    assert info.sha == made.oid
    assert sizes.items() >= {path: len(data) for path, data in files.items()}.items()


def test_snapshot_equals_what_was_pushed_and_is_then_cached(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    files = {"README.md": CARD, "a/b/basic.bin": BASIC, "multi.bin": MULTIPART}
    sha = commit(api, repo, files).oid

    def snapshot(revision: str) -> Path:
        return Path(
            snapshot_download(repo, revision=revision, endpoint=server.url, cache_dir=tmp_path)
        )

    folder = snapshot("main")
    assert {path: (folder / path).read_bytes() for path in files} == files
    server.requests.clear()
    assert snapshot(sha) == folder
    assert not server.requests.where(path_regex="/resolve/")
    assert server.requests.bytes_sent < 2_000


def test_stored_content_is_not_uploaded_again(server: HubServer, api: HfApi, repo: str) -> None:
    commit(api, repo, {"one.bin": BASIC + b"again"})
    server.requests.clear()
    commit(api, repo, {"two.bin": BASIC + b"again"})
    assert not server.requests.where("PUT")
    assert server.read(repo, "two.bin") == BASIC + b"again"


def test_unchanged_files_make_no_commit(server: HubServer, api: HfApi, repo: str) -> None:
    files = {"README.md": CARD, "x.bin": BASIC}
    first, second = commit(api, repo, files), commit(api, repo, files)
    assert first.oid == second.oid == server.head(repo)


def test_upload_and_download_hold_no_file_in_memory(server: HubServer, repo: str) -> None:
    size = 24 * 2**20
    server.settings.multipart_threshold = 2 * size
    tracemalloc.start()
    try:
        _put_zeros(server, repo, size)
        url = hf_hub_url(repo, "big.bin", endpoint=server.url)
        with get_session().stream("GET", url) as response:
            received = sum(len(piece) for piece in response.iter_raw(2**16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        server.settings.multipart_threshold = MULTIPART_THRESHOLD
    assert received == size
    assert peak < 6 * 2**20


def _put_zeros(server: HubServer, repo: str, size: int) -> None:
    """Upload zeros as `big.bin`, in one piece and with a chunked request body."""
    blocks = [bytes(2**18)] * (size // 2**18)
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    oid = digest.hexdigest()
    href = upload_address(server, repo, oid, size)
    assert get_session().put(href, content=iter(blocks)).status_code == 200
    assert raw_commit(server, repo, "lfsFile", {"path": "big.bin", "oid": oid}) == 200


# Commits and refs


def test_stale_parent_is_refused_with_412(api: HfApi, repo: str) -> None:
    parent = api.model_info(repo).sha or ""
    commit(api, repo, {"a.txt": b"a"}, parent_commit=parent)
    with pytest.raises(HfHubHTTPError) as error:
        commit(api, repo, {"b.txt": b"b"}, parent_commit=parent)
    assert status_of(error) == 412


def test_of_two_commits_on_one_parent_one_wins(api: HfApi, repo: str) -> None:
    parent = api.model_info(repo).sha or ""

    def attempt(number: int) -> int:
        try:
            commit(api, repo, {f"{number}.txt": b"x"}, parent_commit=parent)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [200, 412, 412, 412]


def test_duplicates_are_refused_with_409_unless_allowed(api: HfApi, repo: str) -> None:
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="dev")
    for again in (
        lambda: api.create_repo(repo),
        lambda: api.create_tag(repo, tag="v1"),
        lambda: api.create_branch(repo, branch="dev"),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            again()
        assert status_of(error) == 409
    assert api.create_repo(repo, exist_ok=True).repo_id == repo
    api.create_tag(repo, tag="v1", exist_ok=True)
    api.create_branch(repo, branch="dev", exist_ok=True)


def test_tags_stay_where_they_were_put_until_deleted(api: HfApi, repo: str) -> None:
    first = commit(api, repo, {"a.txt": b"1"}).oid
    api.create_tag(repo, tag="v1", revision=first)
    commit(api, repo, {"a.txt": b"2"})
    refs = api.list_repo_refs(repo)
    assert [(tag.name, tag.ref, tag.target_commit) for tag in refs.tags] == [
        ("v1", "refs/tags/v1", first)
    ]
    api.delete_tag(repo, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="v1")
    assert api.model_info(repo, revision=first).sha == first


def test_pull_request_leaves_main_alone(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    before = server.head(repo)
    stranger = HfApi(endpoint=server.url, token=server.stranger_token)
    made = commit(stranger, repo, {"a.txt": b"a", "x.bin": BASIC + b"pr"}, create_pr=True)
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert [pull.ref for pull in refs.pull_requests or ()] == ["refs/pr/1"]
    assert server.head(repo) == before
    assert download(api, repo, "a.txt", tmp_path, "refs/pr/1") == b"a"


@pytest.mark.parametrize("revision", ["feature/x y", "refs/heads/feature/x y", "ünï"])
def test_revisions_with_slashes_and_spaces_work_everywhere(
    api: HfApi, repo: str, revision: str, tmp_path: Path
) -> None:
    branch = revision.removeprefix("refs/heads/")
    api.create_branch(repo, branch=branch, exist_ok=True)
    commit(api, repo, {"dir/ä b.txt": revision.encode()}, revision=branch)
    assert download(api, repo, "dir/ä b.txt", tmp_path, revision) == revision.encode()
    assert "dir/ä b.txt" in api.list_repo_files(repo, revision=revision)
    assert api.get_paths_info(repo, "dir/ä b.txt", revision=revision)[0].path == "dir/ä b.txt"
    assert api.model_info(repo, revision=revision).sha != api.model_info(repo).sha


def test_deletions_take_effect_and_missing_paths_are_refused(api: HfApi, repo: str) -> None:
    commit(api, repo, {"a.txt": b"a", "d/b.txt": b"b", "d/c.txt": b"c"})
    deletions = [CommitOperationDelete("a.txt"), CommitOperationDelete("d/")]
    api.create_commit(repo, deletions, commit_message="delete")
    assert api.list_repo_files(repo) == [".gitattributes"]
    with pytest.raises(EntryNotFoundError):
        api.delete_file("a.txt", repo)


def test_history_is_complete_and_newest_first(server: HubServer, api: HfApi, repo: str) -> None:
    shas = [server.commit(repo, {"n": str(n).encode()}, message=f"c{n}") for n in range(70)]
    commits = api.list_repo_commits(repo)
    assert [c.commit_id for c in commits[:-1]] == shas[::-1]
    assert [commits[0].title, commits[-1].title] == ["c69", "initial commit"]
    assert commits[0].created_at > commits[1].created_at
    assert len(server.requests.where("GET", "/commits/")) == 2


def test_tree_tells_folders_files_and_last_commits(
    server: HubServer, api: HfApi, repo: str
) -> None:
    first = server.commit(repo, {"d/e/a.txt": b"a", "x.bin": BASIC})
    server.commit(repo, {"d/b.txt": b"b"})
    top = {item.path: item for item in api.list_repo_tree(repo, expand=True)}
    assert sorted(top) == [".gitattributes", "d", "x.bin"]
    file = top["x.bin"]
    assert isinstance(file, RepoFile)
    assert file.lfs is not None
    assert file.last_commit is not None
    assert (file.size, file.lfs.size, file.last_commit.oid) == (len(BASIC), len(BASIC), first)
    assert [item.path for item in api.list_repo_tree(repo, "d")] == ["d/b.txt", "d/e"]
    assert len([*api.list_repo_tree(repo, recursive=True)]) == 6
    infos = api.get_paths_info(repo, ["d", "nowhere", "d/b.txt"])
    assert [info.path for info in infos] == ["d", "d/b.txt"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nowhere"))


# Downloads


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, 2048),
        ("bytes=-10", 206, 2038, 2048),
        ("bytes=-99999", 206, 0, 2048),
        ("bytes=2000-99999", 206, 2000, 2048),
        ("bytes=2048-", 416, 0, 0),
        ("bytes=5-4", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, 2048),
        ("lines=1-2", 200, 0, 2048),
    ],
)
def test_ranges_follow_the_standard(
    server: HubServer, repo: str, asked: str, status: int, start: int, stop: int
) -> None:
    server.commit(repo, {"x.bin": BASIC})
    url = hf_hub_url(repo, "x.bin", endpoint=server.url)
    server.requests.clear()
    response = get_session().get(url, headers={"range": asked})
    assert (response.status_code, response.content) == (status, BASIC[start:stop])
    whole = {206: f"bytes {start}-{stop - 1}/2048", 416: "bytes */2048", 200: None}
    assert response.headers.get("content-range") == whole[status]
    [entry] = server.requests
    assert (entry.range, entry.status, entry.sent) == (asked, status, stop - start)


def test_head_tells_size_etag_and_commit(server: HubServer, repo: str) -> None:
    sha = server.commit(repo, {"a.txt": b"hello\n", "x.bin": BASIC})
    regular = get_hf_file_metadata(hf_hub_url(repo, "a.txt", endpoint=server.url))
    lfs = get_hf_file_metadata(hf_hub_url(repo, "x.bin", endpoint=server.url))
    assert (regular.commit_hash, regular.size) == (sha, 6)
    assert regular.etag == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert (lfs.commit_hash, lfs.size, len(lfs.etag or "")) == (sha, len(BASIC), 64)
    assert server.requests.bytes_sent == 0
    headers = get_session().head(hf_hub_url(repo, "x.bin", endpoint=server.url)).headers
    assert headers["x-linked-etag"] == headers["etag"] == f'"{lfs.etag}"'
    assert headers["x-linked-size"] == headers["content-length"] == str(len(BASIC))


def test_safetensors_header_is_read_without_the_tensors(
    server: HubServer, api: HfApi, repo: str
) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [500_000], "data_offsets": [0, 500_000]}})
    data = struct.pack("<Q", len(header)) + header.encode() + bytes(500_000)
    server.commit(repo, {"model.safetensors": data})
    metadata = api.parse_safetensors_file_metadata(repo, "model.safetensors")
    assert metadata.tensors["w"].shape == [500_000]
    assert server.requests.bytes_sent == 100_001


def test_missing_things_are_told_apart(api: HfApi, repo: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/nowhere")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="nowhere")
    with pytest.raises(EntryNotFoundError):
        download(api, repo, "nowhere.txt", tmp_path)


# Access


def test_tokens_are_told_apart(server: HubServer, api: HfApi) -> None:
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"
    assert api.whoami(server.read_token)["auth"]["accessToken"]["role"] == "read"
    for token in (server.expired_token, "hf_unknown"):
        with pytest.raises(HfHubHTTPError) as error:
            api.whoami(token)
        assert status_of(error) == 401


def test_read_token_reads_private_repos_and_writes_nothing(
    server: HubServer, repo: str, tmp_path: Path
) -> None:
    reader = HfApi(endpoint=server.url, token=server.read_token)
    reader_repo = "org/private-reader"
    server.create_repo(reader_repo, private=True)
    server.commit(reader_repo, {"a.txt": b"a"})
    assert download(reader, reader_repo, "a.txt", tmp_path) == b"a"
    for write in (
        lambda: reader.create_repo("org/another"),
        lambda: reader.create_tag(repo, tag="v1"),
        lambda: commit(reader, repo, {"a.txt": b"a"}),
        lambda: reader.delete_repo(repo),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            write()
        assert status_of(error) == 403
    assert server.head(repo)


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_stranger", 404)])
def test_private_repo_does_not_exist_for_others(
    server: HubServer, api: HfApi, token: str | bool, status: int
) -> None:
    if not api.repo_exists("org/private"):
        api.create_repo("org/private", private=True)
    with pytest.raises(RepositoryNotFoundError) as error:
        api.model_info("org/private", token=token)
    assert status_of(error) == status
    assert "org/private" not in {model.id for model in api.list_models(token=token)}
    assert "org/private" in {model.id for model in api.list_models()}


def test_gated_repo_is_seen_by_all_and_downloaded_by_the_admitted(
    server: HubServer, api: HfApi, tmp_path: Path
) -> None:
    server.create_repo("org/gated", gated=True)
    server.commit("org/gated", {"a.txt": b"a"})
    assert api.model_info("org/gated", token=False).gated == "auto"
    for token, status in ((False, 401), (server.stranger_token, 403)):
        with pytest.raises(GatedRepoError) as error:
            hf_hub_download(
                "org/gated", "a.txt", token=token, endpoint=server.url, cache_dir=tmp_path
            )
        assert status_of(error) == status
    server.admit("org/gated", "stranger")
    stranger = HfApi(endpoint=server.url, token=server.stranger_token)
    assert download(stranger, "org/gated", "a.txt", tmp_path) == b"a"


def test_account_writes_in_its_own_namespaces_only(server: HubServer) -> None:
    server.add_token("hf_ann", Account("ann", "write", frozenset({"annorg"})))
    ann = HfApi(endpoint=server.url, token="hf_ann")
    assert ann.create_repo("mine").repo_id == "ann/mine"
    assert ann.create_repo("annorg/ours").repo_id == "annorg/ours"
    with pytest.raises(HfHubHTTPError) as error:
        ann.create_repo("org/theirs")
    assert status_of(error) == 403


def test_settings_change_visibility_and_gate(api: HfApi, anonymous: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, gated="manual")
    assert anonymous.model_info(repo).gated == "manual"
    api.update_repo_settings(repo, private=True)
    assert not anonymous.repo_exists(repo)


def test_renamed_repo_is_found_by_both_names_and_deleted_by_none(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    server.commit(repo, {"a.txt": b"a"})
    api.move_repo(repo, "org/new-name")
    assert api.model_info(repo).id == "org/new-name"
    assert download(api, repo, "a.txt", tmp_path) == b"a"
    commit(api, repo, {"b.txt": b"b"})
    assert server.read("org/new-name", "b.txt") == b"b"
    api.delete_repo("org/new-name")
    assert not api.repo_exists("org/new-name")


# Cards and search


def test_tags_come_from_the_card(server: HubServer, api: HfApi, repo: str) -> None:
    server.commit(repo, {"README.md": CARD, "adapter_model.safetensors": b"x"})
    info = api.model_info(repo)
    assert info.tags == [
        "ftt-hub",
        "safetensors",
        "text-generation",
        "transfer-adapter",
        "dataset:org/corpus",
        "tr",
        "no",
        "base_model:org/base",
        "base_model:adapter:org/base",
        "license:apache-2.0",
        "region:us",
    ]
    assert info.library_name == "ftt-hub"
    assert info.card_data is not None
    assert info.card_data.base_model == "org/base"


@pytest.mark.parametrize(
    ("files", "relation"),
    [
        ({"adapter_config.json": b"{}"}, "adapter"),
        ({"config.json": b"{}"}, "finetune"),
    ],
)
def test_base_model_relation_is_guessed_from_files(
    server: HubServer, api: HfApi, files: dict[str, bytes], relation: str
) -> None:
    server.commit(f"org/{relation}", {"README.md": b"---\nbase_model: org/b\n---\n", **files})
    assert f"base_model:{relation}:org/b" in (api.model_info(f"org/{relation}").tags or ())


@pytest.mark.parametrize("block", ["language: TR", "tags: {a: 1}", "base_model: /a/b", "a: [b"])
def test_invalid_card_is_refused_before_any_upload(
    server: HubServer, api: HfApi, repo: str, block: str
) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, repo, {"README.md": f"---\n{block}\n---\n".encode(), "x.bin": BASIC})
    assert not server.requests.where(path_regex="preupload|lfs|commit")


def test_card_without_metadata_is_warned_of(api: HfApi, repo: str) -> None:
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        commit(api, repo, {"README.md": b"# bare"})


@pytest.fixture
def shelf(server: HubServer) -> HubServer:
    """Three models of one author, made in the order of their names."""
    if HfApi(endpoint=server.url, token=False).repo_exists("shelf/a"):
        return server
    server.commit("shelf/a", {"README.md": b"---\ntags: [x]\nlanguage: tr\n---\n"})
    server.commit("shelf/b", {"README.md": b"---\ntags: [x]\nlanguage: de\n---\n"})
    server.commit("shelf/cat", {"README.md": b"---\ntags: [y]\nlanguage: tr\n---\n"})
    for name, likes, downloads in (("a", 5, 1), ("b", 9, 3), ("cat", 1, 2)):
        server.set_likes(f"shelf/{name}", likes)
        server.set_downloads(f"shelf/{name}", downloads)
    return server


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"filter": ["x", "tr"]}, ["a"]),
        ({"filter": "x"}, ["b", "a"]),
        ({"search": "CAT"}, ["cat"]),
        ({"filter": "nothing"}, []),
        ({"sort": "likes"}, ["b", "a", "cat"]),
        ({"sort": "downloads"}, ["b", "cat", "a"]),
        ({"sort": "created_at"}, ["cat", "b", "a"]),
        ({"sort": "downloads", "limit": 2}, ["b", "cat"]),
    ],
)
def test_listing_filters_and_sorts(
    shelf: HubServer, api: HfApi, query: dict[str, str], found: list[str]
) -> None:
    models = list(api.list_models(author="shelf", **query))  # type: ignore[arg-type]
    assert [model.id for model in models] == [f"shelf/{name}" for name in found]


def test_listing_can_ascend(shelf: HubServer) -> None:
    query = {"author": "shelf", "sort": "likes", "direction": "1"}
    models = get_session().get(f"{shelf.url}/api/models", params=query).json()
    assert [model["likes"] for model in models] == [1, 5, 9]


def test_listing_shows_what_is_asked_for(shelf: HubServer, api: HfApi) -> None:
    def first(**options: object) -> dict[str, object]:
        [model] = api.list_models(search="shelf/a", **options)  # type: ignore[arg-type]
        return {key: value for key, value in vars(model).items() if value is not None}

    assert {"tags", "likes", "downloads"} <= first().keys()
    assert not {"sha", "siblings", "card_data"} & first().keys()
    assert {"sha", "siblings", "last_modified"} <= first(full=True).keys()
    assert "card_data" in first(cardData=True)
    expanded = first(expand=["cardData", "downloads"])
    assert {"card_data", "downloads"} <= expanded.keys()
    assert not {"tags", "likes", "sha"} & expanded.keys()


def test_poor_clone_ignores_filters_and_tells_no_tags(shelf: HubServer, api: HfApi) -> None:
    shelf.settings.ignore_filters = shelf.settings.bare_listing = True
    models = list(api.list_models(author="shelf", filter="x", cardData=True))
    assert len(models) == 3
    assert all(model.tags == [] and model.card_data is None for model in models)
    assert api.model_info("shelf/a").tags == []


def test_thousands_of_repos_are_seeded_fast_and_listed_page_by_page(tmp_path: Path) -> None:
    card = "---\ntags: [ftt-hub]\nlanguage: {}\n---\n"
    repos = {
        f"org/m{n}": {
            "README.md": card.format("tr" if n % 2 else "de").encode(),
            "adapter_config.json": b'{"n": %d}' % n,
        }
        for n in range(5_000)
    }
    with HubServer(tmp_path) as server:
        began = time.thread_time()  # not the clock on the wall: the machine may be busy
        server.bulk_seed(repos)
        assert time.thread_time() - began < 1
        api = HfApi(endpoint=server.url, token=False)
        assert {model.id for model in api.list_models()} == repos.keys()
        assert len(server.requests) == 5
        assert len([*api.list_models(filter=["ftt-hub", "tr"])]) == 2_500
        assert len([*api.list_models(limit=1_500)]) == 1_500
        assert len(server.requests) == 5 + 3 + 2


# Faults


def test_server_error_is_retried_by_the_client(
    server: HubServer, api: HfApi, repo: str, naps: list[float]
) -> None:
    fault = server.faults.add(method="POST", path_regex="/preupload/", times=2, action=Status(500))
    commit(api, repo, {"a.txt": b"a"})
    assert (fault.hits, naps) == (2, [1, 2])
    assert server.read(repo, "a.txt") == b"a"


def test_retry_after_is_respected(
    server: HubServer, api: HfApi, repo: str, naps: list[float]
) -> None:
    server.faults.add(path_regex="/preupload/", action=Status(429, retry_after=7))
    commit(api, repo, {"a.txt": b"a"})
    assert naps == [8]
    assert [e.status for e in server.requests.where("POST", "/preupload/")] == [429, 200]


def test_delay_outlasts_the_clients_patience(server: HubServer, api: HfApi, repo: str) -> None:
    server.faults.add(path_regex=f"/api/models/{repo}", action=Delay(0.4))
    with pytest.raises(httpx.ReadTimeout):
        api.model_info(repo, timeout=0.05)
    assert api.model_info(repo, timeout=1).id == repo


def test_dropped_response_breaks_the_download(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    server.commit(repo, {"x.bin": MULTIPART})
    server.faults.add(method="GET", path_regex="/resolve/", action=Drop(after=1000))
    with pytest.raises(httpx.ReadError):
        download(api, repo, "x.bin", tmp_path)
    [entry] = server.requests.where("GET", "/resolve/")
    assert (entry.status, entry.sent) == (200, 1000)
    assert download(api, repo, "x.bin", tmp_path) == MULTIPART


def test_dropped_upload_is_retried_and_arrives_whole(
    server: HubServer, api: HfApi, repo: str, naps: list[float]
) -> None:
    fault = server.faults.add(method="PUT", action=Drop(side="request"), times=2)
    commit(api, repo, {"multi.bin": MULTIPART + b"dropped"})
    assert fault.hits == len(naps) == 2
    assert server.read(repo, "multi.bin") == MULTIPART + b"dropped"


def test_truncated_download_is_resumed_by_a_range(
    server: HubServer,
    api: HfApi,
    repo: str,
    tmp_path: Path,
    naps: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    server.commit(repo, {"x.bin": MULTIPART})
    server.faults.add(method="GET", path_regex="/resolve/", action=Truncate(after=5000))
    assert download(api, repo, "x.bin", tmp_path) == MULTIPART
    gets = server.requests.where("GET", "/resolve/")
    assert [entry.range for entry in gets] == [None, "bytes=5000-"]
    assert [entry.sent for entry in gets] == [5000, len(MULTIPART) - 5000]
    assert naps == [1]


def test_wrong_etag_and_size_reach_the_client(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    server.commit(repo, {"x.bin": BASIC, "a.txt": b"a"})
    url = hf_hub_url(repo, "x.bin", endpoint=server.url)
    server.faults.add(method="HEAD", action=WrongEtag('"deadbeef"'))
    assert get_hf_file_metadata(url).etag == "deadbeef"
    server.faults.add(method="HEAD", action=Headers({"X-Repo-Commit": "0" * 40}))
    assert get_hf_file_metadata(url).commit_hash == "0" * 40
    for path in ("x.bin", "a.txt"):
        server.faults.add(method="HEAD", action=WrongSize(12))
        with pytest.raises(OSError, match="should be of size 12"):
            download(api, repo, path, tmp_path)


def test_corrupt_download_differs_in_one_byte(
    server: HubServer, api: HfApi, repo: str, tmp_path: Path
) -> None:
    server.commit(repo, {"x.bin": BASIC})
    server.faults.add(method="GET", path_regex="/resolve/", action=Corrupt(at=100))
    got = download(api, repo, "x.bin", tmp_path)
    assert [i for i in range(len(BASIC)) if got[i] != BASIC[i]] == [100]


@pytest.mark.parametrize("data", [BASIC + b"corrupt", MULTIPART + b"corrupt"])
def test_corrupt_upload_is_refused_by_its_hash(
    server: HubServer, api: HfApi, repo: str, data: bytes
) -> None:
    server.faults.add(method="PUT", action=Corrupt(at=9, side="request"))
    with pytest.raises((RuntimeError, BadRequestError)):
        commit(api, repo, {"x.bin": data})
    assert "x.bin" not in api.list_repo_files(repo)


def test_multipart_upload_with_a_part_missing_is_refused(server: HubServer, repo: str) -> None:
    oid = "1" * 64
    href = upload_address(server, repo, oid, MULTIPART_THRESHOLD + 1)
    etag = get_session().put(f"{href}/1", content=bytes(PART)).headers["etag"]
    first = {"partNumber": 1, "etag": etag}
    for parts, reason in (
        ([first], "were announced"),
        ([first, {"partNumber": 2, "etag": etag}], "Part 2 is missing"),
        ([{"partNumber": 1, "etag": '"another"'}], "Part 1 is missing or differs"),
    ):
        response = get_session().post(href, json={"oid": oid, "parts": parts})
        assert response.status_code == 400
        assert reason in response.headers["x-error-message"]
    assert raw_commit(server, repo, "lfsFile", {"path": "x.bin", "oid": oid}) == 400


def test_commit_of_an_object_never_uploaded_is_refused(server: HubServer, repo: str) -> None:
    value = {"path": "x.bin", "algo": "sha256", "oid": "0" * 64, "size": 1}
    assert raw_commit(server, repo, "lfsFile", value) == 400


@pytest.mark.parametrize("path", ["../x", "a/../x", "/etc/x", ".git/config", "", "a//b"])
def test_climbing_paths_are_refused(server: HubServer, repo: str, path: str) -> None:
    value = {"path": path, "content": "", "encoding": "base64"}
    assert raw_commit(server, repo, "file", value) == 400


# Start and stop


def test_outage_refuses_connections_and_keeps_the_state(tmp_path: Path) -> None:
    with HubServer(tmp_path) as server:
        sha = server.commit("org/a", {"a.txt": b"a"})
        api, url = HfApi(endpoint=server.url, token=False), server.url
        assert api.model_info("org/a").sha == sha
        server.stop()
        with pytest.raises(httpx.ConnectError):
            api.model_info("org/a")
        with pytest.raises(LocalEntryNotFoundError):
            snapshot_download("org/a", endpoint=url, cache_dir=tmp_path / "cache")
        server.start()
        assert (server.url, api.model_info("org/a").sha) == (url, sha)


def test_stop_cuts_requests_in_flight_and_leaves_no_thread(tmp_path: Path) -> None:
    with HubServer(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        server.create_repo("org/a")
        server.faults.add(action=Delay(60))
        api = HfApi(endpoint=server.url, token=False)
        pending = pool.submit(api.model_info, "org/a")
        while not server.requests:
            time.sleep(0.01)
        assert f"hub-server {server.url}" in {thread.name for thread in threading.enumerate()}
        began = time.perf_counter()
        server.stop()
        with pytest.raises(httpx.TransportError):
            pending.result()
        assert time.perf_counter() - began < 1
    assert f"hub-server {server.url}" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_left_to_warn_about(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with HubServer(tmp_path) as server:
                server.commit("org/a", {"a.txt": b"a"})
                HfApi(endpoint=server.url, token=False).model_info("org/a")
        close_session()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
