// Slides: each section of the page fills the screen, one at a time. A plain script, so that a page opened from a folder
// has it, too. Without it the page is an ordinary one; on paper each section is a sheet either way.

addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement;
  const slides = [...document.querySelectorAll(".bd-article > section > section")];
  const bar = document.getElementById("deck-bar"), place = document.getElementById("deck-place");
  const begin = document.getElementById("deck-start");
  let at = 0;
  for (const slide of slides) {
    slide.classList.add("slide");
    slide.querySelector("h2").tabIndex = -1; // takes the focus, so that a screen reader begins there
  }

  const running = () => root.classList.contains("deck");
  // Browsers refuse some addresses of pages that come from a folder: then a reload starts with the page, no more.
  const remember = (query) => {
    try {
      history.replaceState(history.state, "", `${location.pathname}${query}#${slides[at].id}`);
    } catch {}
  };

  function show(number) {
    at = Math.max(0, Math.min(slides.length - 1, number));
    slides.forEach((slide, i) => slide.classList.toggle("now", i === at));
    slides[at].append(bar);
    place.textContent = `${at + 1} of ${slides.length}`;
    document.getElementById("deck-back").disabled = at === 0;
    document.getElementById("deck-next").disabled = at === slides.length - 1;
    remember("?present");
    slides[at].scrollTop = 0;
    slides[at].querySelector("h2").focus({ preventScroll: true });
  }

  function present() {
    root.classList.add("deck");
    bar.hidden = false;
    show(at);
  }

  function leave() {
    if (!running()) return;
    root.classList.remove("deck");
    bar.hidden = true;
    if (document.fullscreenElement) document.exitFullscreen();
    remember("");
    slides[at].scrollIntoView();
    begin.focus({ preventScroll: true });
  }

  const keys = {
    ArrowRight: () => at + 1, PageDown: () => at + 1, " ": () => at + 1,
    ArrowLeft: () => at - 1, PageUp: () => at - 1,
    Home: () => 0, End: () => slides.length - 1,
  };
  // Keys of something on the slide, a slider or a picture that moves, stay with it.
  const isWorked = (target) => target.closest("input, select, textarea, button, a, summary, [tabindex='0'], [role='slider']");

  addEventListener("keydown", (event) => {
    if (!running() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return leave();
    if (!keys[event.key] || (isWorked(event.target) && !event.key.startsWith("Page"))) return;
    event.preventDefault();
    show(keys[event.key]());
  }, true); // before the theme's own, which keeps Escape to itself
  document.addEventListener("fullscreenchange", () => document.fullscreenElement || leave()); // the browser keeps Escape
  document.getElementById("deck-back").onclick = () => show(at - 1);
  document.getElementById("deck-next").onclick = () => show(at + 1);
  document.getElementById("deck-leave").onclick = leave;
  begin.onclick = () => {
    present();
    root.requestFullscreen?.().catch(() => {}); // where it is not allowed, the window will do
  };
  begin.disabled = false;

  at = Math.max(0, slides.findIndex(({ id }) => `#${id}` === location.hash));
  // Not before the browser has gone to the address's section itself, which takes the focus.
  if (new URLSearchParams(location.search).has("present")) addEventListener("load", present);
});
