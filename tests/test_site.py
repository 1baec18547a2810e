"""The built site in a real browser: offline, complete, readable by all, its sliders showing what they should.

Needs the site (`make book`) and Chromium. Every request to another host fails, as it would without a network.
"""

import pytest
import web
import website
from widget_state import WidgetState

address, browser = web.address, web.browser  # fixtures

PAGE_LIMIT = 4e6  # bytes of HTML
LOAD_LIMIT = 1.5e6  # bytes that a page loads before the reader asks for more


@pytest.fixture(scope="module", params=website.pages())
def visit(request, browser, address):
    page = browser.new_page()
    seen = web.watch(request.param, page, address)
    page.goto(f"{address}/{request.param}.html", wait_until="networkidle")
    web.settle(page)
    yield seen
    page.close()


def test_every_page_of_the_contents_was_built():
    website.check_pages()


def test_page_is_light(visit):
    assert (website.SITE / f"{visit.name}.html").stat().st_size < PAGE_LIMIT


def test_first_load_is_light(visit):
    sizes = web.loaded_bytes(visit.asked)
    largest = sorted(((size, file) for file, size in sizes.items()), reverse=True)[:8]
    print(f"{visit.name}: {sum(sizes.values()) / 1e6:.2f} MB")
    assert sum(sizes.values()) < LOAD_LIMIT, f"{sum(sizes.values())} bytes, most of them {largest}"


def test_text_waits_for_no_heavy_script(visit):
    """On a slow line a script of 0.6 MB would keep the whole page white for seconds."""
    waited_for = visit.page.evaluate(
        """() => [...document.querySelectorAll('script[src]')]
            .filter(script => !script.async && !script.defer && script.type !== 'module').map(script => script.src)"""
    )
    assert not [file for file, size in web.loaded_bytes(waited_for).items() if size > 100e3]


def test_every_image_says_what_it_shows(visit):
    images = visit.page.evaluate(
        "() => [...document.images].map(i => [i.getAttribute('alt') ?? '', i.src.slice(0, 80)])"
    )
    # Sphinx puts the file's name where an author gave no text.
    file = (".png", ".svg", ".jpeg")
    assert not [source for text, source in images if not text.strip() or text.endswith(file)]


def test_every_formula_is_set(visit):
    raw = "() => [...document.querySelectorAll('.math')].filter(math => !math.querySelector('mjx-container')).length"
    assert visit.page.evaluate(raw) == 0


def test_what_is_pointed_at_is_there_once(visit):
    """A link, a label or a name that a screen reader follows leads to one place, not to the first of two."""
    wrong = visit.page.evaluate(
        """() => {
            const named = [...document.querySelectorAll('.bd-main a[href^="#"]')].map(a => a.hash.slice(1));
            named.push(...[...document.querySelectorAll('label[for]')].map(label => label.htmlFor));
            for (const kind of ['aria-labelledby', 'aria-describedby', 'aria-controls'])
                for (const found of document.querySelectorAll(`.bd-main :not(svg)[${kind}]`))
                    named.push(...found.getAttribute(kind).split(' '));
            const count = name => document.querySelectorAll(`[id="${CSS.escape(name)}"]`).length;
            return [...new Set(named)].filter(name => name && count(decodeURIComponent(name)) !== 1);
        }"""
    )
    assert not wrong


@pytest.mark.parametrize("mode, size", [("light", "desktop"), ("dark", "desktop"), ("light", "phone")])
def test_no_serious_accessibility_violation(visit, mode, size):
    page = visit.page
    web.in_mode(page, mode)
    web.in_size(page, web.PHONE if size == "phone" else web.DESKTOP)
    # in dark mode only colours are others
    found = web.violations(page, *(["color-contrast"] if mode == "dark" else []))
    page.set_viewport_size(web.DESKTOP)
    assert not found, found


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_fits_the_screen(visit, mode, size):
    """No scrolling sideways."""
    page = visit.page
    web.in_mode(page, mode)
    web.in_size(page, web.PHONE if size == "phone" else web.DESKTOP)
    web.picture(page, f"{visit.name.replace('/', '-')}-{mode}-{size}")
    width, visible = page.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    sizes = page.evaluate(
        """() => ['h1', 'h2', 'h3', 'h4'].map(tag => document.querySelector(`.bd-article ${tag}`)).filter(Boolean)
                 .map(heading => parseFloat(getComputedStyle(heading).fontSize))"""
    )
    page.set_viewport_size(web.DESKTOP)
    assert width <= visible
    assert sizes == sorted(sizes, reverse=True), "a heading is larger than the one above it"


