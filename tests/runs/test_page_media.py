"""Images, sound, drawings, texts, files and output on a page."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from runs.pages import box

import tracelet
from tracelet.records import Video


def texts(tab, selector):
    return tab.evaluate(f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)")


def test_precision_over_recall_has_its_axes_and_all_its_steps(shown, tmp_path):
    """Recall to the right, precision up, both from 0 to 1; the pointer tells the values."""
    from torch.utils.tensorboard import SummaryWriter

    with tracelet.start_logging() as run, SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in (0, 5, 10):
            writer.add_pr_curve("pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.8, 0.3]), step)
    tab = shown(run)
    (axis,) = tab.evaluate(
        "[...document.querySelectorAll('.frame:not([hidden]) .precision')].map(svg => [...svg.querySelectorAll('text')]"
        ".map(t => [t.textContent, Number(t.getAttribute('x')), Number(t.getAttribute('y'))]))"
    )
    places = {(text, x, y) for text, x, y in axis}
    right = max(places, key=lambda place: place[1])
    top = min(places, key=lambda place: place[2])
    assert ("1", "1") == (right[0], top[0])
    assert {"recall", "precision", "0", "0.5"} <= {text for text, _, _ in places}

    tab.put("#pr-curves .reel input", 1)
    assert ["step 5"] == texts(tab, "#pr-curves .frame:not([hidden]) > p")
    left, up, width, height = box(tab, ".frame:not([hidden]) .precision")
    tab.move((left + width * 0.95, up + height * 0.05))
    assert ["threshold", "precision 1", "recall 1"] == [
        text if index else text.split()[0]
        for index, text in enumerate(texts(tab, ".frame:not([hidden]) .tip:not([hidden]) div"))
    ]


def test_a_histogram_tells_its_counts_and_steps(shown):
    """Steps beside, values below, the count under the pointer; nothing leaves its card, whatever the name."""
    name = "encoder.layers.11.self_attention.query_key_value.dense_4h_to_h.weight"
    with tracelet.start_logging() as run:
        for step in (0, 100, 200):
            run.log_histogram(name, np.linspace(0, 10 + step / 100, 600), step, bins=60)
    tab = shown(run, width=700)
    left, top, width, height = box(tab, ".histogram")

    assert {"0", "100", "200", "step", "12"} <= set(texts(tab, ".histogram text"))
    tab.move((left + width * 0.1, top + height * 0.88))
    assert ["step 200", "count 10"] == texts(tab, ".tip:not([hidden]) div")[::2]
    outside = (
        "(() => { const c = document.querySelector('#histograms .card').getBoundingClientRect();"
        " return [...document.querySelectorAll('#histograms .card *')].filter(e => {"
        " const b = e.getBoundingClientRect(); return b.right > c.right + 1 || b.left < c.left - 1; }).length; })()"
    )
    assert 0 == tab.evaluate(outside)
    tab.evaluate("document.querySelector('.histogram').focus()")
    tab.key("ArrowRight")
    assert "step 200" == texts(tab, ".tip:not([hidden]) div")[0]


MARKDOWN = """# Title

