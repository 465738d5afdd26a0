"""The index that sends PyTorch's packages to PyTorch's index and everything else away."""

from __future__ import annotations

import dataclasses
import http.server
import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path

import pytest

from kernel_provisioner.errors import without_credentials
from kernel_provisioner.index.pages import Redirects, absolute_links, fetch
from kernel_provisioner.index.pytorch import Router, wrong_origin
from tests.support.index import LocalIndex
from tests.support.torch_wheels import build_torchvision
from tests.support.waiting import WITHIN


@pytest.fixture
def upstream(tmp_path: Path, index: LocalIndex) -> str:
    """The cpu tree of an index that has torchvision."""
    index.publish(build_torchvision(tmp_path, "cpu"), tag="cpu")
    return index.template.format(tag="cpu")


def test_a_package_of_pytorchs_is_answered_with_links_to_the_real_files(
    upstream: str, index: LocalIndex
) -> None:
    """Absolute, with the hash and the metadata mark that the index gave them."""
    with Router(upstream) as router:
        status, page = _get(router, "torchvision")
    assert status == 200
    assert f'href="{index.address}/whl/cpu/torchvision-0.21.0%2Bcpu-py3-none-any.whl#sha256=' in page
    assert "data-core-metadata" in page
    assert router.asked == {"torchvision"}


def test_everything_else_is_not_here_and_upstream_never_hears_of_it(upstream: str, index: LocalIndex) -> None:
    """So uv goes on to the normal index; stale copies upstream are never seen."""
    with Router(upstream) as router:
        assert _get(router, "numpy") == (404, "")
        assert _get(router, "") == (404, "")
    assert index.asked == []
    assert router.failures == {}


def test_what_the_base_holds_for_good_has_no_files(upstream: str, index: LocalIndex) -> None:
    """uv asks for the page although the installed version will do, and finds nothing better."""
    with Router(upstream, held={"torch", "ipykernel"}) as router:
        for project in ("torch", "ipykernel"):
            status, page = _get(router, project)
            assert status == 200
            assert "href" not in page
    assert index.asked == []


def test_what_upstream_does_not_have_is_had_nowhere(upstream: str, index: LocalIndex) -> None:
    """A package of PyTorch's that is missing there (404, or 403 as on PyTorch's own) has an empty page,
    so that uv does not take the default index's.
    """  # fmt: skip
    index.misbehave("/whl/cpu/torchaudio/", 403)
    with Router(upstream) as router:
        for project in ("torchtext", "torchaudio"):
            status, page = _get(router, project)
            assert (status, "href" in page) == (200, False)
            assert router.failures[project] == f"{upstream}/ has no {project}"


def test_each_page_is_fetched_once(upstream: str, index: LocalIndex) -> None:
    """uv asks for a page three times in one resolution; failures are remembered as well."""
    index.misbehave("/whl/cpu/torchaudio/", 500)
    with Router(upstream) as router:
        for _ in range(3):
            _get(router, "torchvision")
            _get(router, "torchaudio")
    assert len(index.asked_for("torchvision")) == len(index.asked_for("torchaudio")) == 1


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("hang", "no answer within 1 s"), ("trickle", "no answer within 1 s"), ("cut-short", "cannot be"),
     ("redirect-loop", "answered 302"), (500, "answered 500"), (401, "answered 401")],
)  # fmt: skip
def test_each_kind_of_trouble_upstream_ends_soon_and_is_named(
    upstream: str, index: LocalIndex, trouble: str | int, said: str
) -> None:
    """A status that uv does not try again, and a sentence with the real address."""
    index.misbehave("/whl/cpu/torchvision/", trouble)  # type: ignore[arg-type] # one of Trouble
    with Router(upstream, timeout=1) as router:
        assert _get(router, "torchvision")[0] == 424
    told = router.failures["torchvision"]
    assert told.startswith(f"{upstream}/torchvision/")
    assert said in told


def test_an_upstream_that_is_not_there_is_named() -> None:
    """Nobody listens."""
    with Router("http://127.0.0.1:9/whl/cpu") as router:
        assert _get(router, "torch")[0] == 424
    assert router.failures["torch"].startswith("http://127.0.0.1:9/whl/cpu/torch/ cannot be reached: ")