def test_wide_tables_keep_their_names_in_sight(visit):
    """On a phone: an edge with more behind it has a shadow, a table's first column stays, a keyboard can scroll."""
    page = visit.page
    web.in_size(page, web.PHONE)
    wrong = page.evaluate(
        """async () => {
            const wrong = [], frames = [...document.querySelectorAll('.bd-article .scrolls')];
            const wait = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            for (const frame of frames.filter(f => f.checkVisibility() && f.scrollWidth > f.clientWidth + 1)) {
                const edges = frame.parentElement, name = frame.textContent.trim().slice(0, 30);
                const shadow = getComputedStyle(edges, '::after');
                const seen = parseFloat(shadow.width) > 10 && shadow.backgroundImage !== 'none';
                if (!edges.matches('.more-right') || !seen)
                    wrong.push(`${name}: nothing says that there is more at the right`);
                if (frame.tabIndex !== 0) wrong.push(`${name}: no key scrolls it`);
                const names = frame.querySelectorAll('tbody tr > :first-child:not([colspan]), tbody .heads');
                frame.scrollLeft = 1e4;
                await wait();
                if (edges.matches('.more-right')) wrong.push(`${name}: a shadow at its end`);
                if (!edges.matches('.more-left')) wrong.push(`${name}: nothing says that there is more at the left`);
                for (const one of names)
                    if (one.getBoundingClientRect().left < frame.getBoundingClientRect().left - 1)
                        wrong.push(`${name}: a name has gone`);
                frame.scrollLeft = 0;
            }
            const bare = [...document.querySelectorAll('.bd-article table')].filter(t => t.checkVisibility()
                && !t.closest('.scrolls') && t.getBoundingClientRect().right > innerWidth);
            return wrong.concat(bare.map(table => `${table.textContent.trim().slice(0, 30)}: cut off`));
        }"""
    )
    page.set_viewport_size(web.DESKTOP)
    assert not wrong, "\n".join(wrong)


def test_text_of_drawings_can_be_read_on_a_phone(visit):
    page = visit.page
    web.in_size(page, web.PHONE)
    small = page.evaluate(
        """() => [...document.querySelectorAll('.bd-article figure.drawing')].flatMap(figure => {
            if (figure.closest('.jupyter-widgets') || !figure.checkVisibility()) return [];
            const svg = figure.querySelector('svg');
            const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            const size = text => scale * parseFloat(getComputedStyle(text).fontSize);
            return [...svg.querySelectorAll('text')].map(text => [size(text), text.textContent]);
        }).filter(([size]) => size < 7.5)"""
    )
    page.set_viewport_size(web.DESKTOP)
    assert not small, small


def test_names_in_code_break_on_a_phone(visit):
    """A long call in a sentence goes on in the next line: what its box cuts off, nobody can read."""
    page = visit.page
    web.in_size(page, web.PHONE)
    cut = page.evaluate(
        """() => {
            const right = box => box.getBoundingClientRect().right;
            return [...document.querySelectorAll('.bd-article :is(p, li) code')]
                .filter(code => code.checkVisibility() && !code.closest('table'))
                .filter(code => right(code) > right(code.closest('p, li')) + 1)
                .map(code => code.textContent);
        }"""
    )
    page.set_viewport_size(web.DESKTOP)
    assert not cut, cut


def test_diagram_stands_where_there_is_no_room(visit):
    diagram = visit.page.locator('img[src$="two-paths.svg"]')
    if not diagram.count():
        return
    diagram.scroll_into_view_if_needed()
    lying = diagram.bounding_box()
    visit.page.set_viewport_size(web.PHONE)
    visit.page.wait_for_timeout(300)  # the other picture has come
    standing = diagram.bounding_box()
    visit.page.set_viewport_size(web.DESKTOP)
    assert lying["width"] > lying["height"]
    assert standing["height"] > 1.5 * standing["width"] > 400


