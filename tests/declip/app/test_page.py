"""The page as a browser and as a program meet it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from nanoworld.world import render_scene

gradio = pytest.importorskip("gradio", reason="the page needs gradio (extra [demo])")

from d2host.engine.errors import DataError  # noqa: E402
from declip.app import Limits, serve  # noqa: E402
from declip.app.page import background_of, place_of  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
LIMITS = Limits(file_bytes=2**20, pixels=100_000, names=20)


@pytest.fixture(scope="module")
def address():
    page = serve(["nano", "nano:nano-clip"], limits=LIMITS, device="cpu", port=0, block=False)
    yield page.local_url
    page.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    for index in range(2):
        Image.fromarray(render_scene(2, index).image).save(folder / f"scene{index}.png")
    Image.new("RGB", (1000, 500)).save(folder / "oversize.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "fake.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def ask(address):
    """Asks the page as a program does: a file, names and more → the result's HTML."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)

    def ask(path, names, model="nano", compare="nothing", unsure=0, words=""):
        return client.predict(handle_file(path), names, model, compare, unsure, words, api_name="/segment")

    return ask


def test_programs_get_the_legend(ask, files):
    result, other, point = ask(files / "scene0.png", "wood, water, sand, brick", compare="nano:nano-clip")
    assert set(re.findall(r"</i>(\w+)</th>", result)) == {"wood", "water", "sand", "brick"}
    assert "nano:nano-clip" in str(other) and not point


@pytest.mark.parametrize(
    ("name", "names", "sentence"),
    [
        ("fake.png", "grass", "image fake.png cannot be read"),
        ("oversize.png", "grass", "image oversize.png cannot be read (1000x500 pixels, of 1 to 100,000)"),
        ("scene0.png", "", "there are no class names"),
        ("scene0.png", "grass, <b>grass</b>, <b>grass</b>", "&lt;b&gt;grass&lt;/b&gt;"),
        ("scene0.png", "very " * 300, "is longer than the text tower"),
        ("scene0.png", ",".join(f"thing {index}" for index in range(21)), "21 class names, synonyms included, are too"),
    ],
)
def test_programs_are_refused_in_one_sentence(name, names, sentence, ask, files):
    with pytest.raises(Exception, match=re.escape(sentence)):
        ask(files / name, names)


@pytest.mark.parametrize("place", [(None, 50), (50, None), (-1, 50), (50, 101), (float("nan"), 0)])
def test_a_place_outside_the_picture_is_refused(place):
    assert place_of(0, 100) == (0, 1)
    with pytest.raises(DataError, match="give them from 0 to 100"):
        place_of(*place)


def test_an_empty_probability_is_no_background():
    assert background_of(None, " ") is None and background_of(0, "wall") == "wall" and background_of(0.5, None) == 0.5
    with pytest.raises(DataError, match="choose one"):
        background_of(0.5, "wall")


@pytest.mark.slow
def test_the_files_of_examples_go_with_the_process(tmp_path):
    program = "from declip.app import serve; serve(['nano'], device='cpu', port=0, block=False)"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path)}, check=True)
    assert not list(tmp_path.glob("declip-page-*"))


def test_no_file_of_the_server_can_be_read(address):
    import httpx

    for path in ("/etc/passwd", __file__, "README.md"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)
    upload = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [upload, "grass", "nano", "nothing", 0, ""]}
    event = httpx.post(f"{address}gradio_api/call/segment", json=asked).json()["event_id"]
    answer = httpx.get(f"{address}gradio_api/call/segment/{event}", timeout=60).text
    assert "event: error" in answer and "root:" not in answer


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if not BROWSER:
        pytest.skip("the browser test needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET.split())
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page as a new user, who afterwards has asked no other machine for anything."""
    contexts, foreign = [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            foreign.append(request.url)

    def visit():
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", note)
        page.goto(address)
        page.wait_for_selector("#segment")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not foreign


def upload(page, path):
    page.set_input_files("#photo input[type=file]", path)


def legend(page):
    page.wait_for_selector("#result figure[data-drawn=true]")
    return page.locator("#result table.legend th[scope=row]").all_inner_texts()


def test_two_users_segment_at_once_and_read_their_own_legends(visit, files):
    users, names = [visit(), visit()], ["wood, water, sand, brick", "grass, sky, sand, water"]
    for number, (page, text) in enumerate(zip(users, names, strict=True)):
        upload(page, files / f"scene{number}.png")
        page.wait_for_selector("#photo img")
        page.fill("#names textarea", text)
    for page in users:
        page.click("#segment")
    for page, text in zip(users, names, strict=True):
        found = legend(page)
        assert found and set(found) <= set(text.split(", "))
    first = users[0]
    first.locator("#result canvas").hover(position={"x": 40, "y": 40})
    assert first.locator("#result .tip").inner_text() in names[0].split(", ")
    first.locator("#result input[type=range]").fill("20")
    assert first.locator("#result canvas").evaluate("canvas => canvas.style.opacity") == "0.2"
    first.locator("#result canvas").click(position={"x": 40, "y": 40})
    first.wait_for_selector("#point figure img")
    assert first.locator("#point figure").count() == 2


def test_an_example_is_segmented_at_once(visit):
    page = visit()
    page.locator("#examples button").first.click()
    assert len(legend(page)) > 3


@pytest.mark.parametrize(
    ("name", "sentence"), [("notes.txt", "Invalid file type"), ("oversize.png", "1000x500 pixels, of 1 to 100,000")]
)
def test_a_text_file_and_an_oversize_image_are_refused(name, sentence, visit, files):
    page = visit()
    upload(page, files / name)
    page.get_by_text(sentence).first.wait_for()
    assert not page.locator("#result figure").count()