def test_an_upstream_that_is_no_web_address_is_told() -> None:
    """A path, or a scheme that could read local files, is never opened."""
    for place in ("/srv/wheels/cpu", "file:///srv/wheels/cpu"):
        with Router(place) as router:
            assert _get(router, "torch")[0] == 424
        assert "is not http or https" in router.failures["torch"]


def test_only_who_knows_the_secret_gets_answers(upstream: str) -> None:
    """The address is loopback, but other users of the machine can reach it."""
    with Router(upstream) as router:
        port = router.url.split(":")[2].split("/")[0]
        for path in ("/torchvision/", "/guess/torchvision/", "/simple/torchvision/"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                _open(f"http://127.0.0.1:{port}{path}")
            assert caught.value.code == 404
        with Router(upstream) as other:
            assert other.url.rpartition("/")[2] != router.url.rpartition("/")[2]


def test_messages_name_the_real_index_and_no_credentials() -> None:
    """Whatever uv says of our address is said of the real one."""
    router = Router("http://me:s3cret@mirror.example/whl/cpu")
    said = router.real(f"failed to fetch {router.url}/torch/")
    assert said == "failed to fetch http://mirror.example/whl/cpu/torch/"
    assert without_credentials("a https://u:p@h/x, b http://t@h2/y") == "a https://h/x, b http://h2/y"


def test_credentials_of_the_address_are_sent_and_stay_with_its_files(
    upstream: str, index: LocalIndex
) -> None:
    """A private mirror, whose password has characters that a URL has to quote."""
    index.require("me", "p@ss/word")
    private = upstream.replace("http://", "http://me:p%40ss%2Fword@")
    with Router(private) as router:
        status, page = _get(router, "torchvision")
    assert status == 200
    assert 'href="http://me:p%40ss%2Fword@127.0.0.1' in page
    with Router(upstream) as without:
        assert _get(without, "torchvision")[0] == 424
    assert "401" in without.failures["torchvision"]


def test_a_private_mirrors_403_is_not_taken_for_absence(upstream: str, index: LocalIndex) -> None:
    """It means that these credentials may not look, which is a failure to be told."""
    index.misbehave("/whl/cpu/torchvision/", 403)
    with Router(upstream.replace("http://", "http://me:expired@")) as router:
        assert _get(router, "torchvision")[0] == 424
    assert "403" in router.failures["torchvision"]


def test_credentials_in_netrc_are_used_as_uv_uses_them(
    upstream: str, index: LocalIndex, tmp_path: Path
) -> None:
    """Where the address has none, the file that curl, pip and uv read is asked."""
    index.require("me", "s3cret")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    netrc.chmod(0o600)
    page, _ = fetch(f"{upstream}/torchvision/", environ={"NETRC": str(netrc)})
    assert "torchvision-0.21.0" in page
    netrc.write_text("machine elsewhere login me password s3cret\n")
    with pytest.raises(urllib.error.HTTPError):
        fetch(f"{upstream}/torchvision/", environ={"NETRC": str(netrc)})


def test_a_redirect_is_followed_and_links_are_read_from_where_it_ends(upstream: str) -> None:
    """Mirrors redirect to add a slash or to a content network."""
    with _redirecting({"/old/torchvision/": f"{upstream}/torchvision/"}) as server:
        page, where = fetch(f"{server.address}/old/torchvision/")
        with Router(f"{server.address}/old") as router:
            _, routed = _get(router, "torchvision")
    assert where == f"{upstream}/torchvision/"
    assert "torchvision-0.21.0" in page
    assert f'href="{upstream}/torchvision-' in routed


def test_a_redirect_to_another_host_gets_no_credentials(upstream: str, index: LocalIndex) -> None:
    """On the way to the same host they are kept."""
    index.require("me", "s3cret")
    other = f"{upstream}/torchvision/".replace("127.0.0.1", "localhost")
    steps = {"/whl/torchvision/": "/moved/torchvision/", "/moved/torchvision/": other}
    with _redirecting(steps) as server, pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(server.address.replace("http://", "http://me:s3cret@") + "/whl/torchvision/")
    assert server.authorised == [True, True], "both requests to the mirror itself carried them"
    assert {one.user for one in index.asked} == {""}


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://h/simple/b/", True),
        ("http://h/simple/b/", False),  # whoever listens on the way would read it
        ("https://h:8443/simple/b/", False),
        ("https://elsewhere/simple/b/", False),
    ],
)
def test_a_password_for_https_is_never_sent_in_the_clear(target: str, kept: bool) -> None:
    """A redirect from https to http on the same host gets none, and neither do links to http."""
    request = urllib.request.Request("https://h/simple/a/", headers={"Authorization": "Basic c2VjcmV0"})
    to = Redirects().redirect_request(request, io.BytesIO(), 302, "Found", HTTPMessage(), target)
    assert to is not None
    assert to.has_header("Authorization") == kept
    page = absolute_links(f'<a href="{target}x.whl">', "https://me:s3cret@h/simple/a/")
    assert ("s3cret" in page) == kept