def test_networks_stand_where_there_is_no_room(visit):
    page = visit.page
    if not page.locator(".lying").count():
        return
    shown = """() => ['.lying', '.upright'].filter(kind =>
        [...document.querySelectorAll(kind)].some(drawing => drawing.checkVisibility()))"""
    wide = page.evaluate(shown)
    page.set_viewport_size(web.PHONE)
    narrow = page.evaluate(shown)
    page.emulate_media(media="print")
    paper = page.evaluate(shown)
    page.emulate_media(media="screen")
    page.set_viewport_size(web.DESKTOP)
    assert (wide, narrow, paper) == ([".lying"], [".upright"], [".lying"])


def test_code_is_nowhere_cut_off(visit):
    """With everything open that opens; on a phone code scrolls, here it need not."""
    cut = visit.page.evaluate(
        """() => {
            const closed = [...document.querySelectorAll('.bd-article details:not([open])')];
            const folded = [...document.querySelectorAll('.bd-article .toggle-hidden')];
            closed.forEach(box => box.open = true);
            folded.forEach(box => box.classList.remove('toggle-hidden'));
            const cut = [...document.querySelectorAll('.bd-article :is(.highlight > pre, .cell_output)')]
                .filter(box => !box.checkVisibility() || box.scrollWidth > box.clientWidth + 1)
                .map(box => `${box.scrollWidth - box.clientWidth} px: ${box.textContent.trim().slice(0, 40)}`);
            closed.forEach(box => box.open = false);
            folded.forEach(box => box.classList.add('toggle-hidden'));
            return cut;
        }"""
    )
    assert not cut, "\n".join(cut)