Some **bold** text, `code` and a [link](https://example.org/a), [mail](mailto:a@example.org).

| a | b |
|---|---|
| 1 | 2 |

- one
- <b onclick="window.owned = 1">raw</b> <script>window.owned = 1</script>

<img src=x onerror="window.owned = 1">

[bad](javascript:window.owned=1) [worse](data:text/html,<script>) [file](file:///etc/passwd) [here](../x)
![image](https://example.org/leak.png) <javascript:window.owned=1> [quoted](https://example.org/"onclick="x)
"""


def test_texts_are_rendered_and_cannot_do_anything(shown):
    """Markdown as in TensorBoard: raw HTML stays text, only web and mail addresses are links, nothing is loaded."""
    with tracelet.start_logging() as run:
        run.log_text("report", MARKDOWN)
        run.log_text("plain", "two lines\nof *no* interest <b>")
        run.log_text("log", "x = 1\ny = 2")
    tab = shown(run)

    assert ["Title"] == texts(tab, ".markdown h4.h1")
    assert [["bold"], ["1", "2"]] == [texts(tab, "#texts strong"), texts(tab, ".markdown td")]
    assert '<b onclick="window.owned = 1">raw</b> <script>window.owned = 1</script>' in texts(tab, ".markdown li")
    links = tab.evaluate("[...document.querySelectorAll('#texts a')].map(a => [a.getAttribute('href'), a.rel])")
    assert {href.partition(":")[0] for href, _ in links} == {"https", "mailto"}
    assert {"noopener noreferrer"} == {rel for _, rel in links}
    assert 0 == tab.evaluate("document.querySelectorAll('#texts img, #texts script, #texts [onclick]').length")
    assert "undefined" == tab.evaluate("typeof window.owned")
    assert MARKDOWN.strip() in [text.strip() for text in texts(tab, "#texts .source pre")]
    assert "x = 1\ny = 2" in texts(tab, ".frame > pre")
    assert (1, []) == (len(tab.requests()), tab.complaints())


def test_all_steps_of_a_text_are_there(shown):
    with tracelet.start_logging() as run:
        for step in range(30):
            run.log_text("note", f"step number {step}", step)
    tab = shown(run)

    assert 30 == tab.evaluate("document.querySelectorAll('#texts .frame').length")
    assert ["step number 29"] == texts(tab, "#texts .frame:not([hidden]) pre")
    tab.put("#texts .reel input", 7)
    assert ["step number 7"] == texts(tab, "#texts .frame:not([hidden]) pre")


def test_images_are_enlarged(shown):
    """By a click or Enter; arrow keys go through the steps, Escape closes and returns to the image."""
    with tracelet.start_logging() as run:
        for step in range(3):
            run.log_image("sample", np.full((1, 32, 32), 80 * step, np.uint8), step, caption=f"shade {step}")
    tab = shown(run)
    title, opened = "document.querySelector('.viewer span').textContent", "document.querySelector('.viewer').open"
    left, top, width, height = box(tab, ".frame:not([hidden]) img")
    tab.drag((left + width / 2, top + height / 2), (left + width / 2, top + height / 2))

    assert (True, "sample, step 2 (3 of 3)") == (tab.evaluate(opened), tab.evaluate(title))
    assert tab.evaluate("document.querySelector('.viewer img').clientWidth") > 3 * width
    for key, step in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), ("ArrowDown", 1)):
        tab.key(key)
        assert f"sample, step {step} ({step + 1} of 3)" == tab.evaluate(title)
    tab.key("Escape")
    assert not tab.evaluate(opened)
    tab.evaluate("document.querySelector('.frame:not([hidden]) img').focus()")
    tab.key("Enter")
    assert tab.evaluate(opened)
    assert [] == tab.complaints()


def test_sound_and_video_play(shown, tmp_path):
    """In the page, without a request."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=duration=2:size=64x64:rate=5"]
    subprocess.run([*command, "-c:v", "libvpx", str(tmp_path / "clip.webm")], check=True, timeout=60)
    with tracelet.start_logging() as run:
        for step in range(2):
            run.log_audio("tone", np.sin(np.linspace(0, 900, 12_000)), step, sample_rate=8000)
        run._orchestrator.submit(Video("clip", (tmp_path / "clip.webm").read_bytes(), "webm", 64, 64, 3, 0.0))
        run._orchestrator.submit(Video("other", b"no video", "avi", 64, 64, 3, 0.0))
    tab = shown(run)
    loaded = (
        "Promise.all([...document.querySelectorAll('audio, video')].map(clip => new Promise((done, failed) => {"
        " clip.onerror = () => done('failed'); const look = () => done([clip.tagName, Math.round(clip.duration * 10)]);"
        " if (clip.readyState > 0) look(); else { clip.onloadedmetadata = look; clip.load(); } })))"
    )

    assert [["AUDIO", 15], ["AUDIO", 15], ["VIDEO", 20]] == tab.evaluate(loaded)
    assert ["step 1"] == [text.strip() for text in texts(tab, "#audio .frame:not([hidden]) p")]
    assert "1 of 1 videos of 'other'" in tab.evaluate("document.getElementById('not-shown').textContent")
    assert (1, []) == (len(tab.requests()), tab.complaints())


def test_artifacts_can_be_saved(shown, tmp_path):
    """The very bytes, under the name; a large file is named with the place where it is."""
    data = bytes(range(256)) * 100
    with tracelet.start_logging() as run:
        run.log_artifact(data, "models/net.bin")
        run.log_artifact(b"x" * (2 << 20), "large.bin")
        run.log_artifact(b"<script>alert(1)</script>", "page.html")
    tab = shown(run)
    tab.download_to(tmp_path / "saved")
    tab.evaluate("document.querySelector('a.save').click()")
    (path,) = tab.downloads(1)

    assert ("net.bin", data) == (path.name, path.read_bytes())
    assert ["Download", "in the run folder", "Download"] == texts(tab, "#artifacts td:last-child")
    assert "1 larger files of artifacts" in tab.evaluate("document.getElementById('not-shown').textContent")


def test_the_output_of_the_program_is_readable(shown, capsys):
    """Without the colours of a terminal, and with the last state of a progress bar."""
    with tracelet.start_logging(collect=["console"]) as run:
        print("\x1b[1;32mepoch\x1b[0m 1\n", end="")
        for part in range(0, 101, 25):
            print(f"\r{part:3}% <b>", end="")
        print("\nend \x00")
    tab = shown(run)

    assert ["epoch 1\n100% <b>\nend \\x00"] == [text.strip("\n") for text in texts(tab, "#console pre")]