def test_a_page_that_moved_from_http_to_https_keeps_its_credentials() -> None:
    """They were sent in the clear a moment ago, and the way is safer now."""
    page = absolute_links('<a href="https://h/x.whl">', "http://me:s3cret@h/simple/a/")
    assert page == '<a href="https://me:s3cret@h/x.whl">'


@pytest.mark.parametrize(
    ("link", "absolute"),
    [
        ("../../files/a.whl", "https://h/whl/files/a.whl"),
        ("a.whl#sha256=0", "https://h/whl/cpu/torch/a.whl#sha256=0"),
        ("/whl/a%2Bcpu.whl", "https://h/whl/a%2Bcpu.whl"),
        ("https://cdn.example/a.whl", "https://cdn.example/a.whl"),
        ("a.whl?x=1&amp;y=2", "https://h/whl/cpu/torch/a.whl?x=1&amp;y=2"),
    ],
)
def test_links_become_absolute(link: str, absolute: str) -> None:
    """Relative to the page, to the host, or as they are; still quoted as HTML."""
    page = absolute_links(
        f"""<a href="{link}" data-yanked="">x</a> <a href='{link}'>y</a>""", "https://h/whl/cpu/torch/"
    )
    assert page.count(f"{absolute}") == 2
    assert 'data-yanked=""' in page


def test_only_links_to_the_mirrors_own_host_get_its_credentials() -> None:
    """A content network must not learn them."""
    page = absolute_links('<a href="a"></a><a href="https://cdn.example/b"></a>', "https://u:p@h/x/")
    assert page == '<a href="https://u:p@h/x/a"></a><a href="https://cdn.example/b"></a>'


def test_strays_are_told_from_what_lies_where_it_belongs() -> None:
    """By the index that a lock names, or by the label of the tag."""
    home = "https://me:pw@mirror/whl/cu124"
    packages = [
        {"name": "torchvision", "version": "0.21.0+cu124", "index": "https://mirror/whl/cu124"},
        {"name": "triton", "version": "3.2.0", "index": "https://mirror/whl/cu124"},
        {"name": "torchaudio", "version": "2.6.0+cu124", "index": "https://elsewhere/simple"},
        {"name": "xformers", "version": "0.0.29", "index": "file:///srv/wheels"},
        {"name": "numpy", "version": "2.1", "index": "https://index.example/simple"},
        {"name": "torchao", "version": "0.9.0", "index": "https://index.example/simple"},
        {"name": "torchcodec", "version": "0.2", "index": "https://mirror/whl/cu124-evil"},
        {"name": "torchtune", "version": "0.5"},
    ]
    assert [package["name"] for package in wrong_origin(packages, "cu124", home)] == [
        "torchao",
        "torchcodec",
        "torchtune",
    ]


def _get(router: Router, project: str) -> tuple[int, str]:
    try:
        return _open(f"{router.url}/{project}/")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _open(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=WITHIN) as answer:
        return answer.status, answer.read().decode()


@dataclasses.dataclass
class _Redirecting:
    """A server that only redirects: its address, and whether each request brought credentials."""

    address: str
    authorised: list[bool]


@contextmanager
def _redirecting(paths: Mapping[str, str]) -> Iterator[_Redirecting]:
    authorised: list[bool] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorised.append("Authorization" in self.headers)
            self.send_response(302)
            self.send_header("Location", paths[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Nothing on stderr."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield _Redirecting(f"http://127.0.0.1:{server.server_port}", authorised)
        finally:
            server.shutdown()