def test_paper_is_light(visit):
    """Printed from dark mode, too: text, code and labels are dark on white; then the screen is dark again."""
    page = visit.page
    web.in_mode(page, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    pale = page.evaluate(
        """() => {
            const light = colour => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
                    .map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const labels = [...document.querySelectorAll('.bd-article svg text, .bd-article svg g[id^="text_"] use')];
            return labels.filter(label => label.checkVisibility() && !/none/.test(getComputedStyle(label).fill))
                .filter(label => 1.05 / (light(getComputedStyle(label).fill) + 0.05) < 3)
                .map(label => (label.textContent || label.parentElement.parentElement.id).slice(0, 40));
        }"""
    )
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    found = web.violations(page, "color-contrast")
    page.emulate_media(media="screen", color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert ground in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert not pale, "labels that vanish on paper"
    assert not found, found


def test_state_shows_in_forced_colours(visit):
    """Where the system replaces all backgrounds, bars and frames are still there, and what is chosen looks chosen."""
    page = visit.page
    web.in_mode(page, "light")
    page.emulate_media(forced_colors="active")
    like_page = page.evaluate(
        """() => {
            const seen = selector => [...document.querySelectorAll(selector)].filter(e => e.checkVisibility());
            const page = getComputedStyle(document.documentElement).backgroundColor;
            const filled = '.ql-bars td i:not(.e), .noUi-connect, .jupyter-button.mod-active';
            return seen(filled).filter(e => getComputedStyle(e).backgroundColor === page).map(e => e.className);
        }"""
    )
    wrong = page.evaluate(
        """() => {
            const page = getComputedStyle(document.documentElement).backgroundColor;
            const look = e => {
                const style = getComputedStyle(e);
                const line = kind => style[`${kind}Style`] === 'none' ? '' : style[`${kind}Color`];
                return [style.backgroundColor, line('outline'), line('borderTop')].join();
            };
            const radios = ['input:checked + *', 'input:not(:checked) + *'];
            const marks = {
                '.toy-choice, .start-digits, .lab-choice, .lab-tray': radios,
                '.zoom-trail': ['button[aria-current]', 'button:not([aria-current])'],
            };
            const groups = Object.entries(marks).flatMap(([where, pair]) => [...document.querySelectorAll(where)]
                .map(group => [group, ...pair.map(one => group.querySelector(one))]));
            const alike = groups.filter(([, on, off]) => on && off && look(on) === look(off));
            const frames = '.certificate input, .start-card, .lab-card, .toy';
            const bare = [...document.querySelectorAll(frames)].filter(e => {
                const { borderTopStyle, borderTopColor } = getComputedStyle(e);
                return borderTopStyle === 'none' || borderTopColor === page;
            });
            return [...alike.map(([group]) => `${group.className}, ${group.textContent.slice(0, 40)}: all alike`),
                ...bare.map(e => `${e.className || e.id}: no frame`)];
        }"""
    )
    page.emulate_media(forced_colors="none")
    assert not like_page
    assert not wrong, "\n".join(wrong)


def test_tab_reaches_everything_that_works(visit):
    page = visit.page
    page.evaluate(
        """() => {
            const article = document.querySelector('.bd-article');
            const kinds = 'a[href], button, input, select, summary, textarea, [tabindex="0"]';
            const works = e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true})
                && !(e.type === 'radio' && !e.checked) && !e.closest('[inert], .toggle-hidden .admonition-content');
            window.stops = [...article.querySelectorAll(kinds)].filter(works);
            window.reached = new Set();
            document.addEventListener('focusin', ({target}) => window.reached.add(target));
            article.tabIndex = -1;
            article.focus();
        }"""
    )
    missed = "() => stops.filter(stop => !reached.has(stop)).map(stop => stop.outerHTML.slice(0, 120))"
    for pressed in range(2 * page.evaluate("() => stops.length")):  # a browser may have stops of its own
        page.keyboard.press("Tab")
        if pressed % 10 == 9 and not page.evaluate(missed):
            break
    assert not page.evaluate(missed)


def test_every_slider_shows_the_right_picture(visit):
    """By key and by drag: what is visible afterwards is what the page's own data has for that position."""
    page, state = visit.page, WidgetState.of(visit.page)
    sliders = state.sliders()
    assert page.locator(".noUi-handle:visible").count() == len(sliders)
    for number, slider in enumerate(sliders):
        handle = page.locator(".noUi-handle:visible").nth(number)
        track = page.locator(".noUi-target:visible").nth(number)
        before = state.pictures()

        handle.focus()
        page.keyboard.press("ArrowRight")
        state.move(slider, state.position(slider) + 1)
        assert state.pictures() != before, f"slider {number} of {visit.name} is tied to no picture"
        state.expect_on(page)

        last = state.positions(slider) - 1
        for target in (last, last // 2):
            track.scroll_into_view_if_needed()
            grip, rail = handle.bounding_box(), track.bounding_box()
            middle = rail["y"] + rail["height"] / 2
            page.mouse.move(grip["x"] + grip["width"] / 2, middle)
            page.mouse.down()
            page.mouse.move(rail["x"] + rail["width"] * target / last, middle, steps=5)
            page.mouse.up()
            state.move(slider, target)
            state.expect_on(page)


def test_every_slider_says_its_value_and_what_came_of_it(visit):
    page = visit.page
    handles, readouts = page.locator(".noUi-handle:visible"), page.locator(".widget-readout:visible")
    for number in range(handles.count()):
        page.evaluate("() => document.getElementById('slider-result').textContent = ''")
        handles.nth(number).focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function(
            """number => {
                const seen = selector => [...document.querySelectorAll(selector)].filter(e => e.checkVisibility());
                const handle = seen('.noUi-handle')[number], readout = seen('.widget-readout')[number];
                return handle.getAttribute('aria-valuetext') === readout.textContent && handle.ariaLabel;
            }""",
            arg=number,
        )
        page.wait_for_function("() => document.getElementById('slider-result').textContent.length > 20")
        said = page.locator("#slider-result").text_content()
        assert said.split(". ")[0].endswith(readouts.nth(number).inner_text())
        assert "undefined" not in said, said
        page.evaluate("() => document.getElementById('slider-result').textContent = ''")
        for key in ("Control", "Tab"):  # nothing moves by them
            page.keyboard.press(key)
        if number == 0:
            page.wait_for_timeout(700)
            assert not page.locator("#slider-result").text_content()
    assert readouts.count() == handles.count()


def test_every_list_shows_the_right_picture(visit):
    page, state = visit.page, WidgetState.of(visit.page)
    lists = page.locator(".widget-dropdown select:visible")
    assert lists.count() == len(state.lists())
    if lists.count():
        page.reload(wait_until="load")
        web.settle(page)
    for number, choice in enumerate(state.lists()):
        for position in (state.positions(choice) - 1, 0):
            lists.nth(number).select_option(index=position)
            state.move(choice, position)
            state.expect_on(page)


def test_nothing_went_wrong_meanwhile(visit):
    """Last, so that it also covers what the tests above made the page do."""
    assert not visit.external, "the page asked another host"
    assert not visit.missing, "a file of the site is missing"
    assert not visit.errors, "the page's scripts failed"
